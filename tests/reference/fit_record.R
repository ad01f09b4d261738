# Functions that more_lmm.R and lmm_acceptance.R share: fit with lme4 to the last digits, and record the fit.
# Needs R with lme4 and jsonlite.
suppressMessages({library(lme4); library(jsonlite)})
num <- function(x) unname(as.numeric(x))

# Central differences of fourth order with a step a coordinate; their error is far below what a Newton step needs.
gradient <- function(f, x, h) vapply(seq_along(x), function(i) {
  e <- replace(numeric(length(x)), i, h[i])
  (8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h[i])
}, 0)
hessian <- function(f, x, h) {
  H <- matrix(0, length(x), length(x))
  for (i in seq_along(x)) {
    e <- replace(numeric(length(x)), i, h[i])
    H[i, ] <- (gradient(f, x + e, h) - gradient(f, x - e, h)) / (2 * h[i])
  }
  (H + t(H)) / 2
}

# Put each small diagonal entry on its bound, and noise to zero, if the criterion does not notice.
snap <- function(devfun, theta, lower) {
  for (i in which(lower == 0 & abs(theta) < 1e-3 | abs(theta) < 1e-8)) {
    trial <- replace(theta, i, 0)
    if (devfun(trial) <= devfun(theta) + 1e-9) theta <- trial
  }
  theta
}

# Newton steps over the entries of theta that are not on their bound: derivative-free search alone
# leaves theta about 1e-6 away from the optimum.
polish <- function(devfun, theta, lower, steps = 4) {
  free <- which(!(lower == 0 & theta == 0))
  if (!length(free)) return(theta)
  f <- function(v) devfun(replace(theta, free, v))
  v <- theta[free]
  h <- ifelse(lower[free] == 0, 1e-3 * pmin(1, abs(v)), 1e-3)
  for (k in seq_len(steps)) {
    H <- hessian(f, v, h)
    scale <- 1 / sqrt(abs(diag(H)))
    if (min(eigen(H * tcrossprod(scale), symmetric = TRUE, only.values = TRUE)$values) <= 1e-6) break
    step <- scale * solve(H * tcrossprod(scale), scale * gradient(f, v, h))
    if (max(abs(step)) > 1e-2 || f(v - step) > f(v) + 1e-9) break
    v <- v - step
    if (max(abs(step)) < 1e-10) break
  }
  replace(theta, free, v)
}

# The fit of one case: restarted bobyqa to 1e-11, entries at a bound put on it, Newton steps.
fit_case <- function(cs, frames, newton = TRUE) {
  d <- frames[[cs$data]]
  ctl <- lmerControl(optimizer = "nloptwrap", check.rankX = "silent.drop.cols", check.nlev.gtr.1 = "ignore",
                     optCtrl = list(xtol_abs = 1e-11, ftol_abs = 1e-11, maxeval = 1e5))
  f <- as.formula(if (is.null(cs$r_formula)) cs$formula else cs$r_formula)
  a <- list(formula = f, data = d, REML = isTRUE(cs$REML), control = ctl)
  if (!is.null(cs$weights)) a$weights <- d[[cs$weights]]
  if (!is.null(cs$offset)) a$offset <- eval(parse(text = cs$offset), d)
  if (!is.null(cs$na_action)) a$na.action <- get(cs$na_action)
  if (!is.null(cs$contrasts)) a$contrasts <- cs$contrasts
  lf <- suppressWarnings(do.call(lFormula, a))
  devfun <- do.call(mkLmerDevfun, c(lf, list(control = ctl)))
  best <- NULL
  for (k in 1:3) {
    opt <- suppressWarnings(optimizeLmer(devfun, optimizer = "nloptwrap", control = ctl$optCtrl,
             start = if (is.null(best)) NULL else best$par))
    if (!is.null(best) && opt$fval > best$fval - 1e-10) break
    best <- opt
  }
  lower <- lf$reTrms$lower
  theta <- snap(devfun, best$par, lower)
  if (newton) theta <- polish(devfun, theta, lower)
  best$par <- theta
  best$fval <- devfun(theta)
  m <- mkMerMod(environment(devfun), best, lf$reTrms, fr = lf$fr)
  m@call <- as.call(c(quote(lmer), a))
  m
}

labelled <- function(r, rows = nrow(r)) list(levels = I(head(rownames(r), rows)), names = I(names(r)),
  values = lapply(names(r), function(nm) I(head(num(r[[nm]]), rows))))
var_corr <- function(m) {
  vc <- as.data.frame(VarCorr(m))
  lapply(seq_len(nrow(vc)), function(i) list(grp = vc$grp[i], var1 = vc$var1[i], var2 = vc$var2[i],
                                             vcov = vc$vcov[i], sdcor = vc$sdcor[i]))
}
# The first level's matrix by rows; a list of matrices where several terms share the factor.
cond_var <- function(m) lapply(ranef(m, condVar = TRUE), function(r) {
  pv <- attr(r, "postVar")
  first <- function(z) lapply(seq_len(nrow(z)), function(i) I(num(z[i, , 1])))
  if (is.list(pv)) lapply(unname(pv), first) else list(first(pv))
})

record <- function(cs, m, full = TRUE) {
  ll <- logLik(m)
  X <- getME(m, "X")
  out <- list(id = cs$id, data = cs$data, formula = cs$formula, REML = isTRUE(cs$REML), weights = cs$weights,
    offset = cs$offset, na_action = cs$na_action, contrasts = cs$contrasts,
    theta = I(num(getME(m, "theta"))), theta_names = I(names(getME(m, "theta"))), beta = I(num(fixef(m))),
    beta_names = I(as.character(names(fixef(m)))), se = I(num(sqrt(diag(as.matrix(vcov(m)))))),
    X_names = I(as.character(colnames(X))), dropped = I(as.character(names(attr(X, "col.dropped")))),
    sigma = num(sigma(m)), logLik = num(ll), npar = attr(ll, "df"), nobs = nobs(m), AIC = num(AIC(ll)),
    BIC = num(BIC(ll)), df_residual = df.residual(m),
    # Without fixed effects the two criteria are one, and lme4 takes the fit for maximum likelihood.
    objective = if (isREML(m)) num(REMLcrit(m)) else num(-2 * ll),
    VarCorr = var_corr(m), ngrps = as.list(sapply(m@flist, nlevels)),
    components = I(names(getME(m, "cnms"))), singular = isSingular(m, tol = 1e-4),
    ranef = lapply(ranef(m, condVar = FALSE), labelled, rows = 6), condVar = cond_var(m),
    ldL2 = num(getME(m, "devcomp")$cmp["ldL2"]), pwrss = num(getME(m, "devcomp")$cmp["pwrss"]))
  if (!full) return(out)
  out$coef <- lapply(unclass(coef(m)), labelled)
  attr(out$coef, "class") <- NULL
  out$vcov <- lapply(seq_len(ncol(X)), function(i) I(num(as.matrix(vcov(m))[i, ])))
  out$fitted <- I(num(fitted(m)))
  out$resid_pearson <- I(head(num(residuals(m, "pearson")), 12))
  out$resid_response <- I(head(num(residuals(m, "response")), 12))
  out$resid_scaled <- I(head(num(residuals(m, "pearson", scaled = TRUE)), 12))
  out
}

# Data that mixef does not ship: NAME.csv, numbers with 17 digits, and NAME.json with kinds and levels.
write_data <- function(frames, dir) for (nm in names(frames)) {
  d <- as.data.frame(frames[[nm]])
  cells <- lapply(d, function(x) if (is.double(x)) ifelse(is.na(x), NA, sprintf("%.17g", x)) else as.character(x))
  write.csv(as.data.frame(cells), file.path(dir, paste0(nm, ".csv")), row.names = FALSE, quote = FALSE)
  kind <- function(x) unbox(if (is.factor(x)) "factor" else typeof(x))
  meta <- lapply(d, function(x) c(list(kind = kind(x)),
    if (is.factor(x)) list(levels = levels(x), ordered = unbox(is.ordered(x)))))
  writeLines(toJSON(meta), file.path(dir, paste0(nm, ".json")))
}
program <- function() paste("lme4", packageVersion("lme4"), R.version.string)
write_json_file <- function(x, path) writeLines(
  toJSON(x, auto_unbox = TRUE, digits = NA, null = "null", na = "null", pretty = 1), path)
