# Makes predict_df.json: confidence intervals of population means by emmeans, with Satterthwaite's degrees of freedom from
# lmerTest, of fits that Newton steps brought to the optimum.
#   cd tests/reference && Rscript predict_df.R
# lmerTest differentiates by Richardson's extrapolation, which gives its degrees of freedom about six digits.
source("fit_record.R")
suppressMessages({library(lmerTest); library(emmeans)})
emm_options(lmer.df = "satterthwaite", lmerTest.limit = 1e5)
read_frame <- function(name) {
  meta <- fromJSON(file.path("data", paste0(name, ".json")), simplifyVector = TRUE)
  d <- read.csv(file.path("data", paste0(name, ".csv")), colClasses = "character")
  for (v in names(d)) d[[v]] <- switch(meta[[v]]$kind, factor = factor(d[[v]], levels = meta[[v]]$levels,
    ordered = meta[[v]]$ordered), integer = as.integer(d[[v]]), double = as.numeric(d[[v]]), logical = d[[v]] == "TRUE")
  d
}
frames <- list(sleepstudy = sleepstudy, sleepstudy_unbalanced = read_frame("sleepstudy_unbalanced"), crossed = read_frame("crossed"))
cases <- list(
  list(id = "sleep", data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)", REML = TRUE),
  list(id = "sleep_ml", data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)", REML = FALSE),
  list(id = "sleep_unbalanced", data = "sleepstudy_unbalanced", formula = "Reaction ~ Days + (Days | Subject)", REML = TRUE),
  list(id = "crossed_weights", data = "crossed", formula = "yw ~ x + f + (1 | a) + (1 | b)", REML = TRUE, weights = "w"))
one <- function(cs) {
  m <- suppressMessages(as_lmerModLmerTest(fit_case(cs, frames)))
  d <- frames[[cs$data]]
  at <- if (cs$data == "crossed") list(x = c(-1, 0, 2)) else list(Days = c(0, 1, 5, 9, 20))
  specs <- if (cs$data == "crossed") ~ x * f else ~ Days
  s <- as.data.frame(summary(emmeans(m, specs, at = at, data = d), level = 0.9))
  new <- if (cs$data == "crossed") list(x = num(s$x), f = as.character(s$f)) else list(Days = num(s$Days))
  c(cs, list(new = new, level = 0.9, fit = num(s$emmean), se = num(s$SE), df = num(s$df), lower = num(s$lower.CL), upper = num(s$upper.CL)))
}
write_json_file(list(program = paste(program(), "lmerTest", packageVersion("lmerTest"), "emmeans", packageVersion("emmeans")),
  script = "predict_df.R", cases = lapply(cases, one)), "predict_df.json")
