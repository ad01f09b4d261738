# Time one task of inference.py with lme4, lmerTest or pbkrtest, in a process of its own:
#   Rscript benchmarks/inference.R TASK FOLDER
# The fit is outside the time. FOLDER holds the data of a task on simulated data.
args <- commandArgs(TRUE)
task <- args[1]
folder <- args[2]
suppressPackageStartupMessages({library(lme4); library(lmerTest); library(pbkrtest)})

read_frame <- function() {
  heads <- strsplit(readLines(file.path(folder, "columns.tsv")), "\t", fixed = TRUE)
  column <- function(head) {
    path <- file.path(folder, paste0(head[1], ".bin"))
    if (head[2] == "double") return(readBin(path, "double", file.size(path) / 8, endian = "little"))
    factor(readBin(path, "integer", file.size(path) / 4, endian = "little"))
  }
  frame <- lapply(heads, column)
  names(frame) <- vapply(heads, `[`, "", 1)
  as.data.frame(frame)
}

sleep <- function(REML = TRUE)
  lme4::lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = REML)
herds <- function()
  glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial)
ratings <- function()
  lme4::lmer(y ~ service + lectage + studage + (1 | s) + (1 | d), InstEval)
reported <- function(fit) {
  sds <- as.data.frame(VarCorr(fit))$sdcor
  c(fixef(fit), sds)
}

tasks <- list(
  profile_sleepstudy = list(fit = sleep, run = function(fit) profile(fit)),
  profile_cbpp = list(fit = herds, run = function(fit) profile(fit)),
  bootstrap_sleepstudy = list(fit = sleep, run = function(fit)
    bootMer(fit, reported, nsim = 1000, seed = 1)),
  bootstrap_cbpp = list(fit = herds, run = function(fit)
    bootMer(fit, reported, nsim = 100, seed = 1)),
  refits_sleepstudy = list(fit = sleep, run = function(fit) {
    responses <- simulate(fit, nsim = 1000, seed = 1)
    lapply(responses, function(y) refit(fit, y))
  }),
  pb_test_sleepstudy = list(fit = function() sleep(FALSE), run = function(fit)
    PBmodcomp(fit, update(fit, . ~ . - Days), nsim = 1000, seed = 1)),
  satterthwaite_InstEval = list(fit = ratings, run = function(fit)
    summary(as_lmerModLmerTest(fit))),
  kenward_roger_10k = list(
    fit = function() lme4::lmer(y ~ x + (1 | g) + (1 | h), read_frame()),
    run = function(fit) pbkrtest::vcovAdj(fit))
)

chosen <- tasks[[task]]
fit <- chosen$fit()
start <- Sys.time()
invisible(suppressWarnings(suppressMessages(chosen$run(fit))))
seconds <- as.numeric(Sys.time() - start, units = "secs")
cat(sprintf('{"seconds": %s, "version": "lme4 %s"}\n', format(seconds, digits = 6),
            packageVersion("lme4")))
