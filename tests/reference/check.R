# Makes check.json: what performance (and, beside it, R's own tests) says of the health of some fits.
#   cd tests/reference && Rscript check.R
# `heteroscedasticity` has Breusch and Pagan's statistic of squared Pearson residuals on fitted values and Koenker's, by lm;
# `performance_p` is what performance::check_heteroscedasticity says of the same fit.
source("fit_record.R")
suppressMessages(library(performance))
cake$x <- cake$temp / 10
linear <- list(
  sleep = lmer(Reaction ~ Days + (Days | Subject), sleepstudy),
  square = lmer(Reaction ~ Days + I(Days^2) + (1 | Subject), sleepstudy),
  cake = lmer(angle ~ recipe + temp + (1 | recipe:replicate), cake))
of_linear <- function(m) {
  r <- residuals(m, type = "pearson"); f <- fitted(m)
  U <- r^2 / mean(r^2)
  a <- anova(lm(U ~ f))
  W <- shapiro.test(r)
  modes <- lapply(ranef(m), function(b) lapply(b, function(v) num(shapiro.test(v)$p.value)))
  list(bp = a[1, "Sum Sq"] / 2, koenker = length(r) * a[1, "Sum Sq"] / sum(a[, "Sum Sq"]),
    performance_p = num(check_heteroscedasticity(m)),
    shapiro = num(W$statistic), shapiro_p = num(W$p.value), modes_p = num(unlist(modes)),
    vif = if (length(fixef(m)) > 2) num(as.data.frame(check_collinearity(m))$VIF) else numeric())
}
counts <- list(
  ticks = glmer(TICKS ~ YEAR + (1 | BROOD) + (1 | LOCATION), grouseticks, poisson),
  cbpp = glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial))
of_counts <- function(m) {
  over <- check_overdispersion(m)
  zeros <- if (family(m)$family == "poisson") check_zeroinflation(m) else NULL
  list(chisq = num(over$chisq_statistic), ratio = num(over$dispersion_ratio), df = num(over$residual_df), p_value = num(over$p_value),
    zeros = num(zeros$observed.zeros), expected_zeros = num(sum(if (is.null(zeros)) NA else dpois(0, fitted(m)))))
}
write_json_file(list(program = paste(program(), "performance", packageVersion("performance")), script = "check.R",
  linear = lapply(linear, of_linear), counts = lapply(counts, of_counts)), "check.json")
