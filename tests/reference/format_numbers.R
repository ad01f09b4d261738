# Makes format_numbers.json: numbers, p-values, coefficient tables and abbreviations as R shows
# them. R 4.2.2; run in this folder with: Rscript format_numbers.R
# Numbers are written as text with 17 digits, so that they are read back bit for bit.
library(jsonlite)
options(digits = 7, scipen = 0, width = 80)
set.seed(20240501)
text <- function(x) {
  out <- sprintf("%.17g", x)
  out[is.nan(x)] <- "nan"
  out
}
draw <- function(n, spread) signif(rnorm(n) * 10^runif(n, -spread, spread), sample(c(1, 2, 3, 17), 1))

numbers <- list(
  c(612.1, 35.07166, 654.94), c(0, 0, 47.715), c(1e5, 1), 1e5, 100000, 123456, 1e-5, 0.0001, 1e15,
  c(1e-10, 1), c(-1, 1), c(NaN, 1.5), c(Inf, -Inf, 2), c(1e100, 1), c(1.5, 1e-300), 0, c(0.1, 0.25),
  c(99.995, 1), 0.99999999, c(-0.00012345, 12), 1234567.8, c(3.14159, 1e3)
)
for (i in 1:130) numbers[[length(numbers) + 1]] <- draw(sample(6, 1), sample(c(0.5, 1, 3, 6), 1))
format_cases <- unlist(lapply(numbers, function(x) lapply(c(1, 3, 4, 5, 7), function(digits)
  list(values = I(text(x)), digits = digits, nsmall = 0,
       out = I(format(x, digits = digits))))), recursive = FALSE)
for (i in 1:100) {
  x <- draw(sample(5, 1), 1)
  nsmall <- sample(4, 1)
  format_cases[[length(format_cases) + 1]] <- list(values = I(text(x)), digits = 4, nsmall = nsmall,
                                                   out = I(format(x, digits = 4, nsmall = nsmall)))
}
zap_cases <- lapply(1:100, function(i) {
  x <- rnorm(5) * 10^runif(1, -4, 4)
  list(values = I(text(x)), digits = 5, out = I(format(zapsmall(x, 5), digits = 4)))
})

pvalues <- list(c(0.00107, 0.000474, 0.000182, 1.47e-9), c(0.001068, 0.5, 1.47e-9, 1e-20, 0),
                c(0, 0), c(0.5, 0), c(0.04, 1e-20), 1e-4, 9.9e-5, c(1e-4, 1e-5), 1, c(0.05, 2.3e-16),
                c(2e-16, 0.1234567))
for (i in 1:80) pvalues[[length(pvalues) + 1]] <-
  pmin(1, 10^-(rexp(sample(5, 1), 1 / sample(c(1, 4, 10), 1))))
pvalue_cases <- unlist(lapply(pvalues, function(p) lapply(c(2, 3, 4, 5), function(digits)
  list(values = I(text(p)), digits = digits, out = I(format.pval(p, digits = digits))))),
  recursive = FALSE)

coef_case <- function(estimate, se, df = NULL, p = TRUE, digits = 4) {
  t <- estimate / se
  tab <- cbind(Estimate = estimate, "Std. Error" = se)
  if (!is.null(df)) {
    tab <- cbind(tab, df = df, "t value" = t, "Pr(>|t|)" = 2 * pt(-abs(t), df))
  } else if (p) {
    tab <- cbind(tab, "z value" = t, "Pr(>|z|)" = 2 * pnorm(-abs(t)))
  } else {
    tab <- cbind(tab, "t value" = t)
  }
  rownames(tab) <- paste0("x", seq_along(estimate))
  has_p <- ncol(tab) > 3
  list(columns = I(colnames(tab)), rows = I(rownames(tab)), digits = digits,
       table = lapply(seq_len(nrow(tab)), function(i) I(text(tab[i, ]))),
       out = I(capture.output(printCoefmat(tab, digits = digits, has.Pvalue = has_p, P.values = has_p,
                                           cs.ind = 1:2, tst.ind = if (is.null(df)) 3 else 4))))
}
coef_cases <- list(
  coef_case(c(251.405, 10.467), c(6.825, 1.546), p = FALSE),
  coef_case(c(1e6, 1e-7), c(10, 1e-8), p = FALSE),
  coef_case(c(0, 2.5), c(1, 1)),
  coef_case(c(100, 1e-9, 3), c(10, 1e-3, 2), p = FALSE),
  coef_case(c(-1.3983, -0.9919, -1.1282, -1.5797), c(0.2312, 0.3032, 0.3228, 0.4220))
)
for (i in 1:150) {
  n <- sample(6, 1)
  estimate <- rnorm(n) * 10^runif(n, -3, 3)
  se <- abs(estimate) / 10^runif(n, -1, 1.5)
  df <- if (i %% 3 == 0) runif(n, 2, 200)
  coef_cases[[length(coef_cases) + 1]] <- coef_case(estimate, se, df, i %% 3 == 1, sample(c(3, 4, 4, 6), 1))
}

words <- list(
  c("(Intercept)", "period2", "period3", "period4"), c("(Intercept)", "Days"),
  c("(Intercept)", "recipeB", "temperature.L", "recipeB:temperature.L", "recipeB:temperature^4"),
  c("(Intercept)", "poly(Days, 2)1", "poly(Days, 2)2"), c("service1", "lectage.L", "lectage.Q"),
  c("verylongvariablename", "verylongvariablenames", "verylong variable name"),
  c("AngerGenderM", "btypescold", "btypeshout", "situself"), c("aaaaaaaaaa", "aaaaaaaaab", "aaaaaaaaac"),
  c("log(x + 1)", "I(x^2)", "as.factor(treatment)Placebo", "as.factor(treatment)Active"),
  c("UPPERCASENAME", "UPPERCASENAMES"), c("x1", "x1"), c("a", "bb", "ccc"),
  c("under_score_name", "dot.ted.name.here"), c("factor(year)2001", "factor(year)2002", "factor(year)2010"),
  c("one two three four", "five six seven eight nine")
)
syllables <- c("group", "Type", "a", "ee", "year2", "income", "(x)", "_low", ".B", "one", "two", " ", "SIZE", " of ")
for (i in 1:60) words[[length(words) + 1]] <-
  unique(replicate(4, trimws(paste(sample(syllables, sample(2:6, 1), replace = TRUE), collapse = ""))))
abbreviate_cases <- unlist(lapply(words, function(x) lapply(c(4, 6, 11), function(n)
  list(names = I(x), minlength = n, out = I(unname(abbreviate(x, minlength = n)))))), recursive = FALSE)

terms <- c("Days", "log(income)", "treatment", "poly(age, 2)", "a:b", "x * z", "verylongvariablename",
           "I(x^2)", "(1 | g)", "(1 + x | subject)", "(0 + time || item)", "(1 | school/class)", "offset(z)")
formulas <- lapply(1:60, function(i) paste("response ~", paste(sample(terms, sample(3:11, 1)), collapse = " + ")))
formula_cases <- lapply(formulas, function(f)
  list(formula = f, out = I(deparse(as.formula(f)))))

vector_cases <- lapply(1:20, function(i) {
  x <- rnorm(sample(12, 1))
  names(x) <- substring("abcdefghijklmnopqrstuvw", 1, sample(20, length(x), replace = TRUE))
  gap <- sample(2, 1)
  list(names = I(names(x)), values = I(text(x)), gap = gap,
       out = I(capture.output(print.default(format(x, digits = 4), print.gap = gap, quote = FALSE))))
})

write(toJSON(list(
  source = paste(R.version.string, "format_numbers.R"), format = format_cases, zapsmall = zap_cases,
  pvalue = pvalue_cases, coef = coef_cases, abbreviate = abbreviate_cases, formula = formula_cases,
  named_vector = vector_cases
), auto_unbox = TRUE, pretty = FALSE), "format_numbers.json")
