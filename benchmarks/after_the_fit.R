# Time one task of after_the_fit.py in R, in a process of its own:
#   Rscript benchmarks/after_the_fit.R TASK FOLDER
# The fit is outside the time.
task <- commandArgs(TRUE)[1]
suppressPackageStartupMessages({library(lme4); library(emmeans); library(lmerTest)})

sleep <- function() lmer(Reaction ~ Days + (Days | Subject), sleepstudy)
herds <- function() glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial)
ratings <- function() lmer(y ~ service + lectage + studage + (1 | s) + (1 | d), InstEval)
some_ratings <- function() {
  few <<- droplevels(InstEval[as.integer(InstEval$s) <= 100, ])
  lmer(y ~ service + (1 | s) + (1 | d), few)
}

cells <- function() {
  few <<- droplevels(InstEval[as.integer(InstEval$s) <= 200, ])
  lmerTest::lmer(y ~ service * dept + (1 | s) + (1 | d), few)
}
cakes <- function() lmer(angle ~ recipe * temperature + (1 | recipe:replicate), cake)
means_of <- function(fit, specs, data, df) {

  emm_options(lmerTest.limit = 1e5)
  emmeans(fit, specs, lmer.df = df, data = data)
}

tasks <- list(
  emmeans_28_cells = list(fit = cells, run = function(fit)
    summary(means_of(fit, c("service", "dept"), few, "satterthwaite"))),
  pairs_28_cells = list(fit = cells, run = function(fit)
    summary(pairs(means_of(fit, c("service", "dept"), few, "satterthwaite")), infer = TRUE)),
  pairs_18_cells_kr = list(fit = cakes, run = function(fit)
    summary(pairs(means_of(fit, c("recipe", "temperature"), cake, "kenward-roger")), infer = TRUE)),
  hatvalues_InstEval = list(fit = ratings, run = hatvalues),
  influence_sleepstudy = list(fit = sleep, run = function(fit) influence(fit, "Subject")),
  influence_cbpp = list(fit = herds, run = function(fit) influence(fit, "herd")),
  influence_100_students = list(fit = some_ratings, run = function(fit) influence(fit, "s"))
)

chosen <- tasks[[task]]
fit <- chosen$fit()
start <- Sys.time()
invisible(suppressWarnings(suppressMessages(chosen$run(fit))))
seconds <- as.numeric(Sys.time() - start, units = "secs")
cat(sprintf('{"seconds": %s, "version": "lme4 %s"}\n', format(seconds, digits = 6),
            packageVersion("lme4")))
