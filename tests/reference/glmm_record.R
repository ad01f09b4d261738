# Functions that the glmm_*.R scripts share: the criterion of a generalized linear mixed model evaluated to the
# last digits, Newton steps to its optimum, its Hessian, and the record of a fit.
# lme4 and glmmTMB stop their inner search early, and lme4's Hessian is made of differences of that; so the fits
# start from theirs and end on the criterion below, whose difference from theirs is recorded with each case.
# Needs R with lme4, numDeriv and jsonlite.
source("fit_record.R")
suppressMessages({library(Matrix); library(numDeriv)})

# Second derivative of the mean for the linear predictor, by link; and derivative of the variance, by family.
mu_2 <- list(
  logit = function(eta) { m <- plogis(eta); m * (1 - m) * (1 - 2 * m) }, probit = function(eta) -eta * dnorm(eta),
  cloglog = function(eta) exp(eta - exp(eta)) * (1 - exp(eta)), cauchit = function(eta) -2 * eta / (pi * (1 + eta^2)^2),
  log = function(eta) exp(eta), identity = function(eta) 0 * eta, inverse = function(eta) 2 / eta^3,
  sqrt = function(eta) 2 + 0 * eta, `1/mu^2` = function(eta) .75 * eta^-2.5)
mu_1 <- list(
  logit = function(eta) { m <- plogis(eta); m * plogis(-eta) }, probit = dnorm, cloglog = function(eta) exp(eta - exp(eta)),
  cauchit = dcauchy, log = exp, identity = function(eta) 1 + 0 * eta, inverse = function(eta) -1 / eta^2,
  sqrt = function(eta) 2 * eta, `1/mu^2` = function(eta) -.5 * eta^-1.5)
mu_0 <- list(
  logit = plogis, probit = pnorm, cloglog = function(eta) -expm1(-exp(eta)), cauchit = pcauchy, log = exp,
  identity = function(eta) eta, inverse = function(eta) 1 / eta, sqrt = function(eta) eta^2, `1/mu^2` = function(eta) 1 / sqrt(eta))
# A family here: log density of rows (weights multiply it), variance and its derivative, dispersion; phi is the
# further parameter: the dispersion, or the shape of the negative binomial.
kinds <- list(
  binomial = list(logd = function(y, mu, w, phi) dbinom(round(w * y), round(w), mu, log = TRUE),
    V = function(mu, phi) mu * (1 - mu), V1 = function(mu, phi) 1 - 2 * mu, disp = function(phi) 1, ok = function(mu) all(mu > 0 & mu < 1)),
  poisson = list(logd = function(y, mu, w, phi) w * dpois(y, mu, log = TRUE),
    V = function(mu, phi) mu, V1 = function(mu, phi) 1 + 0 * mu, disp = function(phi) 1, ok = function(mu) all(mu > 0)),
  Gamma = list(logd = function(y, mu, w, phi) w * dgamma(y, shape = 1 / phi, scale = mu * phi, log = TRUE),
    V = function(mu, phi) mu^2, V1 = function(mu, phi) 2 * mu, disp = function(phi) phi, ok = function(mu) all(mu > 0)),
  inverse.gaussian = list(logd = function(y, mu, w, phi) -.5 * w * (log(2 * pi * phi * y^3) + (y - mu)^2 / (phi * mu^2 * y)),
    V = function(mu, phi) mu^3, V1 = function(mu, phi) 3 * mu^2, disp = function(phi) phi, ok = function(mu) all(mu > 0)),
  gaussian = list(logd = function(y, mu, w, phi) w * dnorm(y, mu, sqrt(phi), log = TRUE),
    V = function(mu, phi) 1 + 0 * mu, V1 = function(mu, phi) 0 * mu, disp = function(phi) phi, ok = function(mu) all(is.finite(mu))),
  nbinom2 = list(logd = function(y, mu, w, phi) w * dnbinom(y, size = phi, mu = mu, log = TRUE),
    V = function(mu, phi) mu + mu^2 / phi, V1 = function(mu, phi) 1 + 2 * mu / phi, disp = function(phi) 1, ok = function(mu) all(mu > 0)))

# The arrays of a model: y is the proportion and w the trials for the binomial. `f` is glFormula's answer or a merMod.
pieces <- function(X, reTrms, y, w, off, kind, link) list(X = X, Zt = reTrms$Zt, Lambdat = reTrms$Lambdat, Lind = reTrms$Lind,
  lower = reTrms$lower, flist = reTrms$flist, y = num(y), w = num(w), off = num(off), kind = kind, link = link)
pieces_of <- function(m, kind = family(m)$family, link = family(m)$link) {
  reTrms <- list(Zt = getME(m, "Zt"), Lambdat = getME(m, "Lambdat"), Lind = getME(m, "Lind"), lower = getME(m, "lower"), flist = getME(m, "flist"))
  P <- pieces(getME(m, "X"), reTrms, m@resp$y, m@resp$weights, m@resp$offset, kind, link)
  c(P, list(cnms = getME(m, "cnms"), Gp = getME(m, "Gp"), asgn = attr(getME(m, "flist"), "assign")))
}

# All that the rows give at a linear predictor: log density, its derivative for eta, expected and observed weights.
rows_at <- function(P, eta, phi) {
  k <- kinds[[P$kind]]
  mu <- mu_0[[P$link]](eta)
  if (!all(is.finite(mu)) || !k$ok(mu) || (P$link %in% c("inverse", "1/mu^2", "sqrt") && P$kind != "gaussian" && any(eta <= 0))) return(NULL)
  d1 <- mu_1[[P$link]](eta); V <- k$V(mu, phi); V1 <- k$V1(mu, phi); r <- P$w * (P$y - mu) / k$disp(phi)
  We <- P$w * d1^2 / (V * k$disp(phi))
  # The variance of the negative binomial holds phi, so the same formulas serve.
  list(mu = mu, logd = sum(k$logd(P$y, mu, P$w, phi)), score = r * d1 / V, We = We,
       Wo = We - r * (mu_2[[P$link]](eta) / V - d1^2 * V1 / V^2))
}

# The conditional mode of u (of u and beta when `joint`): scoring steps with halving, then Newton steps, to the
# last digit. M is the matrix of the Laplace approximation with expected or observed weights.
solver <- function(P, information) {
  store <- new.env()
  store$u <- numeric(nrow(P$Zt)); store$beta <- NULL; store$theta0 <- NULL
  function(theta, beta, phi, joint = FALSE) {
    P$Lambdat@x[] <- theta[P$Lind]
    Ut <- as(P$Lambdat %*% P$Zt, "generalMatrix")
    if (joint) Ut <- rbind(Ut, as(t(P$X), "CsparseMatrix"))
    q <- nrow(P$Zt); pen <- c(rep(1, q), rep(0, nrow(Ut) - q))
    base <- if (joint) P$off else P$off + num(P$X %*% beta)
    v <- if (joint) c(store$u, beta) else store$u
    at <- function(v) rows_at(P, base + num(crossprod(Ut, v)), phi)
    now <- at(v)
    if (is.null(now)) { v <- c(numeric(q), if (joint) beta); now <- at(v) }
    if (is.null(now)) return(NULL)
    value <- function(r, v) if (is.null(r)) Inf else -2 * r$logd + sum(pen * v^2)
    matrix_of <- function(W) forceSymmetric(Ut %*% (W * t(Ut)) + Diagonal(x = pen))
    newton <- FALSE; last <- Inf
    for (it in 1:200) {
      g <- num(Ut %*% now$score) - pen * v
      step <- if (newton) tryCatch(num(solve(matrix_of(now$Wo), g)), error = function(e) num(solve(matrix_of(now$We), g))) else
        num(solve(matrix_of(now$We), g))
      if (sum(step * g) < 0) step <- num(solve(matrix_of(now$We), g))
      f <- 1
      old <- value(now, v)
      repeat {
        new <- at(v + f * step)
        if (value(new, v + f * step) <= old + 1e-9 * abs(old) + 1e-12 || f < 1e-8) break
        f <- f / 2
      }
      if (is.null(new)) return(NULL)
      v <- v + f * step; now <- new
      size <- max(abs(f * step))
      newton <- size < 1e-2
      if (size < 1e-12 || (newton && size >= last && size < 1e-9)) break
      last <- size
    }
    store$u <- v[seq_len(q)]
    W <- if (information == "expected") now$We else now$Wo
    Uu <- Ut[seq_len(q), , drop = FALSE]
    M <- forceSymmetric(Uu %*% (W * t(Uu)) + Diagonal(q))
    list(u = v[seq_len(q)], beta = if (joint) v[-seq_len(q)] else beta, rows = now, M = M, U = Uu, base = base, W = W, P = P,
         ldL2 = num(determinant(M)$modulus), steps = it)
  }
}

# -2 log likelihood as a function of c(theta, beta, log phi); Laplace, or adaptive quadrature over the levels of
# one grouping factor with k nodes a dimension about the mode, in the Cholesky axes of M.
make_criterion <- function(P, information = "expected", k = 1, extra = FALSE, phi = 1) {
  solve_mode <- solver(P, information)
  nt <- length(P$lower); p <- ncol(P$X)
  rule <- if (k > 1) GHrule(k)
  one <- function(par, detail = FALSE) {
    if (extra) phi <- exp(par[nt + p + 1])
    s <- solve_mode(par[seq_len(nt)], par[nt + seq_len(p)], phi)
    if (is.null(s)) return(if (detail) NULL else 1e10)
    s$phi <- phi
    s$value <- if (k == 1) -2 * s$rows$logd + sum(s$u^2) + s$ldL2 else quadrature(P, s, rule, phi)
    # What the binomial coefficients of weighted rows differ by from those of weight times size trials.
    if (!is.null(P$constant)) s$value <- s$value - 2 * P$constant
    if (detail) s else s$value
  }
  one
}
# Product rule; l levels, d columns a level. The columns of U go by levels.
quadrature <- function(P, s, rule, phi) {
  g <- P$flist[[1]]; l <- nlevels(g); d <- nrow(P$Zt) / l
  grid <- as.matrix(expand.grid(rep(list(seq_len(nrow(rule))), d)))
  z <- matrix(rule[grid, "z"], ncol = d); w <- apply(matrix(rule[grid, "w"], ncol = d), 1, prod)
  u <- matrix(s$u, d)
  gi <- as.integer(g)
  block <- function(A, i, j) vapply(1:d, function(c) A[cbind((i - 1) * d + c, j)], numeric(length(i)))
  a <- matrix(block(s$U, gi, seq_along(gi)), ncol = d)
  R <- if (d == 1) as.list(sqrt(diag(s$M))) else
    lapply(seq_len(l), function(j) chol(as.matrix(s$M[(j - 1) * d + 1:d, (j - 1) * d + 1:d, drop = FALSE])))
  logd <- matrix(0, l, nrow(z))
  k <- kinds[[P$kind]]
  for (j in seq_len(nrow(z))) {
    uj <- if (d == 1) u + z[j] / unlist(R) else vapply(seq_len(l), function(i) u[, i] + backsolve(R[[i]], z[j, ]), numeric(d))
    mu <- mu_0[[P$link]](s$base + rowSums(a * t(uj)[gi, , drop = FALSE]))
    logd[, j] <- rowsum(k$logd(P$y, mu, P$w, phi), g, reorder = TRUE)[, 1] - colSums(matrix(uj^2, d)) / 2 + sum(z[j, ]^2) / 2 + log(w[j])
  }
  top <- apply(logd, 1, max)
  -2 * sum(top + log(rowSums(exp(logd - top)))) + s$ldL2
}
# nAGQ = 0: u and beta go together, theta alone is searched.
make_criterion_0 <- function(P, beta) {
  solve_mode <- solver(P, "expected")
  function(theta, detail = FALSE) {
    s <- solve_mode(theta, beta, 1, joint = TRUE)
    s$value <- -2 * s$rows$logd + sum(s$u^2) + s$ldL2
    if (detail) s else s$value
  }
}

# Derivatives by Richardson extrapolation with steps in units of `scale`.
hess_at <- function(f, x, scale) hessian_num(function(v) f(x + (v - 1) * scale), rep(1, length(x))) / tcrossprod(scale)
hessian_num <- function(f, x) numDeriv::hessian(f, x)
grad_at <- function(f, x, scale) numDeriv::grad(function(v) f(x + (v - 1) * scale), rep(1, length(x))) / scale
# Newton steps over the entries that are free; ends with gradient times standard error below 1e-7 or so.
refine <- function(f, x, free = rep(TRUE, length(x)), steps = 8, bounded = integer()) {
  for (i in bounded) if (abs(x[i]) < 1e-2 && f(replace(x, i, 0)) <= f(x) + 1e-9) { x[i] <- 0; free[i] <- FALSE }
  free <- which(free)
  sub <- function(v) f(replace(x, free, v))
  v <- x[free]; scale <- pmax(1e-3, .02 * abs(v))
  for (it in seq_len(steps)) {
    H <- hess_at(sub, v, scale); g <- grad_at(sub, v, scale)
    e <- eigen(H, symmetric = TRUE)$values
    if (min(e) <= 0) { warning("Hessian not positive definite"); break }
    step <- solve(H, g); se <- sqrt(2 * diag(solve(H)))
    t <- 1
    while (sub(v - t * step) > sub(v) + 1e-9 && t > 1e-4) t <- t / 2
    v <- v - t * step
    # Steps of a third of a standard error: large against rounding, small against the curvature's own scale.
    scale <- se / 3
    if (any(free %in% bounded)) { b <- free %in% bounded; scale[b] <- pmin(scale[b], .5 * abs(v[b])) }
    if (max(abs(step / se)) < 1e-7 && it > 1) break
  }
  H <- hess_at(sub, v, scale)
  x <- replace(x, free, v)
  se <- rep(NA_real_, length(x)); se[free] <- sqrt(2 * diag(solve(H)))
  list(par = x, value = f(x), hessian = H, free = free, se = se, gradient = max(abs(grad_at(sub, v, scale) * se[free])), steps = it)
}

control <- glmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e5, rhobeg = .02, rhoend = 1e-9), tolPwrss = 1e-12, calc.derivs = FALSE,
  check.conv.singular = "ignore", check.conv.grad = "ignore", check.conv.hess = "ignore", check.rankX = "silent.drop.cols")
arguments <- function(cs, d) {
  a <- list(formula = as.formula(cs$formula), data = d, family = eval(parse(text = cs$family)), nAGQ = as.integer(cs$nAGQ), control = control)
  if (!is.null(cs$weights)) a$weights <- d[[cs$weights]]
  if (!is.null(cs$offset)) a$offset <- eval(parse(text = cs$offset), d)
  if (!is.null(cs$contrasts)) a$contrasts <- lapply(cs$contrasts, function(x) if (is.character(x)) x else do.call(rbind, x))
  a
}
# The merMod at given parameters, its Hessian (for c(theta, beta)) set to H.
at_parameters <- function(a, theta, beta, H = NULL) {
  gf <- suppressWarnings(do.call(glFormula, c(a[setdiff(names(a), "nAGQ")])))
  devfun <- do.call(mkGlmerDevfun, c(gf, list(control = control)))
  if (a$nAGQ > 0) devfun <- updateGlmerDevfun(devfun, gf$reTrms, nAGQ = a$nAGQ)
  par <- if (a$nAGQ > 0) c(theta, beta) else theta
  value <- tryCatch(devfun(par), error = function(e) NA)
  for (k in 1:3) value <- tryCatch(devfun(par), error = function(e) value)
  opt <- list(par = par, fval = value, feval = 1, conv = 0, message = NULL, warnings = NULL, control = list())
  attr(opt, "optimizer") <- "bobyqa"; attr(opt, "control") <- list()
  opt$derivs <- NULL
  call <- as.call(c(quote(glmer), a))
  m <- mkMerMod(environment(devfun), opt, gf$reTrms, fr = gf$fr, mc = call)
  m@devcomp$dims["nAGQ"] <- as.integer(a$nAGQ)
  if (!is.null(H)) m@optinfo$derivs <- list(gradient = numeric(length(par)), Hessian = H)
  list(fit = m, value = num(value))
}
saturated <- function(P, phi = 1) sum(kinds[[P$kind]]$logd(P$y, P$y, P$w, phi))

# Conditional modes and variances, term by term; condVar has the matrices of the levels kept, each by rows.
ranef_of <- function(P, s, rows = 6) {
  B <- num(crossprod(s$P$Lambdat, s$u)); V <- as.matrix(crossprod(s$P$Lambdat, solve(s$M, as.matrix(s$P$Lambdat))))
  lapply(seq_along(P$cnms), function(i) {
    k <- length(P$cnms[[i]]); at <- (P$Gp[i] + 1):P$Gp[i + 1]; m <- matrix(B[at], ncol = k, byrow = TRUE)
    list(grp = names(P$cnms)[i], names = I(P$cnms[[i]]), levels = I(head(levels(P$flist[[P$asgn[i]]]), rows)), values = lapply(1:k, function(j) I(head(m[, j], rows))),
      condVar = lapply(seq_len(min(rows, nrow(m))), function(l) lapply(1:k, function(j) I(V[at[(l - 1) * k + j], at[(l - 1) * k + 1:k]]))))
  })
}
# R_X'R_X, the inverse of lme4's covariance matrix of beta without the Hessian.
rx_crossprod <- function(P, s) {
  WX <- s$W * P$X
  as.matrix(crossprod(P$X, WX) - crossprod(as.matrix(s$U %*% WX), as.matrix(solve(s$M, s$U %*% WX))))
}

# One lme4 case: its fit, then Newton steps on the criterion. `own` marks quadrature that lme4 does not offer.
glmm_case <- function(cs, frames) {
  started <- proc.time()[3]
  if (is.null(cs$nAGQ)) cs$nAGQ <- 1
  d <- frames[[cs$data]]
  a <- arguments(cs, d)
  own <- isTRUE(cs$own)
  if (own) a$nAGQ <- 1L
  m0 <- suppressMessages(suppressWarnings(do.call(glmer, a)))
  P <- pieces_of(m0)
  nt <- length(P$lower)
  theta <- num(getME(m0, "theta")); beta <- num(fixef(m0))
  bounded <- which(P$lower == 0)
  if (cs$nAGQ == 0) {
    f <- make_criterion_0(P, beta)
    r <- refine(f, theta, bounded = bounded)
    s <- f(r$par, TRUE); theta <- r$par; beta <- s$beta
    se <- sqrt(diag(solve(rx_crossprod(P, s)))); H <- NULL
  } else {
    f <- make_criterion(P, "expected", cs$nAGQ)
    r <- refine(f, c(theta, beta), bounded = bounded)
    s <- f(r$par, TRUE); theta <- r$par[seq_len(nt)]; beta <- r$par[-seq_len(nt)]; se <- r$se[-seq_len(nt)]
    H <- matrix(0, length(r$par), length(r$par)); diag(H) <- 1; H[r$free, r$free] <- r$hessian
  }
  at <- at_parameters(a, theta, beta, H)
  m <- at$fit
  sat <- saturated(P)
  value <- r$value
  lme4_value <- if (cs$nAGQ > 1) value + 2 * sat else value
  th1 <- round(theta * 1.1 + ifelse(P$lower == 0, .05, -.02), 3); be1 <- signif(beta * .9, 3)
  point <- if (cs$nAGQ > 0) list(theta = I(th1), beta = I(be1), value = f(c(th1, be1)))
  out <- list(id = cs$id, program = if (own) paste("quadrature() of glmm_record.R,", R.version.string) else program(), data = cs$data, formula = cs$formula, family = family(m)$family, link = family(m)$link,
    nAGQ = cs$nAGQ, weights = cs$weights, offset = cs$offset, contrasts = cs$contrasts,
    theta = I(theta), theta_names = I(names(getME(m, "theta"))), theta_se = if (cs$nAGQ > 0) I(r$se[seq_len(nt)]),
    beta = I(beta), beta_names = I(names(fixef(m0))), se = I(num(se)), dispersion = NULL, sigma = sigma(m),
    logLik = -value / 2, objective = value, lme4_logLik = if (!own) -lme4_value / 2, saturated = sat, npar = nt + length(beta), nobs = nobs(m),
    VarCorr = var_corr(m), ngrps = as.list(sapply(m@flist, nlevels)), components = I(names(getME(m, "cnms"))),
    singular = isSingular(m, tol = 1e-4), u_norm2 = sum(s$u^2), ldL2 = s$ldL2,
    deviance = num(deviance(m)), mu = I(head(s$rows$mu, 6)), ranef = lapply(ranef(m, condVar = FALSE), labelled, rows = 6),
    at = point, converged = list(gradient = r$gradient, lme4_difference = if (!own) at$value - lme4_value,
    mode_difference = max(abs(num(getME(m, "u")) - s$u)), below_lme4_search = if (!own) num(-2 * logLik(m0)) - lme4_value), message = NULL)
  if (!is.null(H)) out$vcov <- lapply(seq_along(beta), function(i) I(num(2 * solve(H)[nt + i, nt + seq_along(beta)])))
  cat(sprintf("%-28s %14.8f grad %.1e lme4 %+.1e mode %.1e below %+.1e steps %d %s %.1fs\n", cs$id, value, r$gradient, if (own) NA else at$value - lme4_value,
    out$converged$mode_difference, if (own) NA else out$converged$below_lme4_search, r$steps, if (out$singular) "singular" else "", proc.time()[3] - started))
  attr(out, "fit") <- m
  attr(out, "pieces") <- P
  attr(out, "mode") <- s
  out
}
