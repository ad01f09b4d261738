# What the R programs share: arguments, data, times, memory, and the line of JSON. Run from the
# root of the repository, the caller being fit_lme4.R or fit_glmmTMB.R:
#   Rscript FILE PROGRAM FOLDER FORMULA FAMILY TRUE|FALSE NAGQ REPEAT LONG BUDGET
# fit_python.py does the same in Python, step by step.
args <- commandArgs(TRUE)
program <- args[1]
folder <- args[2]
formula <- as.formula(args[3])
family <- args[4]
reml <- args[5] == "TRUE"
nAGQ <- as.integer(args[6])
limits <- as.numeric(args[7:9])
suppressPackageStartupMessages(library(program, character.only = TRUE))

read_column <- function(head) {
  path <- file.path(folder, paste0(head[1], ".bin"))
  if (head[2] == "double") return(readBin(path, "double", file.size(path) / 8, endian = "little"))
  codes <- readBin(path, "integer", file.size(path) / 4, endian = "little")
  if (head[2] == "integer") return(codes)
  levels <- head[-(1:2)]
  factor(levels[codes + 1L], levels = levels, ordered = head[2] == "ordered")
}

read_frame <- function() {
  heads <- strsplit(readLines(file.path(folder, "columns.tsv")), "\t", fixed = TRUE)
  columns <- lapply(heads, read_column)
  names(columns) <- vapply(heads, `[`, "", 1)
  as.data.frame(columns, optional = TRUE)
}

megabytes <- function(field) {
  if (!file.exists("/proc/self/status")) return(NA)
  line <- grep(field, readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}

forget_peak <- function() {
  if (file.exists("/proc/self/clear_refs")) cat("5", file = "/proc/self/clear_refs")
}

timed <- function(run) {
  start <- Sys.time()
  fit <- suppressWarnings(suppressMessages(run()))
  list(fit = fit, seconds = as.numeric(Sys.time() - start, units = "secs"))
}

median_seconds <- function(run, first) {
  runs <- numeric()
  while (length(runs) < limits[1] && sum(runs) + first < limits[3] || !length(runs))
    runs <- c(runs, timed(run)$seconds)
  median(runs)
}

number <- function(x) if (is.na(x)) "NaN" else format(x, digits = 17)

# `run` fits; `facts` gives q, the number of covariance parameters and the evaluations of a fit.
measure <- function(run, facts) {
  invisible(gc())
  base <- megabytes("VmRSS")
  forget_peak()
  one <- timed(run)
  peak <- megabytes("VmHWM")
  seconds <- if (one$seconds < limits[2]) median_seconds(run, one$seconds) else one$seconds
  sizes <- as.integer(facts(one$fit))
  cat(sprintf(paste0(
    '{"n": %d, "seconds": %s, "peak": %s, "added": %s, "q": %d, "parameters": %d, ',
    '"evaluations": %d, "criterion": %s, "version": "%s %s (%s)", "blas": "%s"}\n'),
    nrow(frame), number(seconds), number(peak), number(peak - base), sizes[1], sizes[2], sizes[3],
    number(-2 * as.numeric(logLik(one$fit))), program, packageVersion(program),
    sub(" \\(.*", "", R.version.string), extSoftVersion()["BLAS"]))
}

frame <- read_frame()
