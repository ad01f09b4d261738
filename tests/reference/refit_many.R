# Regenerates refit_many.json: lme4 on shifted responses, each fit brought to the last digits.
#   Rscript refit_many.R        (in tests/reference)
# Response j of a model is its response moved down by SHIFTS[j] rows, the last ones coming first:
# the design stays, and nothing has to be exported.
source("fit_record.R")
data(sleepstudy, cake, Penicillin, Pastes, Dyestuff2, package = "lme4")
sleepstudy_w <- transform(sleepstudy, w = rep(c(1, 2, 0.5), 60))
SHIFTS <- c(0, 1, 7, 23)
moved <- function(y, k) if (k == 0) y else c(tail(y, k), head(y, -k))
fits <- function(id, data, formula, REML = TRUE, weights = NULL) {
  f <- as.formula(formula, env = new.env())  # lFormula writes its arguments there
  response <- all.vars(f)[1]
  one <- function(k) {
    d <- get(data)
    d[[response]] <- moved(as.numeric(d[[response]]), k)
    a <- list(f, data = d, REML = REML)
    if (!is.null(weights)) a$weights <- d[[weights]]
    m <- do.call(tight, a)
    list(shift = k, objective = if (REML) num(REMLcrit(m)) else num(-2 * logLik(m)),
         beta = I(num(fixef(m))), sigma = num(sigma(m)),
         sd = I(num(unlist(lapply(VarCorr(m), attr, "stddev")))), singular = isSingular(m, tol = 1e-4))
  }
  list(id = id, data = data, formula = formula, REML = REML, weights = weights, fits = lapply(SHIFTS, one))
}
tight <- function(...) {
  a <- list(...)
  lf <- suppressWarnings(suppressMessages(do.call(lFormula, a)))
  devfun <- do.call(mkLmerDevfun, lf)
  best <- NULL
  for (k in 1:4) {
    opt <- suppressWarnings(optimizeLmer(devfun, optimizer = "nloptwrap",
             control = list(xtol_abs = 1e-12, ftol_abs = 1e-12, maxeval = 10000),
             start = if (is.null(best)) NULL else best$par))
    if (is.null(best) || opt$fval < best$fval) best <- opt
  }
  theta <- polish(devfun, snap(devfun, best$par, lf$reTrms$lower), lf$reTrms$lower)
  best$par <- theta
  best$fval <- devfun(theta)
  mkMerMod(environment(devfun), best, lf$reTrms, fr = lf$fr)
}
cases <- list(
  fits("sleepstudy", "sleepstudy", "Reaction ~ Days + (Days | Subject)"),
  fits("sleepstudy ML", "sleepstudy", "Reaction ~ Days + (Days | Subject)", REML = FALSE),
  fits("sleepstudy weighted", "sleepstudy_w", "Reaction ~ Days + (Days || Subject)", weights = "w"),
  fits("cake", "cake", "angle ~ recipe * temperature + (1 | recipe:replicate)"),
  fits("Penicillin", "Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
  fits("Pastes", "Pastes", "strength ~ 1 + (1 | batch/cask)"),
  fits("Dyestuff2", "Dyestuff2", "Yield ~ 1 + (1 | Batch)"))
writeLines(toJSON(list(program = paste("lme4", packageVersion("lme4"), R.version.string),
                       script = "refit_many.R", cases = cases), auto_unbox = TRUE, digits = NA,
                  pretty = TRUE, null = "null"), "refit_many.json")
