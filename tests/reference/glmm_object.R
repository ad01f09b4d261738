# Makes glmm_object.json: what lme4's methods return for generalized linear mixed models, in full, at parameters that
# glmm_record.R brought to the optimum; analysis of deviance of six models; and ordinary glm fits of every family.
#   cd tests/reference && Rscript glmm_object.R
# logLik, AIC, BIC, ldL2, ldRX2, condVar, working weights and both covariance matrices are computed at the exact mode;
# lme4's own are of its last but one PIRLS step, and agree to about 1e-6.
source("glmm_record.R")
suppressMessages({library(mlmRev); library(MASS)})
options(warn = -1)  # vcov() warns whenever it is asked for the matrix without the Hessian
data(Contraception, package = "mlmRev")
Contraception$ch <- factor(ifelse(Contraception$livch == "0", "N", "Y"))
frames <- list(cbpp = local({d <- lme4::cbpp; d$obs <- factor(seq_len(nrow(d))); d}), grouseticks = lme4::grouseticks, Contraception = Contraception)
by_rows <- function(m) { m <- as.matrix(m); lapply(seq_len(nrow(m)), function(i) I(num(m[i, ]))) }
columns <- function(d) lapply(as.list(d), function(x) I(if (is.factor(x)) as.character(x) else x))
residuals_of <- function(m, n, ...) sapply(c("response", "pearson", "deviance", "working"), simplify = FALSE,
  FUN = function(type) I(head(num(residuals(m, type, ...)), n)))
C <- function(id, data, formula, n, new, nAGQ = 1) list(id = id, data = data, formula = formula, family = if (data == "grouseticks") "poisson" else "binomial",
  nAGQ = nAGQ, n = n, new = new)
cases <- list(
  C("cbpp", "cbpp", "cbind(incidence, size - incidence) ~ period + (1|herd)", 56,
    data.frame(period = factor(c(1, 2, 4, 3, 1), levels = 1:4), herd = factor(c("1", "8", "15", "99", "2")))),
  C("cbpp_agq9", "cbpp", "cbind(incidence, size - incidence) ~ period + (1|herd)", 56,
    data.frame(period = factor(c(1, 2, 4), levels = 1:4), herd = factor(c("1", "8", "15"))), 9),
  C("grouseticks", "grouseticks", "TICKS ~ YEAR + HEIGHT + (1|BROOD) + (1|INDEX) + (1|LOCATION)", 20,
    data.frame(YEAR = factor(c(95, 96, 97, 96), levels = 95:97), HEIGHT = c(450, 470, 400, 500), BROOD = factor(c("501", "503", "new", "711")),
               INDEX = factor(c("1", "new", "3", "403")), LOCATION = factor(c("32", "36", "new", "32")))),
  C("contra_cm4", "Contraception", "use ~ age*ch + I(age^2) + urban + (urban|district)", 20,
    data.frame(age = c(-10, 0, 5.5, 12), ch = factor(c("N", "Y", "Y", "N")), urban = factor(c("N", "Y", "Y", "N")), district = factor(c("1", "35", "new", "61")))))

object_case <- function(cs) {
  r <- glmm_case(cs, frames)
  m <- attr(r, "fit"); P <- attr(r, "pieces"); s <- attr(r, "mode"); n <- cs$n
  g <- function(name) getME(m, name)
  k <- r$npar; N <- r$nobs
  RX <- rx_crossprod(P, s)
  cat("working weights", max(abs(weights(m, "working") / s$rows$We - 1)), "vcov", max(abs(as.matrix(vcov(m, use.hessian = FALSE)) / solve(RX) - 1)), "\n")
  cmp <- as.list(g("devcomp")$cmp); cmp$ldL2 <- r$ldL2; cmp$ldRX2 <- num(determinant(RX)$modulus)
  predict_of <- function(...) I(num(predict(m, cs$new, allow.new.levels = TRUE, ...)))
  new <- list(data = columns(cs$new), link = predict_of(), response = predict_of(type = "response"), link_fixed = predict_of(re.form = NA),
    response_fixed = predict_of(re.form = NA, type = "response"))
  if (cs$id == "grouseticks") new$link_brood <- predict_of(re.form = ~ (1|BROOD))
  c(list(id = cs$id), r[c("program", "data", "formula", "family", "link", "nAGQ", "theta", "theta_names", "beta", "beta_names", "se", "logLik", "lme4_logLik", "npar", "nobs")],
    list(AIC = -2 * r$logLik + 2 * k, BIC = -2 * r$logLik + log(N) * k, df_residual = N - k, deviance = num(deviance(m)), sigma = sigma(m),
      residuals = residuals_of(m, n), residuals_default = I(head(num(residuals(m)), n)), fitted = I(head(num(fitted(m)), n)),
      eta = I(head(num(predict(m)), n)), fixed_eta = I(head(num(predict(m, re.form = NA)), n)), ranef = ranef_of(P, s, if (n > 20) 15 else 10),
      coef = lapply(unclass(coef(m)), labelled, rows = 10), prior_weights = I(head(num(weights(m)), n)), working_weights = I(head(num(s$rows$We), n)),
      vcov_hessian = if (!is.null(r$vcov)) r$vcov, vcov_rx = by_rows(solve(RX)), VarCorr = r$VarCorr, ngrps = r$ngrps, lower = I(num(g("lower"))),
      cmp = cmp, dims = as.list(g("devcomp")$dims), u = I(head(num(s$u), 60)), Gp = I(g("Gp")), l_i = I(num(g("l_i"))), q = num(g("q")),
      n_rtrms = num(g("n_rtrms")), predict = new))
}
objects <- lapply(cases, object_case)

# Gamma in lme4 is not maximum likelihood: its residuals and weights are of use at its fitted means only.
read_frame <- function(name) { d <- read.csv(file.path("data", paste0(name, ".csv"))); d$g <- factor(d$g); d }
gamma <- read_frame("gamma")
m <- suppressWarnings(lme4::glmer(y ~ x + (1|g), gamma, Gamma("log"), control = control))
gamma_fit <- list(id = "gamma", program = program(), data = "gamma", formula = "y ~ x + (1|g)", family = "Gamma", link = "log", theta = I(num(getME(m, "theta"))),
  beta = I(num(fixef(m))), sigma = sigma(m), fitted = I(num(fitted(m))), residuals = residuals_of(m, 20), scaled = residuals_of(m, 20, scaled = TRUE),
  deviance = num(deviance(m)), working_weights = I(head(num(weights(m, "working")), 20)))

# Analysis of deviance of the Contraception models.
formulas <- c(cm1 = "use ~ age + I(age^2) + urban + livch + (1|district)", cm2 = "use ~ age + I(age^2) + urban + ch + (1|district)",
  cm3 = "use ~ age*ch + I(age^2) + urban + (1|district)", cm4 = "use ~ age*ch + I(age^2) + urban + (urban|district)",
  cm5 = "use ~ age*ch + I(age^2) + urban + (1|urban:district) + (1|district)", cm6 = "use ~ age*ch + I(age^2) + urban + (1|urban:district)")
fits <- Map(function(id, f) glmm_case(list(id = id, data = "Contraception", formula = f, family = "binomial"), frames), names(formulas), formulas)
# The exact values go into the fits, so that the table is of them.
models <- Map(function(r, f) {
  m <- attr(r, "fit")
  m@call <- as.call(list(quote(glmer), formula = as.formula(f), data = quote(Contraception), family = quote(binomial)))
  m@devcomp$cmp["dev"] <- r$objective
  m
}, fits, formulas)
invisible(list2env(models, environment()))
table_of <- function(a) list(rows = I(rownames(a)), columns = I(colnames(a)), values = lapply(a, function(x) I(num(x))), heading = I(as.character(attr(a, "heading"))))
anovas <- list(all = table_of(anova(cm1, cm2, cm3, cm4, cm5, cm6)), cm1_cm2 = table_of(anova(cm1, cm2)), cm3_cm4 = table_of(anova(cm3, cm4)),
  cm5_cm6 = table_of(anova(cm5, cm6)), cm4_cm1_exact = lapply(fits, function(r) list(logLik = r$logLik, npar = r$npar)))
names(anovas)[5] <- "exact"

# glm, to the last digit; for a dispersion or shape the maximum likelihood value and its log-likelihood, with
# weights that multiply the log density.
tight <- glm.control(epsilon = 1e-15, maxit = 200)
read_any <- function(name) {
  meta <- fromJSON(file.path("data", paste0(name, ".json")), simplifyVector = FALSE)
  d <- read.csv(file.path("data", paste0(name, ".csv")), colClasses = "character")
  as.data.frame(mapply(function(x, m) if (m$kind == "factor") factor(x, unlist(m$levels)) else as.numeric(x), d, meta[names(d)], SIMPLIFY = FALSE))
}
plain <- list(glmm = read_any("glmm"), glmm_scale = read_any("glmm_scale"), cbpp = lme4::cbpp)
GL <- function(id, data, formula, family, weights = NULL) list(id = id, data = data, formula = formula, family = family, weights = weights)
glms <- list(
  GL("logit", "cbpp", "cbind(incidence, size - incidence) ~ period", "binomial"), GL("poisson_identity", "glmm", "root ~ x", "poisson('identity')"), GL("probit", "glmm", "cbind(succ, fail) ~ x + z", "binomial('probit')"),
  GL("cloglog", "glmm", "cbind(succ, fail) ~ x + z", "binomial('cloglog')"), GL("cauchit", "glmm", "cbind(succ, fail) ~ x + z", "binomial('cauchit')"),
  GL("log", "glmm", "rare ~ x", "binomial('log')"), GL("bernoulli", "glmm", "bern ~ x + z", "binomial"),
  GL("bernoulli_weights", "glmm", "bern ~ x + z", "binomial", "w"), GL("poisson", "glmm", "events ~ z + offset(log(e))", "poisson"),
  GL("poisson_weights", "glmm", "events ~ z + offset(log(e))", "poisson", "v"), GL("poisson_sqrt", "glmm", "root ~ x", "poisson('sqrt')"),
  GL("gamma_log", "glmm_scale", "glog ~ x + offset(log(e))", "Gamma('log')"), GL("gamma_inverse", "glmm_scale", "ginv ~ x", "Gamma('inverse')"),
  GL("gamma_weights", "glmm_scale", "glog ~ x + offset(log(e))", "Gamma('log')", "v"), GL("ig_log", "glmm_scale", "iglog ~ x", "inverse.gaussian('log')"),
  GL("ig_inverse_square", "glmm_scale", "igsq ~ x", "inverse.gaussian('1/mu^2')", "w"), GL("gaussian_log", "glmm_scale", "nlog ~ x", "gaussian('log')"),
  GL("gaussian_inverse", "glmm_scale", "ninv ~ x", "gaussian('inverse')", "v"), GL("nb_shape2", "glmm_scale", "nb ~ x + offset(log(e))", "negative.binomial(2)"),
  GL("nb", "glmm_scale", "nb ~ x + offset(log(e))", "nb"), GL("nb_weights", "glmm_scale", "nb ~ x + offset(log(e))", "nb", "w"))
plain_case <- function(cs) {
  d <- plain[[cs$data]]; f <- as.formula(cs$formula); environment(f) <- environment()
  prior <- if (is.null(cs$weights)) rep(1, nrow(d)) else num(d[[cs$weights]])
  start <- if (grepl("gaussian", cs$family) && !grepl("inverse.g", cs$family)) pmax(num(d[[all.vars(f)[1]]]), .2)
  m <- suppressWarnings(if (cs$family == "nb") glm.nb(f, d, weights = prior, control = glm.control(epsilon = 1e-14, maxit = 500)) else
    glm(f, eval(parse(text = cs$family)), d, weights = prior, control = tight, mustart = start))
  fam <- m$family$family
  kind <- if (grepl("Negative", fam)) "nbinom2" else fam
  known <- cs$family == "negative.binomial(2)"
  y <- num(m$y); w <- num(m$prior.weights); mu <- num(fitted(m))
  free <- !(kind %in% c("binomial", "poisson") || known)
  ll <- function(lphi) sum(kinds[[kind]]$logd(y, mu, w, exp(lphi)))
  extra <- if (known) 2 else if (free) {
    o <- optimize(ll, c(-8, 8), maximum = TRUE, tol = 1e-9)$maximum
    for (i in 1:5) o <- o - numDeriv::grad(ll, o) / drop(numDeriv::hessian(ll, o))
    exp(o)
  } else 1
  cat(cs$id, format(ll(log(extra)), digits = 12), format(num(logLik(m)), digits = 12), format(extra), if (cs$family == "nb") format(m$theta, digits = 9), "\n")
  c(cs, list(program = R.version.string, link = m$family$link, beta = I(num(coef(m))), beta_names = I(names(coef(m))), extra = if (free || known) extra,
    extra_name = if (kind == "nbinom2") "shape" else if (free) "dispersion", logLik = ll(log(extra)), deviance = num(deviance(m)), mu = I(head(mu, 8)),
    residuals = residuals_of(m, 8), working_weights = I(head(num(m$weights), 8))))
}
write_json_file(list(program = program(), script = "glmm_object.R", cases = objects, gamma = gamma_fit, anova = anovas, glm = lapply(glms, plain_case)), "glmm_object.json")
