# Makes profile.json: profile intervals of lme4, and deviances with one parameter held, minimized in R.
#   cd tests/reference && Rscript profile.R
# lme4's intervals are interpolated from profiles whose points its derivative-free search has left some 1e-5 of a
# standard error from the constrained optimum: they are known to about 1e-4 of their width. The deviances are
# found here by nlminb from several starts on lme4's own deviance functions, and are known to about 1e-8.
suppressMessages({library(lme4); library(jsonlite)})
num <- function(x) unname(as.numeric(x))
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12, maxeval = 1e5),
                     check.conv.singular = "ignore")
gtight <- glmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 2e5, rhoend = 1e-9), tolPwrss = 1e-13,
                       check.conv.singular = "ignore", check.conv.grad = "ignore", check.conv.hess = "ignore")
sleepstudy_w <- within(sleepstudy, w <- rep(c(1, 2, 0.5), 60))
data(Contraception, package = "mlmRev")
frames <- list(sleepstudy = sleepstudy, sleepstudy_w = sleepstudy_w, Dyestuff = Dyestuff, Dyestuff2 = Dyestuff2,
  Penicillin = Penicillin, Pastes = Pastes, cake = cake, cbpp = cbpp, Contraception = Contraception)

# Minimum of f over its free arguments, from several starts, each until restarts gain nothing.
lowest <- function(f, start, spread = 0.3) {
  safe <- function(v) { d <- tryCatch(suppressWarnings(f(v)), error = function(e) NA); if (is.finite(d)) d else 1e10 }
  if (!length(start)) return(safe(start))
  ctl <- list(rel.tol = 1e-15, abs.tol = 0, x.tol = 1e-12, eval.max = 5000, iter.max = 5000)
  best <- Inf; set.seed(1)
  for (k in 0:3) {
    s <- if (k == 0) start else start + spread * rnorm(length(start)) * pmax(abs(start), 0.1)
    last <- Inf
    for (again in 1:20) {
      o <- nlminb(s, safe, scale = 1 / pmax(abs(start), 0.01), control = ctl); s <- o$par
      o <- optim(s, safe, method = "BFGS", control = list(reltol = 1e-15, maxit = 500, parscale = pmax(abs(start), 0.01)))
      s <- o$par; if (last - o$value < 1e-10) break
      last <- o$value
    }
    best <- min(best, o$value)
  }
  best
}

# theta of one term from standard deviations (relative) and the angle whose sine is the correlation
half <- function(sd, phi) if (length(sd) == 1) sd else c(sd[1], sd[2] * sin(phi), sd[2] * cos(phi))
# natural parameters: for every term its SDs, then the angle of its correlation; log sigma last for a linear model
pieces <- function(m) lapply(m@cnms, length)
theta_of <- function(v, sizes) {
  out <- c(); at <- 0
  for (s in sizes) {
    k <- if (s == 1) 1 else 3
    w <- v[at + seq_len(k)]; at <- at + k
    out <- c(out, half(w[seq_len(s)], if (s == 2) w[3]))
  }
  out
}
natural_start <- function(m) unlist(lapply(VarCorr(m), function(V) {
  sd <- attr(V, "stddev"); c(sd, if (length(sd) == 2) asin(max(-0.999, min(0.999, attr(V, "correlation")[2, 1])))) }))
names_of <- function(m) unlist(lapply(seq_along(m@cnms), function(t) {
  cn <- m@cnms[[t]]; g <- names(m@cnms)[t]
  c(sprintf("sd_%s|%s", cn, g), if (length(cn) == 2) sprintf("cor_%s.%s|%s", cn[2], cn[1], g)) }))

lmm_at <- function(m, d, formula, weights, name, value) {
  sizes <- unlist(pieces(m)); nm <- c(names_of(m), "sigma")
  a <- list(formula = formula, data = d, REML = FALSE, control = tight)
  if (!is.null(weights)) a$weights <- d[[weights]]
  if (name %in% names(fixef(m))) {          # refit with the column in the offset
    X <- getME(m, "X"); j <- match(name, colnames(X))
    d$held_ <- num(value * X[, j]); d$y_ <- num(getME(m, "y"))
    bars <- paste0("(", sapply(findbars(formula), function(b) paste(deparse(b), collapse = "")), ")", collapse = " + ")
    f0 <- as.formula(paste("y_ ~ 1 +", bars)); Xr <- X[, -j, drop = FALSE]
    a2 <- list(formula = f0, data = d, REML = FALSE, control = tight, offset = d$held_)
    if (!is.null(weights)) a2$weights <- d[[weights]]
    lf <- do.call(lFormula, a2); lf$X <- Xr
    df <- if (ncol(Xr)) do.call(mkLmerDevfun, c(lf, list(control = tight))) else NULL
    if (is.null(df)) {                      # no column left: Var(y) by hand
      Z <- as.matrix(getME(m, "Z")); r <- d$y_ - d$held_; n <- length(r)
      w <- if (is.null(weights)) rep(1, n) else d[[weights]]
      at <- function(v) { L <- getME(m, "Lambda"); L@x <- v[getME(m, "Lind")]; ZL <- as.matrix(getME(m, "Z") %*% L)
        V <- diag(1 / w) + tcrossprod(ZL); R <- chol(V); q <- sum(backsolve(R, r, transpose = TRUE)^2)
        2 * sum(log(diag(R))) + n * (1 + log(2 * pi * q / n)) }
      return(lowest(at, getME(m, "theta")))
    }
    return(lowest(function(v) df(v), getME(m, "theta")))
  }
  lf <- do.call(lFormula, a); df <- do.call(mkLmerDevfun, c(lf, list(control = tight))); e <- environment(df)
  n <- nrow(d); slw <- if (is.null(weights)) 0 else sum(log(d[[weights]]))
  at <- function(v) {                        # natural parameters with log sigma last
    s <- exp(v[length(v)]); u <- v[-length(v)]; angle <- grepl("^cor_", nm[-length(nm)])
    u[!angle] <- u[!angle] / s
    df(theta_of(u, sizes))
    pwrss <- e$resp$wrss() + e$pp$sqrL(1)
    e$pp$ldL2() + n * log(2 * pi * s^2) + pwrss / s^2 - slw
  }
  i <- match(name, nm); hold <- if (name == "sigma") log(value) else if (grepl("^cor_", name)) asin(value) else value
  full <- c(natural_start(m), log(sigma(m)))
  lowest(function(v) { w <- full; w[-i] <- v; w[i] <- hold; at(w) }, full[-i])
}
glmm_at <- function(m, name, value) {
  df <- update(m, devFunOnly = TRUE); sizes <- unlist(pieces(m)); nm <- names_of(m); k <- length(nm)
  full <- c(natural_start(m), fixef(m)); i <- match(name, c(nm, names(fixef(m))))
  hold <- if (grepl("^cor_", name)) asin(value) else value
  lowest(function(v) { w <- full; w[-i] <- v; w[i] <- hold; df(c(theta_of(w[seq_len(k)], sizes), w[-seq_len(k)])) },
         full[-i], spread = 0.05)
}

cs <- function(id, data, formula, family = NULL, weights = NULL, held, profile = TRUE)
  list(id = id, data = data, formula = formula, family = family, weights = weights, held = held, profile = profile)
H <- function(...) list(...)
D <- "cor_Days.(Intercept)|Subject"; I <- "sd_(Intercept)|Subject"; S <- "sd_Days|Subject"
cases <- list(
  cs("sleep", "sleepstudy", "Reaction ~ Days + (Days | Subject)",
     held = H(list(I, 15), list(I, 35), list(I, 3), list(S, 4), list(S, 8), list(D, -0.5), list(D, 0.6), list(D, 0.999), list("sigma", 23),
              list("sigma", 28.5), list("(Intercept)", 240), list("(Intercept)", 262), list("Days", 7.5), list("Days", 13))),
  cs("sleep_diag", "sleepstudy", "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)",
     held = H(list(I, 15), list(I, 35), list(I, 0), list(S, 4), list(S, 8), list("sigma", 23), list("Days", 7.5))),
  cs("sleep_weighted", "sleepstudy_w", "Reaction ~ Days + (Days | Subject)", weights = "w",
     held = H(list(I, 16), list(S, 8), list(D, 0.5), list("sigma", 24), list("Days", 7.5))),
  cs("dyestuff", "Dyestuff", "Yield ~ 1 + (1 | Batch)",
     held = H(list("sd_(Intercept)|Batch", 12), list("sd_(Intercept)|Batch", 84), list("sigma", 40), list("(Intercept)", 1490))),
  cs("dyestuff2", "Dyestuff2", "Yield ~ 1 + (1 | Batch)", profile = FALSE,
     held = H(list("sd_(Intercept)|Batch", 1), list("sd_(Intercept)|Batch", 2), list("sigma", 3), list("(Intercept)", 4.5), list("(Intercept)", 8))),
  cs("penicillin", "Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)",
     held = H(list("sd_(Intercept)|plate", 0.7), list("sd_(Intercept)|sample", 1.1), list("sd_(Intercept)|sample", 3.5), list("sigma", 0.5), list("(Intercept)", 21.5))),
  cs("pastes", "Pastes", "strength ~ 1 + (1 | sample) + (1 | batch)",
     held = H(list("sd_(Intercept)|sample", 2.2), list("sd_(Intercept)|batch", 0), list("sd_(Intercept)|batch", 2.5), list("sigma", 1), list("(Intercept)", 61))),
  cs("cake", "cake", "angle ~ recipe + temp + (1 | recipe:replicate)",
     held = H(list("sd_(Intercept)|recipe:replicate", 5), list("sigma", 4.8), list("recipeB", 3), list("temp", 0.12))),
  cs("cbpp", "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial",
     held = H(list("sd_(Intercept)|herd", 0.35), list("sd_(Intercept)|herd", 1), list("(Intercept)", -1.8), list("period2", -1.5), list("period4", -1))),
  cs("contraception", "Contraception", "use ~ age + urban + (urban | district)", "binomial", profile = FALSE,
     held = H(list("sd_urbanY|district", 0.5), list("sd_(Intercept)|district", 0.8), list("cor_urbanY.(Intercept)|district", -0.5), list("urbanY", 0.45), list("age", 0.02))))

one <- function(case) {
  cat(case$id, "\n"); d <- frames[[case$data]]; f <- as.formula(case$formula)
  if (is.null(case$family)) {
    a <- list(formula = f, data = d, REML = FALSE, control = tight)
    if (!is.null(case$weights)) a$weights <- d[[case$weights]]
    m <- do.call(lmer, a); m <- update(m, start = getME(m, "theta"))
    values <- lapply(case$held, function(h) list(name = h[[1]], value = h[[2]],
      deviance = lmm_at(m, d, f, case$weights, h[[1]], h[[2]])))
  } else {
    m <- do.call(glmer, list(formula = f, data = d, family = binomial, control = gtight))
    values <- lapply(case$held, function(h) list(name = h[[1]], value = h[[2]], deviance = glmm_at(m, h[[1]], h[[2]])))
  }
  limits <- NULL
  if (case$profile) {
    ci <- suppressWarnings(confint(profile(m, signames = FALSE)))
    limits <- lapply(rownames(ci), function(r) list(name = r, lower = num(ci[r, 1]), upper = num(ci[r, 2])))
  }
  list(id = case$id, data = case$data, formula = case$formula, family = case$family, weights = case$weights,
       minimum = num(-2 * logLik(m)), held = values, limits = limits)
}
res <- list(program = paste("lme4", packageVersion("lme4"), R.version.string), cases = lapply(cases, one))
writeLines(toJSON(res, auto_unbox = TRUE, digits = NA, null = "null", na = "null", pretty = TRUE), "profile.json")
