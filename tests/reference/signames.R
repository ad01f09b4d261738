# Makes signames.json: the names of parameters in lme4's intervals, old (.sig01, ...) beside new, of models with vector
# terms, and profile intervals of two of them.
#   cd tests/reference && Rscript signames.R
suppressMessages({library(lme4); library(jsonlite)})
cake$block <- factor(as.integer(cake$replicate) %% 5)
models <- list(
  slope = list(formula = "Reaction ~ Days + (Days | Subject)", data = "sleepstudy", profile = TRUE),
  curve = list(formula = "Reaction ~ Days + (Days + I(Days^2) | Subject)", data = "sleepstudy", profile = FALSE),
  several = list(formula = "angle ~ temp + (1 | block) + (temp | recipe:replicate) + (0 + temp | recipe)", data = "cake", profile = FALSE),
  uncorrelated = list(formula = "Reaction ~ Days + (Days || Subject)", data = "sleepstudy", profile = FALSE))
one <- function(m) {
  # The names need no optimum.
  fit <- suppressWarnings(suppressMessages(lmer(as.formula(m$formula), get(m$data), REML = FALSE)))
  old <- rownames(suppressWarnings(confint(fit, method = "Wald")))
  new <- rownames(suppressWarnings(confint(fit, method = "Wald", oldNames = FALSE)))
  out <- c(m, list(signs = I(old), names = I(new)))
  if (m$profile) { ci <- suppressMessages(confint(fit)); out$lower <- I(unname(ci[, 1])); out$upper <- I(unname(ci[, 2])) }
  out
}
writeLines(toJSON(list(program = paste("lme4", packageVersion("lme4"), R.version.string), script = "signames.R", cases = lapply(models, one)),
  auto_unbox = TRUE, digits = NA, pretty = 1), "signames.json")
