# Generalized fits whose units, information or ends are out of the ordinary, by glmmTMB and lme4.
#
#   Rscript glmm_ends.R
#
# writes glmm_ends.json beside it: simulated data, and log-likelihoods, coefficients and standard errors.
# glmmTMB fits no inverse link where the response is 1000 times as large (its standard errors are NaN): the
# reference is in units of 1, and other units have to agree with it.

suppressPackageStartupMessages({
  library(glmmTMB)
  library(lme4)
  library(jsonlite)
})

set.seed(3)
groups <- 12
g <- rep(seq_len(groups), each = 20)
x <- rep(0:1, 120)
mu <- exp(0.3 * rnorm(groups)[g] + 0.3 * x)
unit <- data.frame(g = g, x = x, p = rgamma(240, 9, 9 / mu), z = mu + 0.25 * mean(mu) * rnorm(240))
# Means far from zero for the identity link.
mean_far <- 20 + 3 * rnorm(groups)[g] + x
unit$q <- rgamma(240, 9, 9 / mean_far)
unit$n <- rnbinom(240, mu = mean_far, size = 5)
unit$few <- rbinom(240, 10, 0.3)

binary <- data.frame(g = rep(1:100, each = 7), x = rnorm(700))
binary$y <- rbinom(700, 1, plogis(binary$x + 4 * rnorm(100)[binary$g]))

by_tmb <- function(formula, data, family, ...) {
  fit <- glmmTMB(formula, data, family, ...)
  list(
    loglik = as.numeric(logLik(fit)),
    beta = unname(fixef(fit)$cond),
    se = unname(sqrt(diag(vcov(fit)$cond))),
    sd = unname(attr(VarCorr(fit)$cond[[1]], "stddev"))
  )
}

by_lme4 <- function(formula, data, nAGQ) {
  fit <- glmer(formula, data, binomial, nAGQ = nAGQ, control = glmerControl(optimizer = "bobyqa", tolPwrss = 1e-12))
  list(loglik = as.numeric(logLik(fit)), beta = unname(fixef(fit)), sd = unname(getME(fit, "theta")))
}

shares <- transform(cbpp, y = incidence / size, one = 1)
results <- list(
  versions = list(glmmTMB = as.character(packageVersion("glmmTMB")), lme4 = as.character(packageVersion("lme4"))),
  unit = unit,
  binary = binary,
  fits = list(
    "Gamma(inverse)" = by_tmb(p ~ x + (1 | g), unit, Gamma("inverse")),
    "gaussian(inverse)" = by_tmb(z ~ x + (1 | g), unit, gaussian("inverse")),
    "Gamma(identity)" = by_tmb(q ~ x + (1 | g), unit, Gamma("identity")),
    "nbinom2(identity)" = by_tmb(n ~ x + (1 | g), unit, nbinom2("identity"))
  ),
  shares = list(
    none = as.numeric(logLik(suppressWarnings(glmmTMB(y ~ period + (1 | herd), shares, binomial)))),
    ones = as.numeric(logLik(suppressWarnings(glmmTMB(y ~ period + (1 | herd), shares, binomial, weights = one))))
  ),
  laplace = by_lme4(y ~ x + (1 | g), binary, 1),
  quadrature = by_lme4(y ~ x + (1 | g), binary, 25),
  poisson = as.numeric(logLik(suppressMessages(glmer(few ~ x + (1 | g), unit, poisson))))
)
write(toJSON(results, digits = NA, auto_unbox = TRUE, dataframe = "columns"), "glmm_ends.json")
