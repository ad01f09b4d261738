# Makes measures.json: shares of variance by performance where it is right, and by the formulas of Nakagawa, Johnson and
# Schielzeth (2017) from lme4's estimates where it is not (log links, random parts without an intercept); variance inflation and
# the delta method by car; tests of random terms and backward elimination by lmerTest; all at tight optima.
#   cd tests/reference && Rscript measures.R
suppressMessages({library(lme4); library(lmerTest); library(car); library(performance); library(insight); library(jsonlite); library(mlmRev)})
options(warn = 1)
num <- function(x) unname(as.numeric(x))
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12, maxeval = 1e5), calc.derivs = FALSE,
                     check.conv.singular = "ignore")
gtight <- glmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-9, ftol_abs = 1e-10, maxeval = 1e5),
                       check.conv.singular = "ignore")
d <- read.csv("data/factorial.csv", stringsAsFactors = TRUE)
d$o <- factor(as.character(d$o), levels = c("lo", "mid", "hi"), ordered = TRUE)
d$logic <- as.logical(d$logic)
frames <- list(factorial = d, sleepstudy = lme4::sleepstudy, cake = lme4::cake, cbpp = lme4::cbpp, grouseticks = lme4::grouseticks,
               Pastes = lme4::Pastes, Machines = read.csv("data/Machines.csv", stringsAsFactors = TRUE))
data(Contraception, package = "mlmRev")
Contraception$ch <- factor(ifelse(Contraception$livch == "0", "N", "Y"))
frames$Contraception <- Contraception
fit <- function(data, formula, family = NULL, REML = TRUE, weights = NULL) {
  frame <- frames[[data]]
  frame$.w <- if (is.null(weights)) rep(1, nrow(frame)) else frame[[weights]]
  f <- as.formula(formula)
  if (is.null(family)) { if (is.null(weights)) lmer(f, frame, REML = REML, control = tight) else lmer(f, frame, weights = .w, REML = REML, control = tight) }
  else glmer(f, frame, family = eval(parse(text = family)), control = gtight)
}
quiet <- function(x) suppressMessages(suppressWarnings(x))

# Shares of variance. Of random terms, tr(Z S Z') / n from the whole matrix Z.
variances <- function(m) {
  X <- getME(m, "X"); Z <- as.matrix(getME(m, "Z")); L <- as.matrix(t(getME(m, "Lambdat")))
  s2 <- if (isLMM(m)) sigma(m)^2 else 1
  by_column <- Z %*% L
  list(fixed = var(as.vector(X %*% fixef(m))), random = s2 * mean(rowSums(by_column^2)))
}
r2_case <- function(id, data, formula, ..., right = TRUE) {
  m <- fit(data, formula, ...)
  v <- variances(m)
  out <- list(id = id, data = data, formula = formula, ..., fixed = v$fixed, random = v$random)
  p <- quiet(unlist(r2(m))); i <- quiet(unlist(icc(m)))
  c(out, list(right = right, conditional = num(p[1]), marginal = num(p[2]), adjusted = num(i["ICC_adjusted"]), unadjusted = num(i["ICC_unadjusted"])))
}
# With a log link: the mean by the model with an intercept only, exp(b0 + tau^2 / 2), and three approximations.
log_case <- function(id, data, formula, null, family, olre = character(0)) {
  m <- fit(data, formula, family); m0 <- fit(data, null, family)
  v <- variances(m); over <- sum(as.numeric(VarCorr(m)[olre]))
  lambda <- exp(fixef(m0)[[1]] + sum(as.numeric(VarCorr(m0))) / 2)
  residual <- c(delta = 1 / lambda, lognormal = log(1 + 1 / lambda), trigamma = trigamma(lambda))
  total <- v$fixed + v$random + residual
  list(id = id, data = data, formula = formula, family = family, lambda = lambda, residual = as.list(residual), fixed = v$fixed, random = v$random,
       over = over, marginal = as.list(v$fixed / total), conditional = as.list((v$fixed + v$random - over) / total))
}
r2s <- list(
  r2_case("slopes", "sleepstudy", "Reaction ~ Days + (Days | Subject)"),
  r2_case("slopes_ml", "sleepstudy", "Reaction ~ Days + (Days | Subject)", REML = FALSE),
  r2_case("cake", "cake", "angle ~ recipe * temp + (1 | recipe:replicate)"),
  r2_case("pastes", "Pastes", "strength ~ 1 + (1 | batch/cask)"),
  r2_case("machines", "Machines", "score ~ Machine + (Machine | Worker)"),
  r2_case("factorial", "factorial", "y ~ A * B + o + logic + x + (1 | g)"),
  r2_case("no_intercept", "sleepstudy", "Reaction ~ Days + (0 + Days | Subject)"),
  r2_case("cells", "Machines", "score ~ Machine + (0 + Machine | Worker)", right = FALSE),
  r2_case("cbpp", "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", family = "binomial"),
  r2_case("logit", "Contraception", "use ~ age + I(age^2) + urban + ch + (urban | district)", family = "binomial"),
  r2_case("probit", "Contraception", "use ~ age + urban + (1 | district)", family = "binomial('probit')"),
  r2_case("cloglog", "Contraception", "use ~ age + urban + (1 | district)", family = "binomial('cloglog')"))
logs <- list(
  log_case("ticks", "grouseticks", "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)", "TICKS ~ 1 + (1 | BROOD) + (1 | LOCATION)", "poisson"),
  log_case("ticks_by_row", "grouseticks", "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX)", "TICKS ~ 1 + (1 | BROOD) + (1 | INDEX)", "poisson", "INDEX"))

vif_case <- function(id, data, formula, ...) {
  v <- vif(fit(data, formula, ...))
  if (!is.matrix(v)) v <- cbind(v, 1, sqrt(v))
  list(id = id, data = data, formula = formula, ..., rows = I(rownames(v)), values = lapply(1:3, function(j) I(num(v[, j]))))
}
vifs <- list(
  vif_case("cake", "cake", "angle ~ recipe * temp + (1 | recipe:replicate)"),
  vif_case("factorial", "factorial", "y ~ A + B + o + logic + x + z + (x | g)"),
  vif_case("numbers", "factorial", "y ~ x + z + I(x^2) + (1 | g)"),
  vif_case("weights", "factorial", "y ~ A * B + x + (1 | g)", weights = "w"),
  vif_case("logit", "Contraception", "use ~ age + I(age^2) + urban + livch + (1 | district)", family = "binomial"))
writeLines(toJSON(list(program = paste("performance", packageVersion("performance"), "insight", packageVersion("insight"), "car", packageVersion("car"),
  "lmerTest", packageVersion("lmerTest"), "lme4", packageVersion("lme4"), R.version.string), script = "measures.R", r2 = r2s, logs = logs, vif = vifs),
  auto_unbox = TRUE, digits = NA, pretty = TRUE, null = "null"), "measures.json")
