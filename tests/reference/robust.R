# Makes robust.json: cluster-robust covariances of lmer fits by clubSandwich, with Satterthwaite's degrees of freedom of
# every coefficient, its confidence limits, and HTZ tests; and of one lme fit with prior weights, which it refuses of lmer.
#   cd tests/reference && Rscript robust.R
source("fit_record.R")
source("read_data.R")
suppressMessages({library(clubSandwich); library(nlme)})


TYPES <- c("CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3")
frames <- list(sleepstudy = lme4::sleepstudy, cake = lme4::cake, Machines = read_data("Machines", "data"), nested = read_data("nested", "data"),
  sleepstudy_unbalanced = read_data("sleepstudy_unbalanced", "data"), classroom = read_data("classroom", "data"))
C <- function(id, data, formula, REML = TRUE, cluster = NULL, types = TYPES, ...) list(id = id, data = data, formula = formula, REML = REML, cluster = cluster, types = types, ...)
cases <- list(
  C("sleepstudy", "sleepstudy", "Reaction ~ Days + (Days | Subject)"),
  C("sleepstudy_ml", "sleepstudy", "Reaction ~ Days + (Days | Subject)", REML = FALSE),
  C("intercepts", "sleepstudy", "Reaction ~ Days + I(Days^2) + (1 | Subject)"),
  C("unbalanced", "sleepstudy_unbalanced", "Reaction ~ Days + I(Days^2) + (Days | Subject)"),
  C("unbalanced_ml", "sleepstudy_unbalanced", "Reaction ~ Days + I(Days^2) + (1 | Subject)", REML = FALSE),
  C("cake", "cake", "angle ~ recipe * temperature + (1 | recipe:replicate)"),
  C("cake_by_replicate", "cake", "angle ~ recipe + temp + (1 | recipe:replicate)", cluster = "replicate"),
  C("machines", "Machines", "score ~ Machine + (Machine | Worker)", types = c("CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3")),
  C("machines_nested", "Machines", "score ~ Machine + (1 | Worker / Machine)"),
  C("nested", "nested", "y ~ x * c + (x | a) + (1 | a:b)"),
  C("classroom", "classroom", "mathgain ~ mathkind + ses + minority + housepov + (1 | schoolid / classid)"))

outer_of <- function(m) names(which.min(sapply(getME(m, "flist"), nlevels)))
tests_of <- function(m, d, cluster, types) {
  p <- length(fixef(m)); e <- diag(p)
  Ls <- list(e[-1, , drop = FALSE], e[p - 1:0, , drop = FALSE], e[1:2, ] + e[c(2, p), ])
  lapply(setNames(types, types), function(type) {
    V <- vcovCR(m, cluster = cluster, type = type)
    ci <- conf_int(m, vcov = V, level = 0.9)
    list(vcov = lapply(seq_len(p), function(i) I(num(V[i, ]))), df = I(num(coef_test(m, vcov = V)$df_Satt)),
      lower = I(num(ci$CI_L)), upper = I(num(ci$CI_U)),
      htz = lapply(Ls, function(L) { w <- Wald_test(m, constraints = L, vcov = V, test = "HTZ")
        list(L = lapply(seq_len(nrow(L)), function(i) I(L[i, ])), F = num(w$Fstat), num_df = num(w$df_num), den_df = num(w$df_denom), p = num(w$p_val)) }))
  })
}
one <- function(cs) {
  m <- fit_case(cs, frames); d <- frames[[cs$data]]
  m@call[[1]] <- quote(lme4::lmer)
  cat(cs$id, isSingular(m), "\n")
  cluster <- if (is.null(cs$cluster)) getME(m, "flist")[[outer_of(m)]] else d[[cs$cluster]]
  c(cs[setdiff(names(cs), "types")], list(theta = I(num(getME(m, "theta"))), results = tests_of(m, d, cluster, cs$types)))
}
d <- frames$sleepstudy_unbalanced
d$w <- 1 + d$Days %% 3
lme_fit <- lme(Reaction ~ Days + I(Days^2), random = ~ 1 | Subject, weights = varFixed(~ 1 / w), data = d,
  control = lmeControl(msTol = 1e-12, tolerance = 1e-12, msMaxIter = 500, opt = "optim", reltol = 1e-14))
fixef <- function(m) if (inherits(m, "lme")) nlme::fixef(m) else lme4::fixef(m)
weighted <- list(id = "weighted", data = "sleepstudy_unbalanced", formula = "Reaction ~ Days + I(Days^2) + (1 | Subject)",
  theta = I(num(as.numeric(VarCorr(lme_fit)[1, "StdDev"]) / lme_fit$sigma)), weights = "1 + Days %% 3",
  results = tests_of(lme_fit, d, d$Subject, TYPES))
write_json_file(list(program = paste("clubSandwich", packageVersion("clubSandwich"), "nlme", packageVersion("nlme"), program()), script = "robust.R",
  cases = lapply(cases, one), weighted = weighted), "robust.json")
