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
# The frame is a global one, as lmerTest and car fit again by the call.
fit <- function(data, formula, family = NULL, REML = TRUE, weights = NULL) {
  .d <<- frames[[data]]
  .d$.w <<- if (is.null(weights)) rep(1, nrow(.d)) else .d[[weights]]
  f <- as.formula(formula, env = globalenv())
  if (is.null(family)) do.call(lmerTest::lmer, c(list(f, quote(.d), REML = REML, control = quote(tight)), if (!is.null(weights)) list(weights = quote(.w))))
  else do.call(glmer, list(f, quote(.d), family = eval(parse(text = family)), control = quote(gtight)))
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

# Tests of random terms and backward elimination by lmerTest.
table_of <- function(a) list(rows = I(rownames(a)), columns = I(colnames(a)), values = lapply(as.list(as.data.frame(a)), function(x) I(num(x))))
ranova_case <- function(id, data, formula, reduce = TRUE, ...) {
  m <- fit(data, formula, ...)
  list(id = id, data = data, formula = formula, ..., reduce_terms = reduce, table = table_of(quiet(ranova(m, reduce.terms = reduce))))
}
frames$sleepstudy_w <- transform(lme4::sleepstudy, w = rep(c(1, 2, 0.5), 60), cond = factor(rep(c("a", "b"), 90)))
ranovas <- list(
  ranova_case("slopes", "sleepstudy", "Reaction ~ Days + (Days | Subject)"),
  ranova_case("whole", "sleepstudy", "Reaction ~ Days + (Days | Subject)", reduce = FALSE),
  ranova_case("slopes_ml", "sleepstudy", "Reaction ~ Days + (Days | Subject)", REML = FALSE),
  ranova_case("weights", "sleepstudy_w", "Reaction ~ Days + (Days | Subject)", weights = "w"),
  ranova_case("parts", "sleepstudy_w", "Reaction ~ Days + (Days + cond | Subject)"),
  ranova_case("nested", "Pastes", "strength ~ 1 + (1 | batch/cask)"),
  ranova_case("nested_ml", "Pastes", "strength ~ 1 + (1 | batch/cask)", REML = FALSE),
  ranova_case("crossed", "cake", "angle ~ recipe * temp + (1 | replicate) + (1 | recipe:replicate)"),
  ranova_case("machines", "Machines", "score ~ Machine + (Machine | Worker)"),
  ranova_case("cells", "Machines", "score ~ Machine + (0 + Machine | Worker)"),
  ranova_case("apart", "sleepstudy", "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"))
step_case <- function(id, data, formula, ..., ddf = "Satterthwaite", alpha = c(0.1, 0.05), reduce_random = TRUE, reduce_fixed = TRUE, keep = NULL) {
  m <- fit(data, formula, ...)
  args <- list(m, ddf = ddf, alpha.random = alpha[1], alpha.fixed = alpha[2], reduce.random = reduce_random, reduce.fixed = reduce_fixed)
  if (!is.null(keep)) args$keep <- keep
  s <- quiet(do.call(step, args))
  list(id = id, data = data, formula = formula, ..., ddf = ddf, alpha = I(alpha), reduce_random = reduce_random, reduce_fixed = reduce_fixed,
       keep = if (is.null(keep)) NULL else I(keep), random = table_of(unclass(s)$random), fixed = table_of(unclass(s)$fixed),
       model = paste(deparse(formula(get_model(s)), width.cutoff = 500), collapse = ""))
}
long <- "y ~ A * B + C * x + z + o + logic + (1 + x | g)"
steps <- list(
  step_case("cake", "cake", "angle ~ recipe * temp + (1 | replicate) + (1 | recipe:replicate)"),
  step_case("long", "factorial", long),
  step_case("long_kr", "factorial", "y ~ A * B + z + (1 | g)", ddf = "Kenward-Roger"),
  step_case("long_keep", "factorial", long, keep = c("A:B", "z")),
  step_case("long_strict", "factorial", long, alpha = c(0.01, 0.001)),
  step_case("only_fixed", "factorial", long, reduce_random = FALSE),
  step_case("only_random", "factorial", long, reduce_fixed = FALSE))
# The delta method by car, with normal quantiles.
delta_case <- function(id, data, formula, expressions, ..., names = NULL) {
  m <- fit(data, formula, ...)
  own <- names(fixef(m))
  out <- lapply(expressions, function(e) num(deltaMethod(m, e, parameterNames = if (is.null(names)) own else names)))
  list(id = id, data = data, formula = formula, ..., expressions = I(expressions), own = I(own), names = if (is.null(names)) NULL else I(names),
       vcov = unname(as.matrix(vcov(m))), beta = I(num(fixef(m))), values = out)
}
deltas <- list(
  delta_case("ratio", "sleepstudy", "Reaction ~ Days + (Days | Subject)", c("100 * b1 / b0", "log(b0) - b1^2", "exp(b1 / 10)", "sqrt(b0 * b1)"), names = c("b0", "b1")),
  delta_case("recipes", "cake", "angle ~ recipe + temp + (1 | recipe:replicate)", c("recipeB / recipeC", "(recipeB - recipeC)^2 / temp", "sin(temp) * cos(recipeB)")),
  delta_case("rates", "grouseticks", "TICKS ~ YEAR + cHEIGHT + (1 | BROOD)", c("exp(YEAR96)", "exp(YEAR97 - YEAR96)", "pnorm(cHEIGHT)"), family = "poisson"))
writeLines(toJSON(list(program = paste("performance", packageVersion("performance"), "insight", packageVersion("insight"), "car", packageVersion("car"),
  "lmerTest", packageVersion("lmerTest"), "lme4", packageVersion("lme4"), R.version.string), script = "measures.R", r2 = r2s, logs = logs, vif = vifs, ranova = ranovas, step = steps, delta = deltas),
  auto_unbox = TRUE, digits = NA, pretty = TRUE, null = "null"), "measures.json")
