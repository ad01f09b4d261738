# Makes getme.json: every piece that lme4's getME returns, of linear and generalized models with weights, offsets and
# several terms. An array (m, k) is recorded by its shape, its sum, its sum of squares and the sum of
# cos(i) sin(j) times its entries, i and j counted from 1, which tells every order from another.
#   cd tests/reference && Rscript getme.R
source("fit_record.R")
cbpp$size2 <- cbpp$size
sleepstudy$w <- rep(c(1, 2), 90); sleepstudy$o <- sleepstudy$Days / 2; sleepstudy$h <- factor(seq_len(180) %% 7)
grouseticks$o <- log(1 + as.integer(grouseticks$HEIGHT) %% 3)
set.seed(3)
gam <- data.frame(g = factor(rep(1:20, each = 6)), x = round(rnorm(120), 2)); gam$w <- rep(c(1, 2, 3), 40)
gam$y <- round(rgamma(120, 4, 4 / exp(1 + .3 * gam$x + rnorm(20, 0, .4)[gam$g])), 3)
frames <- list(sleepstudy = sleepstudy, cbpp = cbpp, grouseticks = grouseticks)
cases <- list(
  list(id = "slope", data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)", REML = TRUE),
  list(id = "weights", data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)", REML = TRUE, weights = "w"),
  list(id = "several", data = "sleepstudy", formula = "Reaction ~ Days + (1 | h) + (Days | Subject)", REML = FALSE, weights = "w", offset = "o"),
  list(id = "uncorrelated", data = "sleepstudy", formula = "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", REML = FALSE, offset = "o"),
  list(id = "cbpp", data = "cbpp", formula = "incidence / size ~ period + (1 | herd)", family = "binomial", weights = "size"),
  list(id = "ticks", data = "grouseticks", formula = "TICKS ~ YEAR + (1 | BROOD) + (1 | LOCATION)", family = "poisson", offset = "o"))
dense <- function(x) {
  M <- as.matrix(x)
  list(shape = I(if (is.null(dim(x))) length(x) else dim(x)), sum = sum(M), squares = sum(M^2),
    mixed = sum(outer(cos(seq_len(nrow(M))), sin(seq_len(ncol(M)))) * M))
}
one <- function(cs) {
  m <- if (is.null(cs$family)) fit_case(cs, frames) else {
    d <- frames[[cs$data]]
    a <- list(as.formula(cs$formula), d, cs$family, control = glmerControl(optimizer = "bobyqa", tolPwrss = 1e-13,
      optCtrl = list(rhobeg = 2e-3, rhoend = 1e-9, maxfun = 1e5)))
    if (!is.null(cs$weights)) a$weights <- d[[cs$weights]]
    if (!is.null(cs$offset)) a$offset <- d[[cs$offset]]
    do.call(glmer, a)
  }
  g <- function(name) getME(m, name)
  out <- cs
  out$arrays <- sapply(c("X", "Z", "Zt", "y", "mu", "u", "b", "Lambda", "Lambdat", "A", "fixef", "beta", "theta", "offset"),
    function(name) dense(g(name)), simplify = FALSE)
  # The order of L is CHOLMOD's own; RX is a triangle with positive diagonal or not.
  L <- as(g("L"), "sparseMatrix")
  out$L <- list(shape = I(dim(L)), logdet = 2 * sum(log(diag(L))))
  out$RZX <- dense(crossprod(g("RZX"))); out$RX <- dense(crossprod(g("RX")))
  out$lists <- list(Ztlist = lapply(unname(g("Ztlist")), dense), mmList = lapply(unname(g("mmList")), dense), Tlist = lapply(unname(g("Tlist")), dense),
    ST = lapply(unname(g("ST")), dense))
  out$names <- list(Ztlist = I(names(g("Ztlist"))), mmList = I(names(g("mmList"))), flist = I(names(g("flist"))), cnms = I(names(g("cnms"))),
    Tlist = I(names(g("Tlist"))), ST = I(names(g("ST"))), theta = I(names(g("theta"))), fixef = I(names(g("fixef"))))
  out$cnms <- lapply(unname(g("cnms")), I)
  out$vectors <- sapply(c("Gp", "Tp", "Lind", "lower", "p_i", "l_i", "q_i", "m_i"), function(name) I(unname(as.numeric(g(name)))), simplify = FALSE)
  out$numbers <- sapply(c("sigma", "REML", "is_REML", "n_rtrms", "n_rfacs", "N", "n", "p", "q", "k", "m"), function(name) as.numeric(g(name)), simplify = FALSE)
  out$devcomp <- lapply(g("devcomp"), function(x) as.list(x[!is.na(x)]))
  out$devfun <- g("devfun")(if (is.null(cs$family)) g("theta") else c(g("theta"), g("beta")))
  out$all <- I(setdiff(names(getME(m, "ALL")), "devfun"))
  out$working <- if (!is.null(cs$family)) sum(weights(m, "working"))
  cat(cs$id, "\n")
  out
}
write_json_file(list(program = program(), script = "getme.R", cases = lapply(cases, one)), "getme.json")
