# Makes datasets.json: what the data sets that mixef ships look like in R, each column's values by a digest.
#   cd tests/reference && Rscript datasets.R
suppressMessages({library(lme4); library(mlmRev); library(jsonlite)})
data(Contraception, package = "mlmRev")
data(epil, package = "MASS")
source("read_data.R")
for (nm in OTHERS) assign(nm, read_data(nm, "data"))
names <- c("sleepstudy", "Dyestuff", "Dyestuff2", "Penicillin", "Pastes", "cake", "cbpp", "VerbAgg",
           "grouseticks", "Arabidopsis", "InstEval", "Contraception", OTHERS, "epil")
digest <- function(x) { f <- tempfile(); writeLines(x, f); h <- tools::md5sum(f); unlink(f); unname(h) }
describe <- function(x) {
  if (is.factor(x)) return(list(kind = "factor", rows = length(x), levels = I(levels(x)), ordered = is.ordered(x),
                                md5 = digest(sprintf("%d", as.integer(x) - 1L))))
  if (is.integer(x)) return(list(kind = "integer", rows = length(x), md5 = digest(sprintf("%d", x))))
  list(kind = "double", rows = length(x), md5 = digest(sprintf("%.17g", x)))
}
sets <- lapply(setNames(nm = names), function(nm) lapply(get(nm), describe))
program <- paste("lme4", packageVersion("lme4"), "mlmRev", packageVersion("mlmRev"), "MASS", packageVersion("MASS"), R.version.string)
writeLines(toJSON(list(program = program, script = "datasets.R", datasets = sets), auto_unbox = TRUE), "datasets.json")
