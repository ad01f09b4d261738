# Regenerates saddle.json: where lme4's derivative-free search stops on data/saddle.csv (simulated).
#   Rscript saddle.R            (in tests/reference)
suppressMessages({library(lme4); library(jsonlite)})
d <- read.csv("data/saddle.csv", stringsAsFactors = TRUE)
formula <- "y ~ x + offset(o) + (f | a)"
fit <- suppressMessages(suppressWarnings(lmer(as.formula(formula), d)))
case <- list(id = "saddle", data = "saddle", formula = formula, objective = REMLcrit(fit),
             theta = unname(getME(fit, "theta")))
writeLines(toJSON(list(program = paste("lme4", packageVersion("lme4"), R.version.string),
                       script = "saddle.R", cases = list(case)), auto_unbox = TRUE, digits = NA, pretty = TRUE),
           "saddle.json")
