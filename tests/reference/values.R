# Makes values.json: fits of lme4 whose variables are whole numbers, dates, names with blanks and missing groups. The data
# are written as formulas, the same in test_columns.py.
#   cd tests/reference && Rscript values.R
suppressMessages({library(lme4); library(jsonlite)})
i <- 0:199
d <- data.frame(age = 18L + (37L * i) %% 72L, dose = 1L + (53L * i) %% 59L, g = i %% 20L)
d$y <- .01 * d$age + .0005 * d$age * d$dose + sin(i) + cos(3 * d$g)
d$date <- as.Date("2024-01-01") + i %% 10
numbers <- function(m) list(objective = REMLcrit(m), fixef = as.list(fixef(m)))
products <- lmer(y ~ age * dose + (1 | g), d)
slopes <- suppressMessages(lmer(y ~ I(age^2 / 1000) + (0 + I(age * dose / 1000) | g), d))
dates <- suppressMessages(lmer(y ~ date + (1 | g), d))
s <- setNames(sleepstudy, c("Reaction", "test day", "the subject"))
spaced <- lmer(Reaction ~ `test day` + (`test day` | `the subject`), s)
new <- data.frame(x = c(1, 1), s = factor(c("308", NA)))
new <- setNames(new, c("test day", "the subject"))
out <- list(program = paste("lme4", packageVersion("lme4"), R.version.string), script = "values.R",
  products = numbers(products), slopes = numbers(slopes), dates = numbers(dates),
  date_numbers = as.numeric(sort(unique(d$date))), date_levels = levels(factor(d$date)),
  names = list(ranef = I(names(ranef(spaced))), columns = names(ranef(spaced)[[1]]), ngrps = I(names(ngrps(spaced))),
    fixef = names(fixef(spaced)), grp = as.data.frame(VarCorr(spaced))$grp),
  missing_group = unname(predict(spaced, new, allow.new.levels = TRUE)))
writeLines(toJSON(out, auto_unbox = TRUE, digits = NA, pretty = 1), "values.json")
