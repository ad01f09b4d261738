# Fit one model with glmmTMB in a process of its own; measure.R says how to call this.
source("benchmarks/measure.R")

# Standard errors are part of every fit: glmmTMB() ends with TMB's sdreport().
run <- function() glmmTMB(formula, frame, family = eval(str2lang(family)), REML = reml)

measure(run, function(fit)
  c(ncol(getME(fit, "Z")), length(getME(fit, "theta")), fit$fit$evaluations[["function"]]))
