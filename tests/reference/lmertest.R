# Makes lmertest.json, data/sleepstudy_unbalanced.csv and printed/*.lmertest*.txt: tests of fixed effects by
# lmerTest (Satterthwaite) and pbkrtest (Kenward-Roger), of fits that Newton steps brought to the optimum.
#   cd tests/reference && Rscript lmertest.R
# lmerTest differentiates by Richardson's extrapolation, which gives its degrees of freedom about six digits;
# pbkrtest's are exact, but take no notice of weights, and are for REML: other fits have none, save contests of
# ML fits, which KRmodcomp refits by REML.
source("fit_record.R")
suppressMessages({library(lmerTest); library(pbkrtest)})
options(width = 80, digits = 7)
read_frame <- function(name) {
  meta <- fromJSON(file.path("data", paste0(name, ".json")), simplifyVector = TRUE)
  d <- read.csv(file.path("data", paste0(name, ".csv")), colClasses = "character")
  for (v in names(d)) d[[v]] <- switch(meta[[v]]$kind, factor = factor(d[[v]], levels = meta[[v]]$levels,
    ordered = meta[[v]]$ordered), integer = as.integer(d[[v]]), double = as.numeric(d[[v]]), logical = d[[v]] == "TRUE")
  d
}
row <- seq_len(nrow(sleepstudy))
sleepstudy_unbalanced <- sleepstudy[row %% 7 != 3 & row > 25 & !(row > 60 & row < 68), ]
frames <- list(sleepstudy = sleepstudy, cake = cake, Penicillin = Penicillin, Dyestuff2 = Dyestuff2, InstEval = InstEval,
  sleepstudy_unbalanced = sleepstudy_unbalanced, crossed = read_frame("crossed"), nested = read_frame("nested"),
  vector = read_frame("vector"), Machines = read_frame("Machines"))
write_data(frames["sleepstudy_unbalanced"], "data")
# "yup" of the data "vector" has slopes proportional to intercepts: a singular covariance of two columns.
cases <- list(
  list(id = "sleep_reml", data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)", REML = TRUE),
  list(id = "sleep_ml", data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)", REML = FALSE),
  list(id = "sleep_unbalanced", data = "sleepstudy_unbalanced", formula = "Reaction ~ Days + (Days | Subject)", REML = TRUE),
  list(id = "sleep_diag", data = "sleepstudy_unbalanced", formula = "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", REML = TRUE),
  list(id = "cake_factorial", data = "cake", formula = "angle ~ recipe * temperature + (1 | recipe:replicate)", REML = TRUE),
  list(id = "cake_slopes", data = "cake", formula = "angle ~ recipe * temp + (temp | recipe:replicate)", REML = TRUE),
  list(id = "penicillin", data = "Penicillin", formula = "diameter ~ 1 + (1 | plate) + (1 | sample)", REML = TRUE),
  list(id = "dyestuff2_singular", data = "Dyestuff2", formula = "Yield ~ 1 + (1 | Batch)", REML = TRUE),
  list(id = "slopes_singular", data = "vector", formula = "yup ~ x + f + (x | g)", REML = TRUE),
  list(id = "slopes_singular_ml", data = "vector", formula = "yup ~ x + f + (x | g)", REML = FALSE),
  list(id = "vector", data = "vector", formula = "y ~ x * f + (x + t | g)", REML = TRUE),
  list(id = "crossed", data = "crossed", formula = "y ~ x * f + z + (1 + x | a) + (1 | b) + (1 | c)", REML = TRUE),
  list(id = "crossed_ml", data = "crossed", formula = "y ~ x * f + z + (1 + x | a) + (1 | b) + (1 | c)", REML = FALSE),
  list(id = "crossed_weights", data = "crossed", formula = "yw ~ x + f + (1 | a) + (1 | b)", REML = TRUE, weights = "w"),
  list(id = "nested", data = "nested", formula = "y ~ x + c + (1 | a) + (1 | a:b)", REML = TRUE),
  list(id = "machines", data = "Machines", formula = "score ~ Machine + (Machine | Worker)", REML = TRUE),
  list(id = "insteval", data = "InstEval", formula = "y ~ service + lectage + studage + (1 | s) + (1 | d)", REML = TRUE))

table_of <- function(co) list(se = I(num(co[, "Std. Error"])), df = I(num(co[, "df"])), t = I(num(co[, "t value"])),
                              p = I(num(co[, "Pr(>|t|)"])))
joint <- function(m, L, ddf) {
  r <- contest(m, L, ddf = ddf)
  list(num_df = num(r[["NumDF"]]), den_df = num(r[["DenDF"]]), F = num(r[["F value"]]), p = num(r[["Pr(>F)"]]))
}
refitted <- function(cs, L) {
  r <- KRmodcomp(fit_case(modifyList(cs, list(REML = TRUE)), frames), L)$test["Ftest", ]
  list(num_df = num(r$ndf), den_df = num(r$ddf), F = num(r$stat), p = num(r$p.value))
}
# All coefficients but the first at once, the last two, and rows that depend on each other.
hypotheses <- function(p) {
  if (p == 1) return(list(matrix(1)))
  out <- list(diag(p)[-1, , drop = FALSE])
  if (p > 2) out <- c(out, list(diag(p)[p - (1:0), ]), list(rbind(diag(p)[2:3, ], diag(p)[2, ] - 2 * diag(p)[3, ])))
  out
}
one <- function(cs) {
  message(cs$id)
  fit <- fit_case(cs, frames, newton = cs$id != "insteval")
  m <- suppressMessages(as_lmerModLmerTest(fit))
  kr <- isTRUE(cs$REML) && is.null(cs$weights) && cs$id != "insteval"
  out <- c(cs, list(theta = I(num(getME(m, "theta"))), beta_names = I(names(fixef(m))), beta = I(num(fixef(m)))))
  out$satterthwaite <- table_of(coef(summary(m)))
  if (kr) out$kenward_roger <- table_of(coef(summary(m, ddf = "Kenward-Roger")))
  out$contests <- lapply(hypotheses(length(fixef(m))), function(L) c(
    list(L = lapply(seq_len(nrow(L)), function(i) I(num(L[i, ]))), satterthwaite = joint(m, L, "Satterthwaite")),
    if (kr) list(kenward_roger = joint(m, L, "Kenward-Roger")) else if (!cs$REML) list(kenward_roger = refitted(cs, L))))
  out$one_by_one <- local({
    r <- contest(m, diag(length(fixef(m))), joint = FALSE, rhs = 1)
    list(t = I(num(r[["t value"]])), lower = I(num(r$lower)), upper = I(num(r$upper)), p = I(num(r[["Pr(>|t|)"]])))
  })
  if (cs$id %in% c("sleep_reml", "sleep_ml", "cake_factorial", "penicillin", "crossed")) {
    m@call <- as.call(list(quote(lmer), formula = as.formula(cs$formula), data = as.name(cs$data)))
    writeLines(capture.output(print(summary(m))), sprintf("printed/%s.lmertest.txt", cs$id))
    if (kr) writeLines(capture.output(print(summary(m, ddf = "Kenward-Roger"))), sprintf("printed/%s.lmertest_kr.txt", cs$id))
  }
  out
}
write_json_file(list(program = paste(program(), "lmerTest", packageVersion("lmerTest"), "pbkrtest", packageVersion("pbkrtest")),
  script = "lmertest.R", cases = lapply(cases, one)), "lmertest.json")
