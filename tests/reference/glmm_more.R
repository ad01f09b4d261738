# Makes glmm_more.json and its data: lme4's fits of binomial and Poisson models, brought to the optimum of the same
# criterion by glmm_record.R; and a few with quadrature over vector-valued terms, which lme4 does not offer.
#   cd tests/reference && Rscript glmm_more.R
source("glmm_record.R")
suppressMessages({library(mlmRev); library(MASS)})
r4 <- function(x) round(x, 4)
fac <- function(k, n, prefix) factor(paste0(prefix, sample(k, n, TRUE)), levels = paste0(prefix, seq_len(k)))
frames <- list(cbpp = local({d <- lme4::cbpp; d$obs <- factor(seq_len(nrow(d))); d}), grouseticks = lme4::grouseticks)

set.seed(20250301)
# One frame for many models: crossed a, b; g with slopes; c within a; three-level f; exposure e; frequency weights w.
n <- 400
d <- data.frame(g = fac(30, n, "g"), a = fac(16, n, "a"), b = fac(12, n, "b"), c = fac(4, n, "c"), x = r4(rnorm(n)), z = r4(runif(n, -1, 1)))
d$f <- factor(sample(c("lo", "mid", "hi"), n, TRUE), levels = c("lo", "mid", "hi"))
d$e <- r4(runif(n, .5, 4)); d$w <- sample(1:3, n, TRUE); d$v <- r4(runif(n, .2, 3)); d$size <- sample(3:15, n, TRUE)
B <- matrix(rnorm(60), 30) %*% chol(matrix(c(.6, .25, .25, .35), 2))
ac <- interaction(d$a, d$c)
vec <- B[d$g, 1] + B[d$g, 2] * d$x
cross <- .8 * rnorm(16)[d$a] + .5 * rnorm(12)[d$b]
nest <- .7 * rnorm(16)[d$a] + .6 * rnorm(64)[ac]
d$bern <- rbinom(n, 1, plogis(-.3 + .8 * d$x + vec)); d$resp <- factor(ifelse(d$bern == 1, "yes", "no"))
d$crossed <- rbinom(n, 1, plogis(.2 + .7 * d$x + cross)); d$nested <- rbinom(n, 1, plogis(.4 - .6 * d$x + nest))
d$succ <- rbinom(n, d$size, plogis(-.5 + .5 * d$x + vec)); d$fail <- d$size - d$succ; d$prop <- d$succ / d$size
d$rare <- rbinom(n, 1, exp(pmin(-1.9 + .15 * d$x + .3 * rnorm(30)[d$g], -.05)))
d$count <- rpois(n, exp(.4 + .3 * d$x + .6 * vec)); d$events <- rpois(n, d$e * exp(-.2 + .3 * d$z + .5 * rnorm(30)[d$g]))
d$over <- rpois(n, exp(.3 + .2 * d$x + .5 * rnorm(30)[d$g] + .7 * rnorm(n))); d$root <- rpois(n, (2 + .2 * d$x + .4 * rnorm(30)[d$g])^2)
d$cells <- rpois(n, exp(.5 + .2 * d$x + matrix(rnorm(90, sd = .5), 30)[cbind(d$g, d$f)]))
d$obs <- factor(seq_len(n))
frames$glmm <- droplevels(d)

set.seed(20250302)
# Levels whose totals are as even as can be: the variance is estimated as zero. And slopes that go with the intercepts.
d <- expand.grid(i = 1:12, g = factor(paste0("g", 1:10))); d$x <- rep(r4(seq(-1.1, 1.1, length.out = 12)), 10)
d$flat <- unlist(lapply(1:10, function(j) sample(rep(0:1, each = 6)))); d$n <- 8
b0 <- as.numeric(scale(rnorm(10)))
d$up <- round(8 * plogis(.2 + .4 * d$x + 1.2 * b0[d$g] * (1 + .6 * d$x))); d$down <- rpois(120, exp(1 + .8 * b0[d$g] * (1 - .5 * d$x)))
d$i <- NULL
frames$glmm_singular <- d

set.seed(20250303)
# A panel like the onychomycosis trial: 200 patients, 7 visits, some missed, intercepts that differ much.
d <- expand.grid(visit = 1:7, patient = factor(sprintf("p%03d", 1:200)))
d$time <- c(0, 1, 2, 3, 6, 9, 12)[d$visit]; d$arm <- factor(ifelse(as.integer(d$patient) %% 2 == 0, "B", "A"))
d$bad <- rbinom(1400, 1, plogis(-1.6 - .2 * (d$arm == "B") - .38 * d$time - .14 * (d$arm == "B") * d$time + 4 * rnorm(200)[d$patient]))
frames$panel <- d[runif(1400) > .06, c("patient", "arm", "time", "visit", "bad")]; rownames(frames$panel) <- NULL

# MASS: presence of bacteria in children with ear infections.
frames$bacteria <- local({d <- MASS::bacteria; d$wk2 <- d$week > 2; d$ap <- NULL; d$hilo <- NULL; rownames(d) <- NULL; d})
# mlmRev: deaths of malignant melanoma with their expected number, in regions within nations.
frames$melanoma <- local({d <- mlmRev::Mmmec; rownames(d) <- NULL; d})
own <- c("glmm", "glmm_singular", "panel", "bacteria", "melanoma")

G <- function(id, data, formula, family, nAGQ = 1, ...) list(id = id, data = data, formula = formula, family = family, nAGQ = nAGQ, ...)
sdif <- local({m <- MASS::contr.sdif(3); lapply(1:3, function(i) as.numeric(m[i, ]))})
lots <- function(id, ks, ...) lapply(ks, function(k) G(paste0(id, "_agq", k), ..., nAGQ = k))
cases <- c(list(
  G("bernoulli", "glmm", "bern ~ x + (1|g)", "binomial"),
  G("factor_response", "glmm", "resp ~ x + (1|g)", "binomial"),
  G("bernoulli_slope", "glmm", "bern ~ x + z + (x|g)", "binomial"),
  G("bernoulli_double_bar", "glmm", "bern ~ x + (x||g)", "binomial"),
  G("bernoulli_crossed", "glmm", "crossed ~ x + (1|a) + (1|b)", "binomial"),
  G("bernoulli_nested", "glmm", "nested ~ x + (1|a/c)", "binomial"),
  G("no_fixed_intercept", "glmm", "bern ~ 0 + x + (1|g)", "binomial"),
  G("probit_crossed", "glmm", "crossed ~ x + (1|a) + (1|b)", "binomial('probit')"),
  G("probit_slope", "glmm", "bern ~ x + (x|g)", "binomial('probit')"),
  G("cloglog_crossed", "glmm", "crossed ~ x + (1|a) + (1|b)", "binomial('cloglog')"),
  G("cauchit", "glmm", "bern ~ x + (1|g)", "binomial('cauchit')"),
  G("cbpp_cauchit", "cbpp", "cbind(incidence, size - incidence) ~ period + (1|herd)", "binomial('cauchit')"),
  G("log_risk", "glmm", "rare ~ x + (1|g)", "binomial('log')"),
  G("cbpp_log_risk", "cbpp", "cbind(incidence, size - incidence) ~ period + (1|herd)", "binomial('log')"),
  G("trials_slope", "glmm", "cbind(succ, fail) ~ x + (x|g)", "binomial"),
  G("trials_slope_prop", "glmm", "prop ~ x + (x|g)", "binomial", weights = "size"),
  G("trials_factor", "glmm", "cbind(succ, fail) ~ x * f + (1|a) + (0 + x|g)", "binomial"),
  G("trials_offset", "glmm", "cbind(succ, fail) ~ x + offset(.5 * z) + (1|g)", "binomial"),
  G("bernoulli_weights", "glmm", "bern ~ x + (1|g)", "binomial", weights = "w"),
  G("poisson_slope", "glmm", "count ~ x + (x|g)", "poisson"),
  G("poisson_slope_reversed", "glmm", "count ~ x + (0 + x|g) + (1|g)", "poisson"),
  G("poisson_double_bar", "glmm", "count ~ x + (x||g)", "poisson"),
  G("poisson_three", "glmm", "count ~ x + z + (1|a) + (1|b) + (x|g)", "poisson"),
  G("poisson_cells", "glmm", "cells ~ x + (0 + f|g)", "poisson"),
  G("poisson_offset", "glmm", "events ~ z + offset(log(e)) + (1|g)", "poisson"),
  G("poisson_offset_argument", "glmm", "events ~ z + (1|g)", "poisson", offset = "log(e)"),
  G("poisson_offset_both", "glmm", "events ~ z + offset(.3 * x) + (1|g) + (1|a)", "poisson", offset = "log(e)"),
  G("poisson_weights", "glmm", "count ~ x + (1|g)", "poisson", weights = "w"),
  G("poisson_weights_real", "glmm", "events ~ z + offset(log(e)) + (1|g)", "poisson", weights = "v"),
  G("poisson_sqrt", "glmm", "root ~ x + (1|g)", "poisson('sqrt')"),
  G("poisson_olre", "glmm", "over ~ x + (1|g) + (1|obs)", "poisson"),
  G("poisson_poly", "glmm", "count ~ poly(x, 2) + f + (1|g)", "poisson", contrasts = list(f = "contr.sum")),
  G("singular_zero", "glmm_singular", "flat ~ x + (1|g)", "binomial"),
  G("singular_up", "glmm_singular", "cbind(up, n - up) ~ x + (x|g)", "binomial"),
  G("singular_down", "glmm_singular", "down ~ x + (x|g)", "poisson"),
  G("singular_zero_slope", "glmm_singular", "flat ~ x + (x|g)", "binomial"),
  G("bacteria", "bacteria", "y ~ trt + wk2 + (1|ID)", "binomial"),
  G("bacteria_sdif", "bacteria", "y ~ trt + wk2 + (1|ID)", "binomial", contrasts = list(trt = sdif)),
  G("bacteria_week", "bacteria", "y ~ trt + I(week > 2) + (week|ID)", "binomial"),
  G("melanoma", "melanoma", "deaths ~ uvb + offset(log(expected)) + (1|nation/region)", "poisson"),
  G("melanoma_slope", "melanoma", "deaths ~ uvb + offset(log(expected)) + (uvb|nation) + (1|region)", "poisson"),
  G("grouseticks_olre", "grouseticks", "TICKS ~ YEAR + (1|BROOD) + (1|INDEX)", "poisson"),
  G("bernoulli_slope_agq0", "glmm", "bern ~ x + z + (x|g)", "binomial", 0),
  G("bernoulli_crossed_agq0", "glmm", "crossed ~ x + (1|a) + (1|b)", "binomial", 0),
  G("poisson_slope_agq0", "glmm", "count ~ x + (x|g)", "poisson", 0),
  G("poisson_offset_agq0", "glmm", "events ~ z + offset(log(e)) + (1|g)", "poisson", 0),
  G("poisson_offset_agq7", "glmm", "events ~ z + offset(log(e)) + (1|g)", "poisson", 7),
  G("poisson_weights_agq5", "glmm", "count ~ x + (1|g)", "poisson", 5, weights = "w"),
  G("trials_agq3", "glmm", "cbind(succ, fail) ~ x + (1|g)", "binomial", 3),
  G("probit_agq11", "glmm", "bern ~ x + (1|g)", "binomial('probit')", 11),
  G("slope_only_agq9", "glmm", "cbind(succ, fail) ~ x + (0 + x|g)", "binomial", 9)),
  lots("panel", c(0, 1, 2, 5, 9, 20, 25), "panel", "bad ~ arm * time + (1|patient)", "binomial"),
  # The nodes of one level are u + L^-T z, z on the product grid and L L' the level's block of M.
  lapply(c(3, 9, 15), function(k) G(paste0("bernoulli_slope_agq", k), "glmm", "bern ~ x + z + (x|g)", "binomial", k, own = TRUE)),
  lapply(c(5, 9), function(k) G(paste0("poisson_slope_agq", k), "glmm", "count ~ x + (x|g)", "poisson", k, own = TRUE)),
  list(G("panel_agq100", "panel", "bad ~ arm * time + (1|patient)", "binomial", 100, own = TRUE)),
  list(G("panel_slope", "panel", "bad ~ arm * time + (time|patient)", "binomial")))

# Negative binomial as glmer.nb has it: the criterion with expected weights, the shape searched with the rest; for
# `shape` given, as glmer with MASS::negative.binomial(shape). lme4's own value at the same parameters is beside it.
nb_case <- function(cs) {
  d <- frames[[cs$data]]
  a <- arguments(c(cs[setdiff(names(cs), "family")], family = "poisson"), d)
  m0 <- suppressMessages(suppressWarnings(do.call(glmer, a)))
  P <- pieces_of(m0, "nbinom2", "log")
  nt <- length(P$lower); p <- ncol(P$X); extra <- is.null(cs$shape)
  f <- make_criterion(P, "expected", 1, extra, if (extra) 1 else cs$shape)
  start <- c(num(getME(m0, "theta")), num(fixef(m0)), if (extra) 0)
  start <- nlminb(start, f, lower = c(P$lower, rep(-Inf, length(start) - nt)), control = list(rel.tol = 1e-12))$par
  r <- refine(f, start, bounded = which(P$lower == 0))
  shape <- if (extra) exp(r$par[nt + p + 1]) else cs$shape
  a$family <- MASS::negative.binomial(shape)
  at <- at_parameters(a, r$par[1:nt], r$par[nt + 1:p])
  cat(sprintf("%-28s %14.8f grad %.1e lme4 %+.1e shape %.6f\n", cs$id, r$value, r$gradient, at$value - r$value, shape))
  list(id = cs$id, program = program(), data = cs$data, formula = cs$formula, family = "nbinom2", link = "log", nAGQ = 1, weights = NULL, offset = NULL,
    shape_known = cs$shape, theta = I(r$par[1:nt]), theta_names = I(names(getME(m0, "theta"))), theta_se = I(r$se[1:nt]), beta = I(r$par[nt + 1:p]),
    beta_names = I(names(fixef(m0))), se = I(r$se[nt + 1:p]), extra_name = if (extra) "shape", extra = shape, log_extra_se = if (extra) r$se[nt + p + 1],
    logLik = -r$value / 2, objective = r$value, npar = length(r$par), nobs = length(P$y),
    converged = list(gradient = r$gradient, lme4_difference = at$value - r$value), message = NULL)
}
negative_binomial <- list(
  list(id = "nb_grouseticks", data = "grouseticks", formula = "TICKS ~ YEAR + (1|BROOD) + (1|LOCATION)", nAGQ = 1),
  list(id = "nb_counts", data = "glmm", formula = "over ~ x + (1|g)", nAGQ = 1),
  list(id = "nb_counts_shape2", data = "glmm", formula = "over ~ x + (1|g)", nAGQ = 1, shape = 2))

write_data(frames[own], "data")
only <- commandArgs(TRUE)
if (length(only)) cases <- Filter(function(cs) cs$id %in% only, cases)
fits <- lapply(cases, function(cs) tryCatch(glmm_case(cs, frames), error = function(e) { cat(cs$id, "FAILED", conditionMessage(e), "\n"); NULL }))
fits <- lapply(Filter(Negate(is.null), fits), function(x) { attributes(x) <- attributes(x)["names"]; x })
if (!length(only)) write_json_file(list(program = program(), script = "glmm_more.R",
  note = paste("lme4's search, then Newton steps on the same criterion to the last digits; logLik and objective are of the full",
               "density for every nAGQ, lme4_logLik is what lme4 gives; se by the Hessian over theta and beta, for nAGQ = 0 by RX;",
               "theta_se and se leave out entries of theta that are zero; every weight of M is the expected one, as in lme4"),
  cases = fits, negative_binomial = lapply(negative_binomial, nb_case)), "glmm_more.json")
