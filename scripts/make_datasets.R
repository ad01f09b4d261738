# Exports the data sets that mixef ships, from the R packages lme4, mlmRev and MASS, and three that these do not have:
#   Rscript scripts/make_datasets.R OUTDIR          (from the root of the repository)
# One CSV a data set (numbers with 17 digits, factors as their 0-based codes) and one JSON with types and levels.
# scripts/make_datasets.py packs them into src/mixef/datasets/data.
suppressMessages({library(lme4); library(mlmRev); library(jsonlite)})
out <- commandArgs(TRUE)[1]
dir.create(out, showWarnings=FALSE, recursive=TRUE)
data(Contraception, package="mlmRev")
data(epil, package="MASS")
source("tests/reference/read_data.R")
for (nm in OTHERS) assign(nm, read_data(nm, "tests/reference/data"))
names <- c("sleepstudy", "Dyestuff", "Dyestuff2", "Penicillin", "Pastes", "cake", "cbpp", "VerbAgg",
           "grouseticks", "Arabidopsis", "InstEval", "Contraception", OTHERS, "epil")
kind <- function(x) if (is.factor(x)) "factor" else if (is.integer(x)) "integer" else "double"
cells <- function(x) switch(kind(x), factor=sprintf("%d", as.integer(x) - 1L), integer=sprintf("%d", x),
                            double=sprintf("%.17g", x))
for (nm in names) {
  d <- get(nm)
  stopifnot(!anyNA(Filter(is.factor, d)))
  write.csv(as.data.frame(lapply(d, cells), optional=TRUE), file.path(out, paste0(nm, ".csv")),
            row.names=FALSE, quote=FALSE)
  meta <- lapply(d, function(x) c(list(kind=unbox(kind(x))),
    if (is.factor(x)) list(levels=levels(x), ordered=unbox(is.ordered(x)))))
  writeLines(toJSON(meta), file.path(out, paste0(nm, ".json")))
}
