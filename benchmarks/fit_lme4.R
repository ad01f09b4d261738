# Fit one model with lme4 in a process of its own and print what it took, as one line of JSON:
#   Rscript fit_lme4.R lme4 FOLDER FORMULA TRUE|FALSE REPEAT LONG BUDGET
# fit_python.py does the same in Python, step by step.
suppressPackageStartupMessages(library(lme4))
args <- commandArgs(TRUE)
folder <- args[2]
formula <- as.formula(args[3])
reml <- args[4] == "TRUE"
limits <- as.numeric(args[5:7])

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

run <- function() suppressWarnings(suppressMessages(lmer(formula, frame, REML = reml)))

timed <- function() {
  start <- Sys.time()
  fit <- run()
  list(fit = fit, seconds = as.numeric(Sys.time() - start, units = "secs"))
}

median_seconds <- function(first) {
  runs <- numeric()
  while (length(runs) < limits[1] && sum(runs) + first < limits[3] || !length(runs))
    runs <- c(runs, timed()$seconds)
  median(runs)
}

frame <- read_frame()
invisible(gc())
base <- megabytes("VmRSS")
forget_peak()
one <- timed()
peak <- megabytes("VmHWM")
seconds <- if (one$seconds < limits[2]) median_seconds(one$seconds) else one$seconds
fit <- one$fit
number <- function(x) if (is.na(x)) "NaN" else format(x, digits = 17)
cat(sprintf(paste0(
  '{"n": %d, "seconds": %s, "peak": %s, "added": %s, "q": %d, "parameters": %d, "criterion": %s, ',
  '"evaluations": %d, "version": "lme4 %s (%s)", "blas": "%s"}\n'),
  nrow(frame), number(seconds), number(peak), number(peak - base), length(getME(fit, "u")),
  length(getME(fit, "theta")), number(-2 * as.numeric(logLik(fit))), as.integer(fit@optinfo$feval),
  packageVersion("lme4"), sub(" \\(.*", "", R.version.string), extSoftVersion()["BLAS"]))
