# Freezes what lme4 prints of generalized linear mixed models: summary(), print() and VarCorr(), one file each in
# printed_glmm/, at parameters that glmm_record.R brought to the optimum.
#   cd tests/reference && Rscript glmm_printed.R
# gamma (not maximum likelihood in lme4) and negative_binomial (expected weights) are of use for the layout.
source("glmm_record.R")
suppressMessages(library(mlmRev))
options(width = 80, digits = 7)
data(Contraception, package = "mlmRev")
Contraception$ch <- factor(ifelse(Contraception$livch == "0", "N", "Y"))
cbpp <- lme4::cbpp; grouseticks <- lme4::grouseticks
gamma <- read.csv("data/gamma.csv"); gamma$g <- factor(gamma$g)
singular <- read.csv("data/glmm_singular.csv"); singular$g <- factor(singular$g, unique(singular$g))
frames <- list(cbpp = cbpp, grouseticks = grouseticks, Contraception = Contraception, singular = singular)
fit <- function(data, formula, family, nAGQ = 1) {
  m <- attr(glmm_case(list(id = data, data = data, formula = formula, family = family, nAGQ = nAGQ), frames), "fit")
  call <- list(quote(glmer), formula = as.formula(formula), data = as.name(data), family = parse(text = family)[[1]])
  if (nAGQ != 1) call$nAGQ <- nAGQ
  m@call <- as.call(call)
  m
}
plain <- function(m, data, family = NULL) { m@call$control <- NULL; m@call$data <- as.name(data); if (!is.null(family)) m@call$family <- family; m@optinfo$conv$lme4 <- list(); m }
loose <- glmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e5, rhoend = 1e-9), tolPwrss = 1e-12)
fits <- list(
  cbpp_laplace = fit("cbpp", "cbind(incidence, size - incidence) ~ period + (1|herd)", "binomial"),
  cbpp_agq9 = fit("cbpp", "cbind(incidence, size - incidence) ~ period + (1|herd)", "binomial", 9),
  cbpp_agq0 = fit("cbpp", "cbind(incidence, size - incidence) ~ period + (1|herd)", "binomial", 0),
  cbpp_probit = fit("cbpp", "cbind(incidence, size - incidence) ~ period + (1|herd)", "binomial('probit')"),
  grouseticks = fit("grouseticks", "TICKS ~ YEAR + HEIGHT + (1|BROOD) + (1|INDEX) + (1|LOCATION)", "poisson"),
  contra_cm4 = fit("Contraception", "use ~ age*ch + I(age^2) + urban + (urban|district)", "binomial"),
  singular = fit("singular", "cbind(up, n - up) ~ x + (x|g)", "binomial"),
  gamma = plain(lme4::glmer(y ~ x + (1|g), gamma, Gamma("log"), control = loose), "gamma", quote(Gamma("log"))),
  negative_binomial = plain(lme4::glmer.nb(TICKS ~ YEAR + (1|BROOD) + (1|LOCATION), grouseticks, control = loose), "grouseticks"))
dir.create("printed_glmm", showWarnings = FALSE)
for (nm in names(fits)) {
  save <- function(x, what) writeLines(capture.output(print(x)), file.path("printed_glmm", paste0(nm, ".", what, ".txt")))
  save(summary(fits[[nm]]), "summary"); save(fits[[nm]], "print"); save(VarCorr(fits[[nm]]), "VarCorr")
}
writeLines(paste("lme4", packageVersion("lme4"), R.version.string), "printed_glmm/PROGRAM.txt")
