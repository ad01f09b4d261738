# Lowest criterion that lme4 finds for some designs of the search laboratory, by two optimizers.
# Rscript search.R FOLDER: reads FOLDER/<seed>.csv and FOLDER/designs.tsv (seed, formula, REML or
# family, weighted), which `python -m benchmarks.search --export FOLDER` writes; prints JSON.
suppressMessages(library(lme4))
folder <- commandArgs(TRUE)[1]
designs <- read.delim(file.path(folder, "designs.tsv"), colClasses = c(family = "character"))
value <- function(design, optimizer) {
  d <- read.csv(file.path(folder, paste0(design$seed, ".csv")))
  w <- if (design$weighted) d$w else NULL
  d$w_ <- if (is.null(w)) 1 else w
  tryCatch(suppressMessages(suppressWarnings({
    if (design$family == "") {
      m <- lmer(as.formula(design$formula), d, REML = design$REML, weights = w_,
                control = lmerControl(optimizer = optimizer, optCtrl = list(maxfun = 1e5)))
      if (design$REML) REMLcrit(m) else deviance(m, REML = FALSE)
    } else {
      m <- glmer(as.formula(design$formula), d, family = design$family,
                 control = glmerControl(optimizer = optimizer, optCtrl = list(maxfun = 1e5)))
      -2 * as.numeric(logLik(m))
    }
  })), error = function(e) NA)
}
best <- sapply(seq_len(nrow(designs)), function(i) {
  found <- c(value(designs[i, ], "bobyqa"), value(designs[i, ], "nloptwrap"))
  if (all(is.na(found))) NA else min(found, na.rm = TRUE)
})
keep <- !is.na(best)
cat("{", paste0("\"", designs$seed[keep], "\": ", sprintf("%.10g", best[keep]), collapse = ",\n "), "}\n")
