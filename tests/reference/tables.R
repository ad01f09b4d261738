# Makes tables.json: what broom.mixed's tidy, glance and augment return for fits of lme4, and standard errors of standard
# deviations and correlations by the delta method from glmmTMB's covariance of all parameters (theta of an unstructured
# 2 x 2 covariance is log sd, log sd, t, with correlation t / sqrt(1 + t^2)).
#   cd tests/reference && Rscript tables.R
# theta and beta are recorded, so that everything can be compared where the searches ended; levels and rows are the first 12.
suppressMessages({library(lme4); library(lmerTest); library(broom.mixed); library(glmmTMB); library(jsonlite)})
frame <- function(d) lapply(as.list(as.data.frame(d)), function(x)
  I(if (is.matrix(x)) x[, 1] else if (is.factor(x)) as.character(x) else x))
tight <- list(xtol_abs = 1e-12, ftol_abs = 1e-12, maxeval = 1e5)
linear <- function(f, d, ...) lmerTest::lmer(f, d, control = lmerControl("nloptwrap", optCtrl = tight), ...)
general <- function(f, d, fam) lme4::glmer(f, d, fam, control = glmerControl("bobyqa", tolPwrss = 1e-13, optCtrl = list(rhoend = 1e-9, maxfun = 1e5)))
cake <- lme4::cake
ticks <- lme4::grouseticks
ticks$height <- (ticks$HEIGHT - mean(ticks$HEIGHT)) / 100
fits <- list(
  sleepstudy = linear(Reaction ~ Days + (Days | Subject), sleepstudy),
  cake = linear(angle ~ recipe * temperature + (1 | recipe:replicate), cake, REML = FALSE),
  cbpp = general(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial),
  grouseticks = general(TICKS ~ YEAR + height + (1 | BROOD) + (1 | LOCATION), ticks, poisson))
quiet <- suppressWarnings
by_fit <- lapply(fits, function(m) {
  linear <- is(m, "lmerMod")
  lme4s <- if (linear) as(m, "lmerMod") else m
  list(theta = I(unname(getME(m, "theta"))), beta = I(unname(fixef(m))),
    fixed = frame(tidy(lme4s, "fixed", conf.int = TRUE, conf.level = 0.9)),
    tested = if (linear) frame(tidy(m, "fixed", conf.int = TRUE, ddf.method = "Satterthwaite")),
    ratios = frame(tidy(lme4s, "fixed", conf.int = TRUE, exponentiate = TRUE)),
    ran_pars = frame(tidy(lme4s, "ran_pars")), vcov = frame(tidy(lme4s, "ran_pars", scales = "vcov")),
    ran_vals = frame(head(quiet(tidy(lme4s, "ran_vals", conf.int = TRUE)), 12)),
    ran_coefs = frame(head(quiet(tidy(lme4s, "ran_coefs")), 12)),
    glance = frame(quiet(glance(lme4s))),
    augment = frame(head(quiet(augment(lme4s)), 12)[c(".fitted", ".resid", ".fixed", ".mu", ".offset", ".weights", ".wtres")]))
})
profiled <- quiet(suppressMessages(tidy(as(fits$sleepstudy, "lmerMod"), "ran_pars", conf.int = TRUE, conf.method = "profile")))

m <- glmmTMB(Reaction ~ Days + (Days | Subject), sleepstudy, control = glmmTMBControl(
  optCtrl = list(rel.tol = 1e-15, x.tol = 1e-12, iter.max = 1e4, eval.max = 1e4)))
V <- vcov(m, full = TRUE)
theta <- getME(m, "theta")
se <- sqrt(diag(V))
last <- length(se) - 2:0
t <- theta[3]
delta <- list(sds = I(exp(theta[1:2])), cor = t / sqrt(1 + t^2), sigma = sigma(m), sd_errors = I(unname(exp(theta[1:2]) * se[last][1:2])),
  cor_error = unname(se[last][3] * (1 + t^2)^-1.5), sigma_error = NULL)
# glmmTMB 1.1.5 has 2 log sigma among its parameters, as betad.
delta$sigma_error <- unname(sigma(m) / 2 * se[grep("disp|d~", names(se))][1])
program <- sprintf("lme4 %s, lmerTest %s, broom.mixed %s, glmmTMB %s, %s", packageVersion("lme4"), packageVersion("lmerTest"),
  packageVersion("broom.mixed"), packageVersion("glmmTMB"), R.version.string)
writeLines(toJSON(list(program = program, script = "tables.R", fits = by_fit, profile = frame(profiled), delta = delta),
  digits = NA, auto_unbox = TRUE, na = "null", pretty = FALSE), "tables.json")
