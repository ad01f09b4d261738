# Makes lmlist.json: separate regressions by lme4's lmList.
#   cd tests/reference && Rscript lmlist.R
# Generalized models are searched to the last digits; a group for which glm has no result is left out of its frame (NA).
suppressMessages({library(lme4); library(jsonlite)})
num <- function(x) unname(as.numeric(x))
frame <- function(d) list(groups = I(rownames(d)), columns = I(colnames(d)), values = unname(as.matrix(d)))
data <- list(sleepstudy = lme4::sleepstudy, cake = lme4::cake, cbpp = lme4::cbpp, Pastes = lme4::Pastes, grouseticks = lme4::grouseticks)
data$sleepstudy_w <- transform(lme4::sleepstudy, w = rep(c(1, 2, 0.5), 60))
# The first subject has one day only, the second a single row, and rows 0, 7, 14, ... are dropped.
data$unbalanced <- local({ d <- lme4::sleepstudy; d$Days[1:10] <- 3; d[!((seq_len(180) - 1) %% 7 == 0 | (seq_len(180) %in% 12:20)), ] })
data$missing <- local({ d <- lme4::sleepstudy; d$Reaction[c(3, 50, 77)] <- NA; d$Days[120] <- NA; d })
# With missing values lme4 1.1-31 stops in fitted() and residuals().
rows <- function(f, m) tryCatch(num(head(f(m), 20)), error = function(e) NULL)
# summary() of generalized regressions with a dispersion stops too, where it would pool.
tests <- function(m) tryCatch(coef(summary(m)), error = function(e) NULL)
column <- function(k, j) if (is.null(k)) NULL else unname(sapply(dimnames(k)[[3]], function(v) k[, j, v]))
# lme4 1.1-31 pools unweighted residuals, and counts all coefficients of groups that lack some: its sigma is right only where
# there are no weights and nothing is aliased.
by_hand <- function(m) { df <- sapply(m, df.residual); sqrt(sum(ifelse(df > 0, df * sapply(m, sigma)^2, 0)) / sum(df)) }
one <- function(id, frame_name, formula, ...) {
  call <- as.call(c(quote(lmList), list(as.formula(formula), data = as.name(".d")), eval(substitute(alist(...)))))
  assign(".d", data[[frame_name]], globalenv())
  m <- suppressWarnings(eval(call, globalenv()))
  k <- tests(m)
  glm <- "family" %in% names(call)
  ci <- if (glm) NULL else confint(m, level = 0.9)
  own <- suppressWarnings(eval(as.call(c(as.list(call), pool = FALSE)), globalenv()))
  ks <- tests(own)
  list(id = id, data = frame_name, formula = formula, coef = frame(coef(m)), fixef = as.list(fixef(m)), ranef = frame(as.data.frame(unclass(ranef(m)), check.names = FALSE)),
       sigma = if (glm) NA else sigma(m), df = if (glm) NA else sum(sapply(m, df.residual)),
       errors = column(k, 2), p_values = column(k, 4),
       own_errors = column(ks, 2), own_p_values = column(ks, 4), sigma_by_hand = if (glm) NA else by_hand(m), own_p_values = column(ks, 4),
       limits = if (glm) NULL else lapply(dimnames(ci)[[3]], function(v) unname(ci[, , v])),
       loglik = tryCatch(as.numeric(logLik(m)), error = function(e) NA), fitted = rows(fitted, m), residuals = rows(residuals, m))
}
cases <- list(
  one("sleep", "sleepstudy", "Reaction ~ Days | Subject"),
  one("quadratic", "sleepstudy", "Reaction ~ Days + I(Days^2) | Subject"),
  one("weights", "sleepstudy_w", "Reaction ~ Days | Subject", weights = w),
  one("unbalanced", "unbalanced", "Reaction ~ Days | Subject"),
  one("missing", "missing", "Reaction ~ Days | Subject"),
  one("factor", "cake", "angle ~ temp + recipe | replicate"),
  one("means", "Pastes", "strength ~ 1 | sample"),
  one("poisson", "grouseticks", "TICKS ~ cHEIGHT | YEAR", family = poisson, control = list(epsilon = 1e-14)),
  one("binomial", "cbpp", "cbind(incidence, size - incidence) ~ 1 | herd", family = binomial, control = list(epsilon = 1e-14)),
  one("gamma", "sleepstudy", "Reaction ~ Days | Subject", family = Gamma("log"), control = list(epsilon = 1e-14)))
writeLines(toJSON(list(program = paste("lme4", packageVersion("lme4"), R.version.string), script = "lmlist.R", cases = cases),
                  auto_unbox = TRUE, digits = NA, pretty = FALSE, null = "null", na = "null"), "lmlist.json")
