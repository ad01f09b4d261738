# Row means and variances of responses that lme4 simulates, for tests/test_simulate.py.
# Run in this directory: Rscript simulate.R (R 4.2.2, lme4 1.1-31).
# Draws differ from program to program; their moments have to agree within Monte Carlo error.
suppressMessages({library(lme4); library(jsonlite)})
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12))
nsim <- 20000L

moments <- function(fit, rows, seed, ...) {
  y <- simulate(fit, nsim = nsim, seed = seed, ...)
  y <- sapply(y, function(v) if (is.matrix(v)) v[, 1] else as.numeric(v))[rows, ]
  list(mean = rowMeans(y), var = apply(y, 1, var))
}

sleep <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, control = tight)
cbpp1 <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial)
ticks <- glmer(TICKS ~ YEAR + (1 | BROOD) + (1 | LOCATION), grouseticks, poisson)
first <- 1:12

out <- list(
  versions = list(R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4"))),
  nsim = nsim,
  sleepstudy = list(
    new = moments(sleep, first, 1),
    held = moments(sleep, first, 2, re.form = NULL),
    sigma = moments(sleep, first, 3, newparams = list(
      theta = getME(sleep, "theta"), beta = fixef(sleep), sigma = 50))
  ),
  cbpp = list(new = moments(cbpp1, first, 4), held = moments(cbpp1, first, 5, re.form = NULL)),
  grouseticks = list(new = moments(ticks, first, 6), held = moments(ticks, first, 7, re.form = NULL))
)
write_json(out, "simulate.json", digits = 10, auto_unbox = TRUE, pretty = TRUE)
