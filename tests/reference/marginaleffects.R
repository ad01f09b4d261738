# Makes marginaleffects.json: averages of predictions, comparisons and slopes of lme4's fits as marginaleffects defines them,
# at random effects of zero, with standard errors by the delta method from vcov (use.hessian = FALSE) and Richardson's differences (numDeriv).
#   cd tests/reference && Rscript marginaleffects.R
suppressMessages({library(lme4); library(numDeriv); library(jsonlite)})
data(Contraception, package = "mlmRev")
control <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-13, optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
linear <- lmer(angle ~ recipe * temp + (1 | recipe:replicate), lme4::cake)
herds <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), lme4::cbpp, binomial, control = control)
women <- glmer(use ~ age + I(age^2) + urban * livch + (1 | district), Contraception, binomial, control = control)
ticks <- glmer(TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION), lme4::grouseticks, poisson, control = control)
mean_at <- function(m, d) {
  X <- model.matrix(delete.response(terms(m)), d, contrasts.arg = attr(getME(m, "X"), "contrasts"))
  inverse <- if (isGLMM(m)) family(m)$linkinv else identity
  function(beta) inverse(as.vector(X %*% beta))
}
with <- function(d, name, value) {
  d[[name]] <- if (is.factor(d[[name]])) factor(rep(value, nrow(d)), levels(d[[name]])) else value
  d
}
cases <- list()
add <- function(id, m, quantity) {
  V <- as.matrix(if (isGLMM(m)) vcov(m, use.hessian = FALSE) else vcov(m)); J <- jacobian(quantity, fixef(m))
  cases[[length(cases) + 1]] <<- list(id = id, estimate = I(quantity(fixef(m))), std_error = I(sqrt(diag(J %*% V %*% t(J)))))
}
average <- function(id, m, d, by = NULL) {
  at <- mean_at(m, d)
  add(id, m, function(b) if (is.null(by)) mean(at(b)) else as.vector(tapply(at(b), d[[by]], mean)))
}
contrast <- function(id, m, d, name, values, base) {
  low <- mean_at(m, with(d, name, base)); high <- lapply(values, function(v) mean_at(m, with(d, name, v)))
  add(id, m, function(b) sapply(high, function(f) mean(f(b)) - mean(low(b))))
}
slope <- function(id, m, d, name, h) {
  high <- mean_at(m, with(d, name, d[[name]] + h)); low <- mean_at(m, with(d, name, d[[name]] - h))
  add(id, m, function(b) mean(high(b) - low(b)) / (2 * h))
}
average("cake by recipe", linear, lme4::cake, "recipe")
contrast("cake recipe", linear, lme4::cake, "recipe", c("B", "C"), "A")
slope("cake temp", linear, lme4::cake, "temp", 1)
average("cbpp mean", herds, lme4::cbpp)
contrast("cbpp period", herds, lme4::cbpp, "period", c("2", "3", "4"), "1")
average("women by urban", women, Contraception, "urban")
contrast("women livch", women, Contraception, "livch", c("1", "2", "3+"), "0")
slope("women age", women, Contraception, "age", 1e-3)
contrast("ticks YEAR", ticks, lme4::grouseticks, "YEAR", c("96", "97"), "95")
slope("ticks cHEIGHT", ticks, lme4::grouseticks, "cHEIGHT", 1e-2)
writeLines(toJSON(list(program = paste("lme4", packageVersion("lme4"), "numDeriv", packageVersion("numDeriv"), R.version.string),
  cases = cases), digits = NA, auto_unbox = TRUE, pretty = TRUE), "marginaleffects.json")
