# Makes ddf_basis.json and data/split.*: Satterthwaite's denominators of lmerTest's tables of terms (types I to III), of
# its contests and of its drop1, in models whose covariance differs between the directions of a hypothesis, so that a
# denominator depends on the rows that the hypothesis is written in.
#   cd tests/reference && Rscript ddf_basis.R
source("fit_record.R")
suppressMessages(library(lmerTest))

# Three treatments and two sites by subject, each subject with variances and trends of its own; cells of very different
# sizes, a second grouping factor across the subjects, a period as in a crossover.
set.seed(20261127)
subjects <- 30; items <- 10
d <- expand.grid(rep = 1:2, period = factor(1:4), subject = factor(sprintf("s%02d", 1:subjects)))
n <- nrow(d)
k <- as.integer(d$subject)
d$treat <- factor(c("p", "a", "b")[(k + as.integer(d$period) * (1 + k %% 2)) %% 3 + 1], levels = c("p", "a", "b"))
d$site <- factor(ifelse(k %% 5 < 2, "north", "south"))
d$item <- factor(sprintf("i%d", sample(items, n, TRUE)))
d$dose <- factor(sample(c("low", "mid", "high"), n, TRUE, c(.5, .3, .2)), levels = c("low", "mid", "high"), ordered = TRUE)
d$x <- round(rnorm(n, .4 * (k %% 3), 1), 3)
L <- t(chol(matrix(c(1.2, .5, .1, .5, 2.5, .2, .1, .2, .5), 3)))
u <- matrix(rnorm(3 * subjects), subjects) %*% t(L)
v <- rnorm(subjects, 0, .7); w <- rnorm(items, 0, .6)
d$y <- round(5 + c(0, .4, .8)[d$treat] + .3 * (d$site == "south") + .2 * d$x + .3 * (d$dose == "high") + u[cbind(k, as.integer(d$treat))] +
  v[k] * d$x + w[d$item] + rnorm(n, 0, .5), 4)
split <- d[-c(3, 4, 17, 30, 31, 32, seq(9, n, 11)), setdiff(names(d), "rep")]
frames <- list(split = split)
write_data(frames, "data")
frames$no_cell <- subset(split, !(treat == "b" & dose == "high"))

C <- function(id, formula, data = "split", REML = TRUE, ...) list(id = id, data = data, formula = formula, REML = REML, ...)
by_treat <- "+ (0 + treat | subject)"
cases <- list(
  C("crossover", paste("y ~ period + treat", by_treat)),
  C("crossover_ml", paste("y ~ period + treat", by_treat), REML = FALSE),
  C("one_term", paste("y ~ treat", by_treat)),
  C("factorial", paste("y ~ treat * site", by_treat)),
  C("factorial_other_order", paste("y ~ site * treat + period", by_treat)),
  C("factorial_sum", paste("y ~ treat * site + period", by_treat), contrasts = list(treat = "contr.sum", site = "contr.sum")),
  C("factorial_helmert", paste("y ~ treat * dose", by_treat), contrasts = list(treat = "contr.helmert")),
  C("factorial_items", paste("y ~ treat * dose", by_treat, "+ (1 | item)")),
  C("three_way", paste("y ~ treat * site * dose", by_treat)),
  C("covariate", paste("y ~ treat + x + dose", by_treat)),
  C("slopes", "y ~ treat * x + site + (x | subject)"),
  C("slopes_items", "y ~ dose * x + treat + (x | subject) + (1 | item)"),
  C("nested", paste("y ~ site / treat", by_treat)),
  C("no_intercept", paste("y ~ 0 + treat + dose", by_treat)),
  C("interaction_alone", paste("y ~ treat:site", by_treat)),
  C("curve", "y ~ poly(x, 3) + treat + (x | subject)"),
  C("curve_by_treat", "y ~ treat * poly(x, 2) + (x | subject)"),
  C("no_cell", paste("y ~ treat * dose", by_treat), data = "no_cell"))

table_of <- function(a) list(rows = I(rownames(a)), columns = I(colnames(a)), values = lapply(as.list(a), function(x) I(num(x))))
joint <- function(m, L) { r <- contest(m, L); list(L = lapply(seq_len(nrow(L)), function(i) I(L[i, ])), num_df = num(r$NumDF), den_df = num(r$DenDF), F = num(r$`F value`)) }
one <- function(cs) {
  m <- fit_case(cs, frames)
  m@call[[1]] <- quote(lme4::lmer)
  # as_lmerModLmerTest reads the model's frame again through the call.
  lt <- suppressWarnings(as_lmerModLmerTest(m))
  out <- c(cs[setdiff(names(cs), "contrasts")], list(contrasts = cs$contrasts, theta = I(num(getME(m, "theta"))), logLik = num(logLik(m)), singular = isSingular(m)))
  for (type in c("I", "II", "III")) out[[type]] <- table_of(suppressWarnings(suppressMessages(anova(lt, type = type))))
  out$drop1 <- tryCatch(table_of(suppressWarnings(drop1(lt))), error = function(e) list(error = conditionMessage(e)))
  p <- length(fixef(m)); e <- diag(p)
  out$contests <- list(joint(lt, e[-1, , drop = FALSE]), joint(lt, e[2:3, ]), joint(lt, rbind(e[2, ] - e[3, ], 3 * e[2, ] + e[p, ])))
  cat(cs$id, isSingular(m), "\n")
  out
}
write_json_file(list(program = paste("lmerTest", packageVersion("lmerTest"), program()), script = "ddf_basis.R", cases = lapply(cases, one)), "ddf_basis.json")
