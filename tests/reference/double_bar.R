# What glmmTMB makes of diagonal terms: (f || g) with a factor f is diag(f | g) there.
# Rscript double_bar.R, in this folder, writes double_bar.json.
suppressPackageStartupMessages({library(lme4); library(glmmTMB); library(jsonlite)})

data(cake, package = "lme4")
data(Machines, package = "nlme")
Machines$Machine <- factor(as.character(Machines$Machine))
Machines$Worker <- factor(as.character(Machines$Worker))
fit <- function(formula, data, REML) {
  control <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-14))
  m <- suppressWarnings(glmmTMB(formula, data, REML = REML, control = control))
  sd <- lapply(VarCorr(m)$cond, function(v) unname(attr(v, "stddev")))
  list(logLik = c(logLik(m)), npar = attr(logLik(m), "df"), beta = unname(fixef(m)$cond),
       sd = sd, sigma = sigma(m), version = as.character(packageVersion("glmmTMB")))
}
out <- list(
  cake = fit(angle ~ temp + diag(recipe | replicate), cake, TRUE),
  cake_ml = fit(angle ~ temp + diag(recipe | replicate), cake, FALSE),
  machines = fit(score ~ Machine + diag(0 + Machine | Worker), Machines, TRUE)
)
writeLines(toJSON(out, digits = NA, auto_unbox = TRUE, pretty = TRUE), "double_bar.json")
