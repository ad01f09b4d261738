# Makes rlrsim.json: exact restricted likelihood-ratio tests by RLRsim, with a million draws each.
#   cd tests/reference && Rscript rlrsim.R
# The statistic is from lme4 at a tight optimum; of the draws quantiles and the share of zeros are kept. Weights, which
# exactRLRT does not look at, enter through the rows of X and Z, multiplied by their roots.
suppressMessages({library(lme4); library(RLRsim); library(jsonlite)})
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12, maxeval = 1e5))
num <- function(x) unname(as.numeric(x))
nsim <- 1e6
data <- list(sleepstudy = lme4::sleepstudy, Dyestuff = lme4::Dyestuff, Dyestuff2 = lme4::Dyestuff2, Penicillin = lme4::Penicillin,
             Pastes = lme4::Pastes, cake = lme4::cake)
data$sleepstudy_w <- transform(lme4::sleepstudy, w = rep(c(1, 2, 0.5), 60))
# Rows 0, 7, 14, ... and the last 30 of the first 60 are dropped.
data$unbalanced <- local({ d <- lme4::sleepstudy; droplevels(d[!((seq_len(180) - 1) %% 7 == 0 | (seq_len(180) %in% 31:60)), ]) })
crit <- function(m) if (inherits(m, "lm")) -2 * as.numeric(logLik(m, REML = TRUE)) else -2 * as.numeric(logLik(m))
test <- function(id, frame, fixed, term, others = character(0), weights = NULL) {
  d <- data[[frame]]
  w <- if (is.null(weights)) rep(1, nrow(d)) else d[[weights]]
  d$.w <- w
  fit <- function(terms) {
    f <- as.formula(paste(c(fixed, terms), collapse = " + "))
    if (length(terms)) suppressMessages(lmer(f, d, weights = .w, control = tight)) else lm(f, d, weights = .w)
  }
  alone <- fit(term)
  X <- getME(alone, "X") * sqrt(w); Z <- t(as.matrix(getME(alone, "Zt"))) * sqrt(w)
  sims <- RLRTSim(X, Z, qrX = qr(X), sqrt.Sigma = diag(ncol(Z)), seed = 20, nsim = nsim)
  statistic <- crit(fit(others)) - crit(fit(c(term, others)))
  list(id = id, data = frame, formula = paste(c(fixed, term, others), collapse = " + "), term = term, weights = weights,
       statistic = statistic, p_value = mean(sims >= statistic), p_zero = mean(sims == 0), levels = I(c(0.75, 0.9, 0.95, 0.99)),
       quantiles = I(num(quantile(sims, c(0.75, 0.9, 0.95, 0.99)))), nsim = nsim)
}
cases <- list(
  test("sleep", "sleepstudy", "Reaction ~ Days", "(1 | Subject)"),
  test("sleep_slopes", "sleepstudy", "Reaction ~ Days", "(0 + Days | Subject)"),
  test("sleep_weights", "sleepstudy_w", "Reaction ~ Days", "(1 | Subject)", weights = "w"),
  test("unbalanced", "unbalanced", "Reaction ~ Days", "(1 | Subject)"),
  test("unbalanced_slopes", "unbalanced", "Reaction ~ Days", "(0 + Days | Subject)", "(1 | Subject)"),
  test("dyestuff", "Dyestuff", "Yield ~ 1", "(1 | Batch)"),
  test("dyestuff2", "Dyestuff2", "Yield ~ 1", "(1 | Batch)"),
  test("cake", "cake", "angle ~ recipe * temperature", "(1 | recipe:replicate)"),
  test("cake_replicate", "cake", "angle ~ recipe * temperature", "(1 | replicate)", "(1 | recipe:replicate)"),
  test("penicillin_plate", "Penicillin", "diameter ~ 1", "(1 | plate)", "(1 | sample)"),
  test("penicillin_sample", "Penicillin", "diameter ~ 1", "(1 | sample)", "(1 | plate)"),
  test("pastes_batch", "Pastes", "strength ~ 1", "(1 | batch)", "(1 | sample)"))
writeLines(toJSON(list(program = paste("RLRsim", packageVersion("RLRsim"), "lme4", packageVersion("lme4"), R.version.string),
                       script = "rlrsim.R", cases = cases), auto_unbox = TRUE, digits = NA, pretty = TRUE, null = "null"), "rlrsim.json")
