# Makes model_parts.json: model frames, matrices and covariance of parameters of fits, by lme4.
# Run in this folder with: Rscript model_parts.R
suppressMessages({library(lme4); library(jsonlite); library(numDeriv)})

sleep <- sleepstudy
sleep$w <- 1 + (seq_len(nrow(sleep)) %% 3)
fit <- lmer(log(Reaction) ~ poly(Days, 2) + (Days | Subject), sleep, weights = w)
new <- data.frame(Days = c(0.5, 12), Subject = factor(c("308", "335"), levels(sleep$Subject)))
frame <- model.frame(fit)
X <- function(fit, new) model.matrix(delete.response(terms(fit)), model.frame(delete.response(terms(fit)), new))

ml <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE)
# lme4's search ends 1e-4 beside the optimum: Newton steps lead there.
dd <- update(ml, devFunOnly = TRUE)
theta <- getME(ml, "theta")
for (i in 1:4) theta <- theta - solve(hessian(dd, theta), grad(dd, theta))
dd(theta)
n <- nobs(ml)
pwrss_there <- function() environment(dd)$pp$sqrL(1) + environment(dd)$resp$wrss()
log_sigma <- log(pwrss_there() / n) / 2
unscaled <- environment(dd)$pp$unsc()
# Twice the inverse Hessian of -2 log L for theta and log sigma, at the estimates of beta.
deviance_at <- function(p) {
  d <- dd(p[1:3])
  # d is profiled over sigma; its value elsewhere is by the penalized sum of squares there.
  pwrss <- pwrss_there()
  d - n * (1 + log(2 * pi * pwrss / n)) + n * log(2 * pi * exp(2 * p[4])) + pwrss / exp(2 * p[4])
}
V <- 2 * solve(hessian(deviance_at, c(theta, log_sigma)))

write(toJSON(list(
  source = paste(R.version.string, "lme4", packageVersion("lme4"), "model_parts.R"),
  frame_names = names(frame), response = frame[[1]][1:5], weights = weights(fit)[1:5],
  X_new = X(fit, new), Z_columns = ncol(model.matrix(fit, type = "random")),
  Z_sum = sum(model.matrix(fit, type = "random")),
  correlation = cov2cor(unscaled),
  par_vcov = V, theta = theta), auto_unbox = TRUE, digits = 12, matrix = "rowmajor", pretty = 1), "model_parts.json")
