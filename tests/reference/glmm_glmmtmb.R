# Makes glmm_glmmtmb.json and its data: models whose family has a dispersion or a shape, and weights and offsets, by
# glmmTMB, with Newton steps on its exact gradient; each value checked against the criterion of glmm_record.R.
# The inverse Gaussian and quadrature, which glmmTMB has not, are by glmm_record.R alone.
#   cd tests/reference && Rscript glmm_glmmtmb.R
# gamma.csv is simulated: Gamma with log link, shape 2, mean exp(1 + .5 x + .7 b_g).
source("glmm_record.R")
suppressMessages(library(glmmTMB))
r4 <- function(x) round(x, 4)
read_frame <- function(name) {
  meta <- fromJSON(file.path("data", paste0(name, ".json")), simplifyVector = FALSE)
  d <- read.csv(file.path("data", paste0(name, ".csv")), colClasses = "character")
  as.data.frame(mapply(function(x, m) if (m$kind == "factor") factor(x, unlist(m$levels)) else as.numeric(x), d, meta[names(d)], SIMPLIFY = FALSE))
}
frames <- list(gamma = read_frame("gamma"), grouseticks = lme4::grouseticks)
fix <- function(d) { rownames(d) <- NULL; d }
frames$epil2 <- local({d <- glmmTMB::epil2; d$subject <- factor(d$subject); fix(d[c("y", "trt", "subject", "Base", "Age", "Visit")])})
frames$owls <- fix(glmmTMB::Owls[c("Nest", "FoodTreatment", "SexParent", "ArrivalTime", "SiblingNegotiation", "BroodSize", "logBroodSize")])
frames$salamanders <- local({d <- glmmTMB::Salamanders[c("site", "mined", "sample", "DOP", "spp", "count")]; d$site <- factor(as.character(d$site)); fix(d)})

set.seed(20250311)
n <- 300
d <- data.frame(g = factor(paste0("g", sample(25, n, TRUE)), levels = paste0("g", 1:25)), x = r4(runif(n, -1, 1)), z = r4(runif(n, -1, 1)))
d$e <- r4(runif(n, .5, 3)); d$w <- sample(1:3, n, TRUE); d$v <- r4(runif(n, .3, 2.5)); d$size <- sample(4:12, n, TRUE)
b <- as.numeric(scale(rnorm(25)))[d$g]; b1 <- rnorm(25)[d$g]
s4 <- function(x) signif(x, 5)
rig <- function(mu, phi) { nu <- rnorm(length(mu))^2; a <- mu + mu^2 * phi * nu / 2 - mu * phi / 2 * sqrt(4 * mu * nu / phi + mu^2 * nu^2)
  ifelse(runif(length(mu)) <= mu / (mu + a), a, mu^2 / a) }
gam <- function(mu, shape) rgamma(length(mu), shape, scale = mu / shape)
d$ginv <- s4(gam(1 / (1.6 + .5 * d$x + .25 * b), 4)); d$glog <- s4(d$e * gam(exp(.3 + .4 * d$x + .5 * b + .3 * b1 * d$x), 3))
d$nlog <- r4(exp(1 + .3 * d$x + .4 * b) + rnorm(n, sd = .7)); d$ninv <- r4(1 / (.5 + .1 * d$x + .06 * b) + rnorm(n, sd = .4))
d$nslope <- r4(exp(1 + .3 * d$x + .4 * b + .3 * b1 * d$x) + rnorm(n, sd = .7))
d$iglog <- s4(rig(exp(.2 + .4 * d$x + .4 * b), .3)); d$igsq <- s4(rig(1 / sqrt(1.5 + .4 * d$x + .25 * b), .4))
d$nb <- rnbinom(n, size = 1.8, mu = d$e * exp(.6 + .4 * d$x + .6 * b)); d$succ <- rbinom(n, d$size, plogis(-.3 + .6 * d$x + .8 * b))
d$fail <- d$size - d$succ
d$events <- rpois(n, d$e * exp(.2 + .3 * d$x + .5 * b + .3 * b1 * d$x)); d$nbroot <- rnbinom(n, size = 4, mu = (2 + .3 * d$x + .4 * b)^2)
frames$glmm_scale <- droplevels(d)

# The covariance factor of one term, dense lower triangle by columns, from glmmTMB's log sds and correlation.
to_theta <- function(t, k) {
  if (k == 1) return(exp(t))
  L <- diag(k); L[2, 1] <- t[3]
  L <- diag(exp(t[1:2])) %*% (L / sqrt(rowSums(L^2)))
  L[lower.tri(L, TRUE)]
}
G <- function(id, data, formula, family, ...) list(id = id, data = data, formula = formula, family = family, nAGQ = 1, ...)
kind_of <- function(fam) if (grepl("nbinom", fam)) "nbinom2" else fam

# The arrays, by lme4's formula reader: a Poisson or Gaussian fit never runs.
arrays <- function(cs, d, kind, link) {
  f <- as.formula(cs$formula)
  gf <- suppressMessages(suppressWarnings(lFormula(if (grepl("^cbind", cs$formula)) update(f, size ~ .) else f, d,
    control = lmerControl(check.nobs.vs.nRE = "ignore", check.nobs.vs.nlev = "ignore"))))
  y <- num(model.response(gf$fr)); w <- if (is.null(cs$weights)) rep(1, nrow(d)) else num(d[[cs$weights]])
  if (grepl("^cbind", cs$formula)) { y <- d$succ / d$size; w <- w * d$size }
  off <- rep(0, nrow(d)); if (!is.null(model.offset(gf$fr))) off <- off + model.offset(gf$fr)
  if (!is.null(cs$offset)) off <- off + eval(parse(text = cs$offset), d)
  P <- pieces(gf$X, gf$reTrms, y, w, off, kind, link)
  if (grepl("^cbind", cs$formula) && !is.null(cs$weights)) P$constant <- sum(num(d[[cs$weights]]) * lchoose(d$size, d$succ) - lchoose(w, w * y))
  P$cnms <- gf$reTrms$cnms; P$Gp <- gf$reTrms$Gp; P$asgn <- attr(gf$reTrms$flist, "assign")
  P
}
theta_names <- function(P) unlist(lapply(seq_along(P$cnms), function(i) { nm <- P$cnms[[i]]; g <- names(P$cnms)[i]
  unlist(lapply(seq_along(nm), function(j) paste0(g, ".", nm[j:length(nm)], ifelse(j:length(nm) == j, "", paste0(".", nm[j]))))) }))
split_theta <- function(P, theta) { k <- lengths(P$cnms); split(theta, rep(seq_along(k), k * (k + 1) / 2)) }
factor_of <- function(t, k) { L <- matrix(0, k, k); L[lower.tri(L, TRUE)] <- t; L }
var_corr_of <- function(P, theta) unlist(Map(function(t, nm, g) {
  S <- tcrossprod(factor_of(t, length(nm))); sd <- sqrt(diag(S))
  c(lapply(seq_along(nm), function(i) list(grp = g, var1 = nm[i], var2 = NULL, vcov = S[i, i], sdcor = sd[i])),
    if (length(nm) > 1) list(list(grp = g, var1 = nm[1], var2 = nm[2], vcov = S[1, 2], sdcor = S[1, 2] / prod(sd[1:2])))) },
  split_theta(P, theta), P$cnms, names(P$cnms)), recursive = FALSE, use.names = FALSE)
own_start <- function(P, cs) {
  fam <- switch(P$kind, nbinom2 = poisson(P$link), inverse.gaussian = inverse.gaussian(P$link), Gamma = Gamma(P$link), gaussian = gaussian(P$link), get(P$kind)(P$link))
  X <- P$X
  more <- if (P$kind == "gaussian") list(mustart = pmax(P$y, .2))
  num(coef(suppressWarnings(do.call(glm, c(list(P$y ~ 0 + X, fam, weights = P$w, offset = P$off), more)))))
}

tmb_case <- function(cs) {
  d <- frames[[cs$data]]
  fam <- eval(parse(text = cs$family))
  if (is.function(fam)) fam <- fam()
  kind <- fam$family; link <- fam$link
  P <- arrays(cs, d, kind, link)
  extra <- !(kind %in% c("binomial", "poisson")) && is.null(cs$shape)
  phi <- if (is.null(cs$shape)) 1 else cs$shape
  nt <- length(P$lower); p <- ncol(P$X); k <- lengths(P$cnms)
  H <- NULL
  if (!isTRUE(cs$own)) {
    a <- list(formula = as.formula(cs$formula), data = d, family = fam,
      control = glmmTMBControl(optCtrl = list(rel.tol = 1e-14, iter.max = 1e4, eval.max = 1e4)))
    if (!is.null(cs$weights)) a$weights <- d[[cs$weights]]
    if (!is.null(cs$offset)) a$offset <- eval(parse(text = cs$offset), d)
    a$start <- list(beta = own_start(P, cs))
    if (!is.null(cs$shape)) { a$start$betad <- log(cs$shape); a$map <- list(betad = factor(NA)) }
    m <- suppressWarnings(do.call(glmmTMB, a))
    obj <- m$obj; obj$env$inner.control$tol <- 1e-13; obj$env$inner.control$grad.tol <- 1e-12; obj$env$silent <- TRUE
    par <- m$fit$par; nm <- names(par)
    gr <- function(v) num(obj$gr(v))
    for (it in 1:4) {
      se <- if (it == 1) pmax(.05, .05 * abs(par)) else sqrt(diag(solve(H)))
      J <- numDeriv::jacobian(function(v) gr(par + (v - 1) * se / 2), rep(1, length(par))) / rep(se / 2, each = length(par))
      H <- (J + t(J)) / 2
      par <- par - solve(H, gr(par))
    }
    tmb_value <- 2 * num(obj$fn(par)); se <- sqrt(diag(solve(H)))
    beta <- num(par[nm == "beta"]); raw <- num(par[nm == "theta"])
    # glmmTMB keeps the terms in the formula's order, lme4 by falling number of levels.
    groups <- names(m$modelInfo$reTrms$cond$cnms); labels <- sapply(m$modelInfo$reTrms$cond$cnms, paste, collapse = "+")
    counts <- lengths(m$modelInfo$reTrms$cond$cnms); parts <- split(raw, rep(seq_along(counts), counts * (counts + 1) / 2))
    key <- paste(names(P$cnms), sapply(P$cnms, paste, collapse = "+")); tkey <- paste(groups, labels)
    theta <- unlist(Map(to_theta, parts[match(key, tkey)], counts[match(key, tkey)]))
    if (extra) { sign <- if (kind == "Gamma") -1 else 1; phi <- exp(sign * num(par[nm == "betad"])) }
    start <- c(num(theta), beta, if (extra) log(phi))
  } else start <- c(c(.5, 0, .5)[if (nt == 3) 1:3 else rep(1, nt)], own_start(P, cs), if (extra) log(if (kind == "nbinom2") 2 else .5))
  f <- make_criterion(P, "observed", cs$nAGQ, extra, phi)
  if (isTRUE(cs$own)) { for (i in 1:3) start <- nlminb(start, f, lower = c(P$lower, rep(-Inf, length(start) - nt)), control = list(rel.tol = 1e-12))$par }
  r <- refine(f, start, bounded = which(P$lower == 0))
  s <- f(r$par, TRUE)
  if (extra) phi <- exp(r$par[nt + p + 1])
  theta <- r$par[1:nt]; beta <- r$par[nt + 1:p]
  value <- r$value
  cat(sprintf("%-26s %15.8f grad %.1e", cs$id, value, r$gradient))
  if (!isTRUE(cs$own)) cat(sprintf(" glmmTMB %+.1e moved %.1e se %.1e", tmb_value - value, max(abs((r$par - start) / r$se)), max(abs(r$se[nt + 1:p] / se[nm == "beta"] - 1))))
  cat(" phi", format(phi), "theta", format(theta), "\n")
  point <- c(round(theta * 1.1 + ifelse(P$lower == 0, .02, -.02), 3), signif(beta * .97, 3), if (extra) signif(log(phi) + .1, 3))
  vc <- 2 * solve(r$hessian)
  list(id = cs$id, program = if (isTRUE(cs$own)) paste("glmm_record.R,", R.version.string) else paste("glmmTMB", packageVersion("glmmTMB"), R.version.string),
    data = cs$data, formula = cs$formula, family = kind, link = link, nAGQ = cs$nAGQ, weights = cs$weights, offset = cs$offset, shape_known = cs$shape,
    theta = I(theta), theta_names = I(theta_names(P)), theta_se = I(r$se[1:nt]), beta = I(beta), beta_names = I(colnames(P$X)), se = I(r$se[nt + 1:p]),
    extra_name = if (extra) if (kind == "nbinom2") "shape" else "dispersion", extra = if (extra) phi, log_extra_se = if (extra) r$se[nt + p + 1],
    glmmtmb = if (!isTRUE(cs$own)) list(theta = I(raw), theta_se = I(num(se[nm == "theta"])), se = I(num(se[nm == "beta"])), logLik = -tmb_value / 2,
      betad = if (extra) num(par[nm == "betad"]), betad_se = if (extra) num(se[nm == "betad"])),
    logLik = -value / 2, objective = value, npar = length(r$par), nobs = length(P$y), singular = length(r$free) < length(r$par),
    free = I(r$free), vcov_all = lapply(seq_len(nrow(vc)), function(i) I(num(vc[i, ]))),
    VarCorr = var_corr_of(P, theta), ngrps = as.list(sapply(P$flist, nlevels)), u_norm2 = sum(s$u^2), ldL2 = s$ldL2, mu = I(head(s$rows$mu, 6)),
    ranef = ranef_of(P, s), at = list(theta = I(point[1:nt]), beta = I(point[nt + 1:p]), extra = if (extra) exp(point[nt + p + 1]), value = f(point)),
    converged = list(gradient = r$gradient, glmmtmb_difference = if (!isTRUE(cs$own)) tmb_value - value), message = NULL)
}
agq <- function(cs, k) modifyList(cs, list(id = paste0(cs$id, "_agq", k), nAGQ = k, own = TRUE))
gamma_log <- G("gamma_log", "gamma", "y ~ x + (1|g)", "Gamma('log')")
nb_plain <- G("nb_offset", "glmm_scale", "nb ~ x + offset(log(e)) + (1|g)", "nbinom2")
ig_log <- G("ig_log", "glmm_scale", "iglog ~ x + (1|g)", "inverse.gaussian('log')", own = TRUE)
gaussian_log <- G("gaussian_log", "glmm_scale", "nlog ~ x + (1|g)", "gaussian('log')")
cases <- list(gamma_log, agq(gamma_log, 9), agq(gamma_log, 25),
  G("gamma_inverse", "glmm_scale", "ginv ~ x + (1|g)", "Gamma('inverse')"),
  G("gamma_offset", "glmm_scale", "glog ~ x + offset(log(e)) + (1|g)", "Gamma('log')"),
  G("gamma_slope", "glmm_scale", "glog ~ x + offset(log(e)) + (x|g)", "Gamma('log')"),
  G("gamma_weights", "glmm_scale", "glog ~ x + offset(log(e)) + (1|g)", "Gamma('log')", weights = "w"),
  G("gamma_weights_real", "glmm_scale", "glog ~ x + z + (1|g)", "Gamma('log')", weights = "v", offset = "log(e)"),
  gaussian_log, agq(gaussian_log, 9),
  G("gaussian_inverse", "glmm_scale", "ninv ~ x + (1|g)", "gaussian('inverse')"),
  G("gaussian_log_slope", "glmm_scale", "nslope ~ x + (x|g)", "gaussian('log')"),
  G("gaussian_log_weights", "glmm_scale", "nlog ~ x + (1|g)", "gaussian('log')", weights = "v"),
  ig_log, agq(ig_log, 9), agq(ig_log, 25),
  G("ig_inverse_square", "glmm_scale", "igsq ~ x + (1|g)", "inverse.gaussian('1/mu^2')", own = TRUE),
  G("ig_log_weights", "glmm_scale", "iglog ~ x + (1|g)", "inverse.gaussian('log')", weights = "w", own = TRUE),
  nb_plain, agq(nb_plain, 9),
  G("nb_known2", "glmm_scale", "nb ~ x + offset(log(e)) + (1|g)", "nbinom2", shape = 2),
  G("nb_weights", "glmm_scale", "nb ~ x + offset(log(e)) + (1|g)", "nbinom2", weights = "w"),
  G("nb_weights_real", "glmm_scale", "nb ~ x + z + (1|g)", "nbinom2", weights = "v", offset = "log(e)"),
  G("nb_sqrt", "glmm_scale", "nbroot ~ x + (1|g)", "nbinom2('sqrt')"),
  G("nb_grouseticks", "grouseticks", "TICKS ~ YEAR + (1|BROOD) + (1|LOCATION)", "nbinom2"),
  G("nb_epil2", "epil2", "y ~ Base*trt + Age + Visit + (Visit|subject)", "nbinom2"),
  G("nb_owls", "owls", "SiblingNegotiation ~ FoodTreatment * SexParent + offset(logBroodSize) + (1|Nest)", "nbinom2"),
  G("nb_salamanders", "salamanders", "count ~ mined + (1|site) + (1|spp)", "nbinom2"),
  G("nb_salamanders_spp", "salamanders", "count ~ spp * mined + (1|site)", "nbinom2"),
  G("poisson_owls", "owls", "SiblingNegotiation ~ FoodTreatment * SexParent + offset(logBroodSize) + (1|Nest)", "poisson"),
  G("poisson_weights_offset", "glmm_scale", "events ~ x + offset(log(e)) + (x|g)", "poisson", weights = "w"),
  G("poisson_weights_real", "glmm_scale", "events ~ x + offset(log(e)) + (1|g)", "poisson", weights = "v"),
  G("binomial_weights_offset", "glmm_scale", "cbind(succ, fail) ~ x + offset(.5 * z) + (1|g)", "binomial", weights = "w"))

write_data(frames[c("epil2", "owls", "salamanders", "glmm_scale")], "data")
only <- commandArgs(TRUE)
if (length(only)) cases <- Filter(function(cs) cs$id %in% only, cases)
fits <- lapply(cases, function(cs) tryCatch(tmb_case(cs), error = function(e) { cat(cs$id, "FAILED", conditionMessage(e), "\n"); NULL }))
if (!length(only)) write_json_file(list(program = paste("glmmTMB", packageVersion("glmmTMB"), R.version.string), script = "glmm_glmmtmb.R",
  note = paste("theta: lower triangle of each term's factor of the covariance matrix on the link scale, by columns, terms in lme4's order; extra: the dispersion",
               "phi (variance phi V(mu)) or the shape (variance mu + mu^2/shape), its standard error on the log scale; vcov_all: of the free entries of",
               "c(theta, beta, log extra), `free` counts from 1;",
               "weights multiply the log density; the rows of M have the observed information; glmmtmb: its own parameters, theta = log sd and",
               "rho/sqrt(1-rho^2), betad = log shape (nbinom2, Gamma) or log phi (gaussian)"), cases = Filter(Negate(is.null), fits)), "glmm_glmmtmb.json")
