# Makes any_density.json and its data: families of other densities (beta, beta-binomial, negative binomial with linear
# variance, Student's t) by glmmTMB. The optimum is polished by Newton steps on glmmTMB's own exact gradient.
#   cd tests/reference && Rscript any_density.R
suppressMessages({library(glmmTMB); library(jsonlite)})
set.seed(20260311)
r4 <- function(x) round(x, 4)
n <- 240
d <- data.frame(g = sample(24, n, TRUE), h = sample(10, n, TRUE), x = r4(runif(n, -1, 1)), w = sample(3, n, TRUE), size = sample(2:12, n, TRUE), e = r4(runif(n, -.5, .5)))
b0 <- rnorm(24, sd = .6)[d$g]; b1 <- rnorm(24, sd = .5)[d$g]; b2 <- rnorm(10, sd = .5)[d$h]
eta <- .2 + .6 * d$x + d$e + b0 + b1 * d$x + b2
mu <- plogis(eta); m <- exp(eta)
d$share <- r4(pmin(pmax(rbeta(n, mu * 6, (1 - mu) * 6), .001), .999))
d$succ <- rbinom(n, d$size, rbeta(n, mu * 4, (1 - mu) * 4)); d$fail <- d$size - d$succ
d$count <- rnbinom(n, size = m / 1.2, mu = m)
d$heavy <- r4(eta + .4 * rt(n, 3))
write.csv(d, "data/any_density.csv", row.names = FALSE)
cat(toJSON(lapply(d, function(v) list(kind = "numeric")), auto_unbox = TRUE), file = "data/any_density.json")

random <- c(scalar = "(1 | g)", vector = "(x | g)", crossed = "(x | g) + (1 | h)")
families <- list(
  beta = list(y = "share", tmb = "beta_family", links = c("logit", "probit", "cloglog")),
  betabinomial = list(y = "cbind(succ, fail)", tmb = "betabinomial", links = c("logit", "probit", "cloglog")),
  nbinom1 = list(y = "count", tmb = "nbinom1", links = c("log", "sqrt")),
  t = list(y = "heavy", tmb = "t_family", links = c("identity")))

one <- function(name, link, structure, weights = NULL, offset = FALSE) {
  f <- families[[name]]
  text <- paste0(f$y, " ~ x + ", if (offset) "offset(e) + ", random[[structure]])
  fam <- do.call(f$tmb, list(link = link))
  args <- list(formula = as.formula(text), data = d, family = fam)
  if (!is.null(weights)) args$weights <- d[[weights]]
  fit <- suppressWarnings(do.call(glmmTMB, args))
  obj <- fit$obj; par <- fit$fit$par
  for (i in 1:6) {
    H <- optimHess(par, obj$fn, obj$gr); step <- solve(H, as.numeric(obj$gr(par))); par <- par - step
    if (max(abs(step)) < 1e-9) break
  }
  value <- obj$fn(par); V <- solve(optimHess(par, obj$fn, obj$gr)); nm <- names(par)
  sds <- unlist(lapply(VarCorr(fit)$cond, function(v) attr(v, "stddev")))
  list(id = paste(c(name, link, structure, weights, if (offset) "offset"), collapse = " "), formula = text,
    family = paste0(name, "(", link, ")"), weights = weights, m2ll = 2 * value, gradient = max(abs(obj$gr(par))),
    beta = as.numeric(par[nm == "beta"]), se = sqrt(diag(V))[nm == "beta"], logs = as.numeric(c(par[nm == "betad"], par[nm %in% c("psi", "thetaf")])),
    se_logs = sqrt(diag(V))[nm %in% c("betad", "psi", "thetaf")], names = unique(nm), sds = as.numeric(sds))
}
out <- list()
for (name in names(families)) for (link in families[[name]]$links) for (s in if (link == families[[name]]$links[1]) names(random) else "vector") {
  cat(name, link, s, "\n"); out[[length(out) + 1]] <- one(name, link, s)
}
for (name in names(families)) {
  out[[length(out) + 1]] <- one(name, families[[name]]$links[1], "scalar", weights = "w", offset = TRUE)
}
writeLines(toJSON(list(cases = out), digits = NA, auto_unbox = TRUE, pretty = 1, null = "null"), "any_density.json")
