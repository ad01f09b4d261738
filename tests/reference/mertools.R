# Makes mertools.json: simulated effects and prediction intervals by merTools, with so many draws that Monte Carlo errors are
# below a hundredth of a standard deviation.
#   cd tests/reference && Rscript mertools.R
suppressMessages({library(lme4); library(merTools); library(jsonlite)})
num <- function(x) unname(as.numeric(x))
n <- 3000
cases <- list()
add <- function(id, m, newdata) {
  re <- REsim(m, n.sims = n, seed = 1)
  fe <- FEsim(m, n.sims = n, seed = 1)
  out <- list(id = id, re = list(group = re$groupFctr, level = as.character(re$groupID), term = re$term, mean = num(re$mean),
    median = num(re$median), sd = num(re$sd)), fe = list(term = as.character(fe$term), mean = num(fe$mean), sd = num(fe$sd)))
  for (which in c("fixed", "random", "full")) {
    p <- suppressWarnings(predictInterval(m, newdata, which = which, level = 0.9, n.sims = n, seed = 1, stat = "median",
      include.resid.var = FALSE))
    out[[which]] <- list(fit = num(p$fit), lower = num(p$lwr), upper = num(p$upr))
  }
  cases[[length(cases) + 1]] <<- out
}
sleepstudy <- lme4::sleepstudy
add("sleepstudy", lmer(Reaction ~ Days + (Days | Subject), sleepstudy), sleepstudy[c(1, 10, 11, 20), ])
add("Penicillin", lmer(diameter ~ 1 + (1 | plate) + (1 | sample), lme4::Penicillin), lme4::Penicillin[1:6, ])
writeLines(toJSON(list(program = paste("merTools", packageVersion("merTools"), "lme4", packageVersion("lme4"), R.version.string),
  draws = n, cases = cases), digits = NA, auto_unbox = TRUE, pretty = TRUE), "mertools.json")
