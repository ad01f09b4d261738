# Makes glmm_integrand.json: the unscaled conditional density of each level's u about its mode, against the normal
# density that the Laplace approximation puts in its place (figures 1 and 2 of the lme4 paper on generalized linear
# mixed models: equations 20 and 23), and the rules of lme4's GHrule.
#   cd tests/reference && Rscript glmm_integrand.R
source("glmm_record.R")
suppressMessages(library(mlmRev))
data(Contraception, package = "mlmRev")
Contraception$ch <- factor(ifelse(Contraception$livch == "0", "N", "Y"))
frames <- list(cbpp = lme4::cbpp, Contraception = Contraception)
z <- seq(-5, 5, by = .5)
integrand <- function(cs) {
  r <- glmm_case(cs, frames)
  P <- attr(r, "pieces"); s <- attr(r, "mode"); g <- P$flist[[1]]; k <- kinds[[P$kind]]
  sd <- 1 / sqrt(diag(s$M))
  lam <- r$theta
  # log f of every level at u; u has one entry a level.
  logf <- function(u) rowsum(k$logd(P$y, mu_0[[P$link]](s$base + lam * u[g]), P$w, 1), g)[, 1] - u^2 / 2
  top <- logf(s$u)
  ratio <- sapply(z, function(zj) exp(logf(s$u + zj * sd) - top))
  exact <- sapply(seq_along(sd), function(l) {
    rows <- which(as.integer(g) == l)
    h <- function(v) vapply(v, function(zj) { u <- s$u[l] + zj * sd[l]
      exp(sum(k$logd(P$y[rows], mu_0[[P$link]](s$base[rows] + lam * u), P$w[rows], 1)) - u^2 / 2 - top[l]) * dnorm(0) }, 0)
    integrate(h, -12, 12, rel.tol = 1e-11, subdivisions = 1000)$value
  })
  list(id = cs$id, data = cs$data, formula = cs$formula, family = "binomial", theta = I(r$theta), beta = I(r$beta), logLik = r$logLik, levels = I(levels(g)),
    size = I(as.integer(table(g))), u = I(num(s$u)), sd = I(num(sd)), z = I(z), ratio = lapply(seq_along(sd), function(l) I(num(ratio[l, ]))),
    t = lapply(seq_along(sd), function(l) I(num(ratio[l, ] / exp(-z^2 / 2)))), exact = I(exact), exact_logLik = r$logLik + sum(log(exact)))
}
cases <- lapply(list(
  list(id = "contra_cm2", data = "Contraception", formula = "use ~ age + I(age^2) + urban + ch + (1|district)", family = "binomial"),
  list(id = "cbpp", data = "cbpp", formula = "cbind(incidence, size - incidence) ~ period + (1|herd)", family = "binomial")), integrand)
rules <- lapply(c(1, 2, 3, 5, 9, 25, 50, 100), function(k) { r <- GHrule(k); list(k = k, z = I(num(r[, "z"])), w = I(num(r[, "w"])), ldnorm = I(num(r[, "ldnorm"]))) })
write_json_file(list(program = program(), script = "glmm_integrand.R",
  note = paste("ratio: f(u + z sd | y) / f(u | y), u the mode and sd = 1 / sqrt of M's entry; t: ratio over exp(-z^2/2); exact: the integral of",
               "ratio over the normal's constant, so that the product of exact and the Laplace value is the likelihood"),
  cases = cases, rules = rules), "glmm_integrand.json")
