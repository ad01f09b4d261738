# Fit one model with lme4 in a process of its own; measure.R says how to call this.
source("benchmarks/measure.R")

# At the defaults glmer() differentiates at the end, so that its standard errors are part of the
# time, and lmer() has them without.
run <- function() {
  if (family == "gaussian") return(lmer(formula, frame, REML = reml))
  glmer(formula, frame, family = eval(str2lang(family)), nAGQ = nAGQ)
}

measure(run, function(fit)
  c(length(getME(fit, "u")), length(getME(fit, "theta")), fit@optinfo$feval))
