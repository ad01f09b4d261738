# Makes covariance.json and its data: compound symmetry and autoregression, by glmmTMB (cs with variances of their own,
# ar1 with one) and by nlme (pdCompSymm: cs with one variance).
#   cd tests/reference && Rscript covariance.R
# occasions.csv is simulated: 30 subjects on 5 occasions, twice each with some missing, in 6 centres, with effects of
# correlation -.6^lag (y, count) and of correlation .5 for all (z, succ of size).
source("fit_record.R")
suppressMessages({library(glmmTMB); library(nlme)})
r4 <- function(x) round(x, 4)
set.seed(20260211)
d <- expand.grid(rep = 1:2, occ = factor(paste0("t", 1:5)), id = factor(paste0("s", 1:30), levels = paste0("s", 1:30)))
d <- d[-sample(nrow(d), 20), ]
d$centre <- factor(sample(paste0("c", 1:6), nrow(d), TRUE))
d$x <- r4(rnorm(nrow(d))); d$e <- r4(runif(nrow(d), .5, 3)); d$size <- sample(3:9, nrow(d), TRUE)
lag <- abs(outer(1:5, 1:5, "-"))
effects <- function(R, sd) { b <- matrix(rnorm(150), 30) %*% chol(R) %*% diag(sd); b[cbind(as.integer(d$id), as.integer(d$occ))] }
b1 <- effects((-.6)^lag, rep(1, 5)); b2 <- effects(.5 + .5 * diag(5), c(.5, .7, 1, 1.2, .9)); centre <- rnorm(6, sd = .4)[as.integer(d$centre)]
d$y <- r4(2 + .5 * d$x + b1 + centre + rnorm(nrow(d), sd = .6)); d$z <- r4(1 - .3 * d$x + b2 + centre + rnorm(nrow(d), sd = .6))
d$count <- rpois(nrow(d), d$e * exp(.4 + .3 * d$x + .6 * b1)); d$succ <- rbinom(nrow(d), d$size, plogis(.2 + .5 * d$x + b2)); d$fail <- d$size - d$succ
d$rep <- NULL; rownames(d) <- NULL
sleep <- lme4::sleepstudy; sleep$occ <- factor(sleep$Days)
frames <- list(occasions = d, sleepstudy = sleep)

tmb <- function(id, data, formula, theirs = formula, family = gaussian(), REML = FALSE, theta = NULL, ...) {
  start <- if (is.null(theta)) NULL else list(theta = theta)
  m <- suppressWarnings(glmmTMB(as.formula(theirs), frames[[data]], family, REML = REML, start = start, ...))
  # Newton steps on the exact gradient, to the end
  p <- m$fit$par; fn <- m$obj$fn; gr <- m$obj$gr
  for (i in 1:5) { H <- optimHess(p, fn, gr); p <- p - drop(solve(H, drop(gr(p)))) }
  stopifnot(max(abs(gr(p))) < 1e-5)
  fn(p); m$fit$par <- p; m$fit$parfull <- m$obj$env$last.par
  sdr <- summary(TMB::sdreport(m$obj, par.fixed = p)); sdr <- sdr[rownames(sdr) == "beta", , drop = FALSE]
  vc <- VarCorr(m)$cond
  list(id = id, data = data, formula = formula, family = family$family, REML = REML, program = "glmmTMB", loglik = -fn(p),
    beta = I(num(sdr[, 1])), se = if (REML) NULL else I(num(sdr[, 2])), sd = lapply(vc, function(v) I(num(attr(v, "stddev")))),
    rho = lapply(vc, function(v) if (nrow(v) > 1) num(attr(v, "correlation")[2, 1]) else NULL),
    sigma = if (family$family == "gaussian") num(sigma(m)) else NULL)
}
lme_case <- function(id, data, formula, fixed, random, REML) {
  m <- lme(fixed, frames[[data]], random, method = if (REML) "REML" else "ML", control = lmeControl(tolerance = 1e-12, msTol = 1e-13, msMaxIter = 500, opt = "optim"))
  v <- pdMatrix(m$modelStruct$reStruct[[1]]) * m$sigma^2
  list(id = id, data = data, formula = formula, family = "gaussian", REML = REML, program = "nlme", loglik = num(logLik(m)),
    beta = I(num(fixef(m))), se = I(num(sqrt(diag(m$varFix)))), sd = list(I(num(sqrt(diag(v))))), rho = list(num(cov2cor(v)[2, 1])), sigma = num(m$sigma))
}
cases <- list(
  tmb("sleep cs", "sleepstudy", "Reaction ~ Days + cs(Days | Subject)", REML = TRUE),
  tmb("sleep cs of all days", "sleepstudy", "Reaction ~ occ + cs(0 + occ | Subject)"),
  tmb("sleep ar1", "sleepstudy", "Reaction ~ occ + ar1(0 + occ | Subject)", theta = c(3.83, 1.86)),
  tmb("negative ar1", "occasions", "y ~ x + ar1(0 + occ | id)"),
  tmb("negative ar1 crossed", "occasions", "y ~ x + ar1(0 + occ | id) + (1 | centre)", REML = TRUE),
  tmb("cs crossed", "occasions", "z ~ x + cs(0 + occ | id) + (1 | centre)"),
  tmb("cs beside ar1", "occasions", "y ~ x + offset(e) + ar1(0 + occ | id) + cs(0 + occ | centre)"),
  tmb("ar1 counts", "occasions", "count ~ x + offset(log(e)) + ar1(0 + occ | id)", family = poisson()),
  tmb("ar1 counts crossed", "occasions", "count ~ x + offset(log(e)) + ar1(0 + occ | id) + (1 | centre)", family = poisson()),
  tmb("cs trials", "occasions", "cbind(succ, fail) ~ x + cs(0 + occ | id)", family = binomial()),
  lme_case("hom cs", "occasions", "z ~ x + cs(0 + occ | id, hom = TRUE)", z ~ x, list(id = pdCompSymm(~ 0 + occ)), TRUE),
  lme_case("hom cs ML", "occasions", "z ~ x + cs(0 + occ | id, hom = TRUE)", z ~ x, list(id = pdCompSymm(~ 0 + occ)), FALSE),
  lme_case("sleep hom cs", "sleepstudy", "Reaction ~ Days + cs(Days | Subject, hom = TRUE)", Reaction ~ Days, list(Subject = pdCompSymm(~ Days)), TRUE))
write_data(frames["occasions"], "data")
write_json_file(list(program = paste("glmmTMB", packageVersion("glmmTMB"), "nlme", packageVersion("nlme"), R.version.string), script = "covariance.R", cases = cases), "covariance.json")
for (cs in cases) cat(cs$id, cs$loglik, unlist(cs$rho), "\n")
