# Makes predict_se.json: predictions of the linear predictor with standard errors by glmmTMB, whose sdreport has the joint
# uncertainty of all parameters and random effects, and averages over the random effects by integrate().
#   cd tests/reference && Rscript predict_se.R
# Each model is predicted on some of its own rows, on these rows with unseen levels, and without random effects.
suppressMessages({library(glmmTMB); library(jsonlite)})
num <- function(x) unname(as.numeric(x))
read_frame <- function(name) {
  meta <- fromJSON(file.path("data", paste0(name, ".json")), simplifyVector = FALSE)
  d <- read.csv(file.path("data", paste0(name, ".csv")), colClasses = "character")
  as.data.frame(mapply(function(x, m) switch(m$kind, factor = factor(x, unlist(m$levels), ordered = m$ordered),
    logical = x == "TRUE", integer = as.integer(x), as.numeric(x)), d, meta[names(d)], SIMPLIFY = FALSE))
}
control <- glmmTMBControl(optCtrl = list(rel.tol = 1e-15, x.tol = 1e-12, iter.max = 1e4, eval.max = 1e4))
cases <- list()
model <- function(id, data, d, formula, family, rows, new, average = FALSE, ...) {
  m <- glmmTMB(as.formula(formula), d, family = eval(parse(text = family)), control = control, ...)
  own <- d[rows, , drop = FALSE]
  other <- own
  for (v in new) other[[v]] <- factor(rep("unseen", length(rows)))
  link <- predict(m, newdata = own, se.fit = TRUE, type = "link")
  mean <- predict(m, newdata = own, se.fit = TRUE, type = "response")
  unseen <- suppressWarnings(predict(m, newdata = other, se.fit = TRUE, type = "link", allow.new.levels = TRUE))
  fixed <- predict(m, newdata = own, se.fit = TRUE, type = "link", re.form = NA)
  out <- list(id = id, program = paste("glmmTMB", packageVersion("glmmTMB"), R.version.string), data = data, formula = formula,
    family = family, rows = I(rows - 1), new = I(new), gradient = max(abs(m$obj$gr(m$fit$par))), logLik = num(logLik(m)),
    link = list(fit = num(link$fit), se = num(link$se.fit)), response = list(fit = num(mean$fit), se = num(mean$se.fit)),
    unseen = list(fit = num(unseen$fit), se = num(unseen$se.fit)))
  # With REML, glmmTMB counts the fixed effects among the random ones, and leaves them out as well.
  if (!isTRUE(list(...)$REML)) out$fixed <- list(fit = num(fixed$fit), se = num(fixed$se.fit))
  if (average) {  # one scalar term for each factor: b is one normal variable
    sd <- sqrt(sum(sapply(VarCorr(m)$cond, function(S) S[1, 1])))
    inverse <- m$modelInfo$family$linkinv
    out$average <- sapply(num(fixed$fit), function(e)
      integrate(function(z) inverse(e + sd * z) * dnorm(z), -12, 12, rel.tol = 1e-12, subdivisions = 1000)$value)
  }
  cat(id, out$gradient, "\n")
  cases[[length(cases) + 1]] <<- out
}
sleepstudy <- lme4::sleepstudy; Penicillin <- lme4::Penicillin; cbpp <- lme4::cbpp; grouseticks <- lme4::grouseticks
unbalanced <- read_frame("sleepstudy_unbalanced")
nested <- read_frame("nested"); crossed <- read_frame("crossed")
for (REML in c(FALSE, TRUE)) {
  reml <- if (REML) "_REML" else ""
  model(paste0("sleep", reml), "sleepstudy", sleepstudy, "Reaction ~ Days + (Days|Subject)", "gaussian()", c(1, 2, 3, 25, 180), "Subject", REML = REML)
  model(paste0("sleep_unbalanced", reml), "sleepstudy_unbalanced", unbalanced, "Reaction ~ Days + (Days|Subject)", "gaussian()", c(1, 2, 3, 25, 60), "Subject", REML = REML)
  model(paste0("penicillin", reml), "Penicillin", Penicillin, "diameter ~ 1 + (1|plate) + (1|sample)", "gaussian()", c(1, 8, 50, 144), "plate", REML = REML)
  model(paste0("nested", reml), "nested", nested, "y ~ x + (1|a/b)", "gaussian()", c(1, 5, 60), c("a", "b"), REML = REML)
  model(paste0("crossed", reml), "crossed", crossed, "y ~ x + f + (x|a) + (1|b)", "gaussian()", c(1, 5, 60, 100), "b", REML = REML)
}
model("cbpp", "cbpp", cbpp, "cbind(incidence, size - incidence) ~ period + (1|herd)", "binomial()", 1:6, "herd", TRUE)
model("cbpp_probit", "cbpp", cbpp, "cbind(incidence, size - incidence) ~ period + (1|herd)", "binomial('probit')", 1:6, "herd", TRUE)
model("cbpp_cloglog", "cbpp", cbpp, "cbind(incidence, size - incidence) ~ period + (1|herd)", "binomial('cloglog')", 1:6, "herd", TRUE)
Contraception <- mlmRev::Contraception
Contraception$ch <- factor(Contraception$livch != "0", labels = c("N", "Y"))
model("contraception", "Contraception", Contraception, "use ~ age + ch + urban + (urban|district)", "binomial()", c(1, 40, 500, 1900), "district")
model("grouseticks", "grouseticks", grouseticks, "TICKS ~ YEAR + scale(HEIGHT) + (1|BROOD) + (1|INDEX) + (1|LOCATION)", "poisson()", c(1, 50, 200, 403), c("BROOD", "LOCATION"), TRUE)
model("gamma_log", "gamma", read_frame("gamma"), "y ~ x + (1|g)", "Gamma('log')", c(1, 20, 40), "g", TRUE)
model("epil2", "epil2", read_frame("epil2"), "y ~ Base * trt + Age + Visit + (1|subject)", "nbinom2()", c(1, 50, 200), "subject")
model("gaussian_log", "glmm_scale", read_frame("glmm_scale"), "nlog ~ x + (1|g)", "gaussian('log')", c(1, 20, 40), "g", TRUE)
write_json(list(cases = cases), "predict_se.json", auto_unbox = TRUE, digits = NA, pretty = FALSE)
