# Makes display/*.txt and display.json: what lme4 prints for some fits, and the numbers it prints.
# R 4.2.2, lme4 1.1-31; run in this folder with: Rscript display.R
# Numbers are written as text with 17 digits, so that they are read back bit for bit.
library(lme4)
library(jsonlite)
options(digits = 7, width = 80, lme4.summary.cor.max = 12)
text <- function(x) {
  out <- sprintf("%.17g", x)
  out[is.nan(x)] <- "nan"
  out
}
rows <- function(m) lapply(seq_len(nrow(m)), function(i) I(text(m[i, ])))
one_line <- function(x) if (is.null(x)) NULL else paste(deparse(x, width.cutoff = 500L), collapse = "")

numbers_of <- function(fit) {
  s <- summary(fit)
  call <- getCall(fit)
  vc <- VarCorr(fit)
  aic <- s$AICtab
  table <- coef(s)
  title <- sub(" *\\[.*$", "", paste(s$methTitle, collapse = " "))
  list(
    title = trimws(title), formula = one_line(formula(fit)), data_name = one_line(call$data),
    weights = one_line(call$weights), offset = one_line(call$offset), subset = one_line(call$subset),
    control = one_line(call$control), family = s$family, link = s$link,
    criterion = lapply(as.list(aic), text), is_reml = isREML(fit),
    scaled_residuals = I(text(quantile(residuals(fit, "pearson", scaled = TRUE), names = FALSE))),
    groups = lapply(seq_along(vc), function(i) list(
      name = names(s$varcor)[i], columns = I(rownames(vc[[i]])), cov = rows(unclass(as.matrix(vc[[i]]))))),
    sigma = if (isTRUE(attr(vc, "useSc"))) text(sigma(fit)), nobs = nobs(fit), ngrps = as.list(ngrps(fit)),
    coef_index = I(as.character(rownames(table))), coef_columns = I(as.character(colnames(table))), coef = rows(table),
    corr = if (nrow(table)) rows(as.matrix(vcov(fit)@factors$correlation)),
    messages = I(as.character(fit@optinfo$conv$lme4$messages))
  )
}

rotten <- transform(sleepstudy, w = rep(1:2, 90), z = rep(c(.1, .5, .2, .9, -.4), 36),
                    verylongvariablename = cos(1:180), long_enough_to_wrap = rep(factor(1:9), 20),
                    another_long_factor = rep(factor(1:10), each = 18))
fits <- list(
  sleepstudy_reml = lmer(Reaction ~ Days + (Days | Subject), sleepstudy),
  sleepstudy_ml = lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE),
  sleepstudy_zcp = lmer(Reaction ~ Days + (Days || Subject), sleepstudy, REML = FALSE),
  sleepstudy_big = lmer(1000 * Reaction ~ Days + (1 | Subject), sleepstudy, REML = FALSE),
  sleepstudy_small = lmer(I(Reaction / 1000) ~ Days + (Days | Subject), sleepstudy),
  penicillin = lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin),
  pastes = lmer(strength ~ 1 + (1 | batch / cask), Pastes),
  dyestuff2 = lmer(Yield ~ 1 + (1 | Batch), Dyestuff2),
  cake = lmer(angle ~ recipe * temperature + (1 | recipe:replicate), cake),
  cake_slopes = lmer(angle ~ recipe + temp + (temp | replicate) + (0 + recipe | replicate:recipe), cake,
                     REML = FALSE),
  arguments = lmer(Reaction ~ Days + verylongvariablename + (Days + verylongvariablename | Subject) +
                     (1 | long_enough_to_wrap) + (1 | another_long_factor),
                   rotten, weights = w, subset = Days < 9, offset = z,
                   control = lmerControl(optimizer = "bobyqa")),
  no_fixed = lmer(Reaction ~ 0 + (1 | Subject), sleepstudy),
  cbpp = glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, family = binomial),
  grouseticks = glmer(TICKS ~ YEAR + (1 | BROOD) + (1 | LOCATION), grouseticks, family = poisson)
)
dir.create("display", showWarnings = FALSE)
numbers <- list()
for (name in names(fits)) {
  fit <- fits[[name]]
  numbers[[name]] <- numbers_of(fit)
  writeLines(capture.output(print(summary(fit))), file.path("display", paste0(name, ".summary.txt")))
  writeLines(capture.output(print(fit)), file.path("display", paste0(name, ".print.txt")))
  writeLines(c(capture.output(print(VarCorr(fit))),
               capture.output(print(VarCorr(fit), comp = c("Variance", "Std.Dev."), digits = 4)),
               capture.output(print(VarCorr(fit), comp = "Variance", digits = 3))),
             file.path("display", paste0(name, ".varcorr.txt")))
}
write(toJSON(list(source = paste(R.version.string, "lme4", packageVersion("lme4"), "display.R"),
                  fits = numbers), auto_unbox = TRUE, null = "null", pretty = 1), "display.json")
