# Makes fit_object.json: what lme4's methods return for five linear mixed models, in full.
#   cd tests/reference && Rscript fit_object.R
# sleepstudy_w12 has weights 1 and 2 in turn; vector.csv is that of more_lmm.R. theta is recorded, so that
# everything can be compared where lme4's search ended.
source("fit_record.R")
read_frame <- function(name) {
  meta <- fromJSON(file.path("data", paste0(name, ".json")), simplifyVector = FALSE)
  d <- read.csv(file.path("data", paste0(name, ".csv")), colClasses = "character")
  as.data.frame(mapply(function(x, m) switch(m$kind, factor = factor(x, unlist(m$levels), ordered = m$ordered),
    logical = x == "TRUE", integer = as.integer(x), as.numeric(x)), d, meta[names(d)], SIMPLIFY = FALSE))
}
frames <- list(sleepstudy = lme4::sleepstudy, sleepstudy_w12 = read_frame("sleepstudy_w12"), Penicillin = lme4::Penicillin,
  vector = read_frame("vector"), nested = read_frame("nested"))
L <- function(id, data, formula, REML = TRUE, weights = NULL) list(id = id, data = data, formula = formula, REML = REML, weights = weights)
cases <- list(
  L("sleep", "sleepstudy", "Reaction ~ Days + (Days|Subject)"),
  L("sleep_weights", "sleepstudy_w12", "Reaction ~ Days + (Days|Subject)", FALSE, "w"),
  L("penicillin", "Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)"),
  L("two_terms", "vector", "y ~ x + z + (1+x|g) + (0+z|g)"),
  L("nested", "nested", "y ~ x + (x|a) + (1|a:b)", FALSE))

by_rows <- function(m) { m <- as.matrix(m); lapply(seq_len(nrow(m)), function(i) I(num(m[i, ]))) }
frame <- function(d) lapply(as.list(d), function(x) I(if (is.factor(x)) as.character(x) else x))
fits <- lapply(cases, function(cs) {
  m <- fit_case(cs, frames)
  g <- function(name) getME(m, name)
  re <- as.data.frame(ranef(m, condVar = TRUE))
  residuals_of <- function(scaled) sapply(c("response", "pearson", "deviance", "working"), simplify = FALSE,
    FUN = function(type) I(head(num(residuals(m, type, scaled = scaled)), 8)))
  s <- summary(rePCA(m))
  c(cs, list(theta = I(num(g("theta"))), ranef = frame(re), vcov = by_rows(vcov(m)),
    cov_last = frame(as.data.frame(VarCorr(m))), lower_tri = frame(as.data.frame(VarCorr(m), order = "lower.tri")),
    pca_sdev = lapply(rePCA(m), function(x) I(num(x$sdev))), pca_importance = lapply(s, function(x) by_rows(x$importance)),
    residuals = residuals_of(FALSE), scaled = residuals_of(TRUE), fitted = I(head(num(fitted(m)), 8)), ngrps = as.list(ngrps(m)),
    deviance = suppressWarnings(deviance(m, REML = FALSE)), cmp = as.list(g("devcomp")$cmp), dims = as.list(g("devcomp")$dims),
    X = by_rows(head(g("X"), 8)), X_names = I(colnames(g("X"))), Zt = by_rows(g("Zt")), Lambda = by_rows(g("Lambda")),
    Lind = I(g("Lind")), u = I(num(g("u"))), b = I(num(g("b"))), mu = I(head(num(g("mu")), 8)), RX = by_rows(g("RX")),
    Gp = I(g("Gp")), lower = I(num(g("lower"))), cnms = lapply(seq_along(g("cnms")), function(i) list(group = names(g("cnms"))[i],
    columns = I(g("cnms")[[i]]))), flist = I(names(g("flist"))), flist_head = lapply(g("flist"), function(f) I(head(as.character(f), 8))),
    p_i = I(num(g("p_i"))), l_i = I(num(g("l_i"))), q_i = I(num(g("q_i"))), m_i = I(num(g("m_i"))), k = g("k"), m = g("m"),
    N = num(g("N")), n = num(g("n")), p = num(g("p")), q = num(g("q")), n_rtrms = num(g("n_rtrms")), n_rfacs = num(g("n_rfacs")),
    is_REML = g("is_REML"), Tlist = lapply(unname(g("Tlist")), by_rows), RZX_crossprod = by_rows(crossprod(g("RZX"))),
    A_norm = sqrt(sum(g("A")^2)), coef = lapply(unclass(coef(m)), labelled)))
})
write_json_file(list(program = program(), script = "fit_object.R", cases = fits), "fit_object.json")
