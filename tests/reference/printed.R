# Freezes what lme4 prints: summary() and VarCorr() of eight fits, one file each in printed/.
#   cd tests/reference && Rscript printed.R
suppressMessages({library(lme4); library(mlmRev)})
options(width = 80, digits = 7)
dir.create("printed", showWarnings = FALSE)
# Searches tighter than lme4's defaults, so that the printed digits are those of the optimum.
lmm <- lmerControl(optCtrl = list(xtol_abs = 1e-11, ftol_abs = 1e-11, maxeval = 1e5))
glmm <- glmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 2e5, rhoend = 1e-9), tolPwrss = 1e-12)
# The printed call is that of a plain fit.
plain <- function(m, data) { m@call$control <- NULL; m@call$data <- substitute(data, parent.frame()); m }
lmer <- function(formula, data, ...) plain(lme4::lmer(formula, data, ..., control = lmm), data)
glmer <- function(formula, data, ...) plain(lme4::glmer(formula, data, ..., control = glmm), data)
fits <- list(
  sleep_reml = lmer(Reaction ~ Days + (Days | Subject), sleepstudy),
  sleep_ml = lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE),
  pastes_nested = lmer(strength ~ 1 + (1 | batch/cask), Pastes),
  dyestuff2_singular = lmer(Yield ~ 1 + (1 | Batch), Dyestuff2, REML = FALSE),
  cake_interaction = lmer(angle ~ recipe * temperature + (1 | recipe:replicate), cake),
  penicillin = lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin),
  cbpp_laplace = glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial),
  contraception_slope = glmer(use ~ age + urban + livch + (urban | district), Contraception, binomial))
for (nm in names(fits)) {
  writeLines(capture.output(print(summary(fits[[nm]]))), file.path("printed", paste0(nm, ".summary.txt")))
  writeLines(capture.output(print(VarCorr(fits[[nm]]))), file.path("printed", paste0(nm, ".VarCorr.txt")))
}
writeLines(paste("lme4", packageVersion("lme4"), R.version.string), "printed/PROGRAM.txt")
