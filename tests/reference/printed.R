# Freezes what lme4 prints: summary() and VarCorr() of eight fits, one file each in printed/.
#   cd tests/reference && Rscript printed.R
source("fit_record.R")
suppressMessages(library(mlmRev))
options(width = 80, digits = 7)
dir.create("printed", showWarnings = FALSE)
# Fits brought to the optimum by Newton steps, so that the printed digits are right: at its defaults lme4 prints
# 612.10 and 24.741 for the intercepts of sleep_reml, whose optimum is 612.090 and 24.7405.
lmer <- function(formula, data, REML = TRUE) {
  name <- deparse(substitute(data))
  m <- fit_case(list(formula = deparse(formula), data = name, REML = REML), setNames(list(data), name))
  m@call <- as.call(list(quote(lmer), formula = formula, data = as.name(name)))
  m
}
glmm <- glmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 2e5, rhoend = 1e-9), tolPwrss = 1e-12)
glmer <- function(formula, data, family) {
  m <- lme4::glmer(formula, data, family, control = glmm)
  m@call$control <- NULL
  m@call$data <- substitute(data)
  m
}
fits <- list(
  sleep_reml = lmer(Reaction ~ Days + (Days | Subject), sleepstudy),
  sleep_ml = lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE),
  pastes_nested = lmer(strength ~ 1 + (1 | batch/cask), Pastes),
  # A plain fit, for the message below it; theta is exactly 0.
  dyestuff2_singular = lme4::lmer(Yield ~ 1 + (1 | Batch), Dyestuff2, REML = FALSE),
  cake_interaction = lmer(angle ~ recipe * temperature + (1 | recipe:replicate), cake),
  penicillin = lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin),
  cbpp_laplace = glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial),
  contraception_slope = glmer(use ~ age + urban + livch + (urban | district), Contraception, binomial))
for (nm in names(fits)) {
  writeLines(capture.output(print(summary(fits[[nm]]))), file.path("printed", paste0(nm, ".summary.txt")))
  writeLines(capture.output(print(VarCorr(fits[[nm]]))), file.path("printed", paste0(nm, ".VarCorr.txt")))
}
writeLines(paste("lme4", packageVersion("lme4"), R.version.string), "printed/PROGRAM.txt")
