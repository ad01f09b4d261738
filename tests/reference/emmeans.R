# Makes emmeans.json, and data/marginal.csv: marginal means, contrasts, trends and joint tests by emmeans, of linear fits that
# Newton steps brought to the optimum (lmerTest's Satterthwaite, pbkrtest's Kenward-Roger) and of generalized fits by glmmTMB,
# whose standard errors are of the whole Hessian, as here.
#   cd tests/reference && Rscript emmeans.R
source("fit_record.R")
suppressMessages({library(lmerTest); library(glmmTMB); library(emmeans)})
emm_options(lmerTest.limit = 1e5, pbkrtest.limit = 1e5, msg.interaction = FALSE, msg.nesting = FALSE)
read_frame <- function(name) {
  meta <- fromJSON(file.path("data", paste0(name, ".json")), simplifyVector = TRUE)
  d <- read.csv(file.path("data", paste0(name, ".csv")), colClasses = "character")
  for (v in names(d)) d[[v]] <- switch(meta[[v]]$kind, factor = factor(d[[v]], levels = meta[[v]]$levels,
    ordered = meta[[v]]$ordered), integer = as.integer(d[[v]]), double = as.numeric(d[[v]]), logical = d[[v]] == "TRUE")
  d
}
i <- seq_len(180)
marginal <- within(sleepstudy, {
  f <- factor(c("a", "b", "a", "c", "a", "b", "c")[i %% 7 + 1])         # unbalanced
  h <- factor(c("p", "q", "q", "p", "q")[(i + i %/% 11) %% 5 + 1])
  g <- factor(c("lo", "hi")[as.integer(Subject) %% 2 + 1], levels = c("lo", "hi"))
  t <- factor(paste0("t", i %% 3 + 1 + 3 * (as.integer(Subject) %% 2)))  # nested in g
  two <- c(1, 2.5)[(i %/% 5) %% 2 + 1]
  lg <- (i * i) %% 5 > 1
  e <- 1 + (i %% 9) / 4
  w <- c(1, 2, 0.5)[i %% 3 + 1]
  count <- as.integer(round(Reaction / 60 * e * (1 + 0.3 * (f == "b"))))
})
write_data(list(marginal = marginal), "data")
marginal <- read_frame("marginal")
Machines <- read_frame("Machines")
Contraception <- mlmRev::Contraception
holes <- subset(cake, !(recipe == "C" & temperature %in% c("215", "225")))
frames <- list(cake = cake, holes = holes, sleepstudy = sleepstudy, marginal = marginal, Machines = Machines, cbpp = cbpp,
  Contraception = Contraception, grouseticks = grouseticks)

# A step is a list of "op" and the arguments of its call here; the test makes the same call.
M <- function(specs, ...) list(list(op = "emmeans", specs = specs, ...))
then <- function(steps, op, ...) c(steps, list(list(op = op, ...)))
fits <- list(
  cake = list(data = "cake", formula = "angle ~ recipe * temperature + (1 | recipe:replicate)", asks = list(
    M("recipe"), M("temperature"), M("recipe", by = "temperature"),
    then(M("recipe"), "contrast", method = "pairwise"), then(M("temperature"), "contrast", method = "pairwise"),
    then(M("temperature"), "contrast", method = "poly"), then(M("temperature"), "contrast", method = "eff"),
    then(M("temperature"), "contrast", method = "del.eff"), then(M("temperature"), "contrast", method = "trt.vs.ctrl", adjust = "holm"),
    then(M("temperature"), "contrast", method = "trt.vs.ctrlk", adjust = "sidak"),
    then(M("temperature"), "contrast", method = "consec", adjust = "none"), then(M("temperature"), "contrast", method = "mean_chg", adjust = "BY"),
    then(M("temperature"), "contrast", method = "revpairwise", adjust = "scheffe"),
    then(M("temperature"), "contrast", method = "pairwise", adjust = "hommel"), then(M("temperature"), "contrast", method = "pairwise", adjust = "hochberg"),
    then(M("temperature"), "contrast", method = "pairwise", adjust = "bonferroni"),
    then(M("recipe", by = "temperature"), "contrast", method = "pairwise"),
    then(M(c("recipe", "temperature")), "contrast", interaction = c("pairwise", "poly")),
    then(M(c("recipe", "temperature")), "contrast", interaction = "consec"),
    then(M("recipe"), "test", null = 30, side = ">"), then(M("recipe"), "test", null = 30, side = "<"),
    then(then(M("recipe"), "contrast", method = "pairwise", adjust = "none"), "test", delta = 2),
    then(then(M("recipe"), "contrast", method = "pairwise", adjust = "none"), "test", delta = 2, side = "noninf"),
    then(then(M("recipe"), "contrast", method = "pairwise", adjust = "sidak"), "test", delta = 2, side = "nonsup"),
    M("recipe", level = 0.9), M("1"), list(list(op = "joint_tests")))),
  cake_kr = list(data = "cake", formula = "angle ~ recipe + temp + (1 | recipe:replicate)", ddf = "kenward-roger", asks = list(
    M("recipe"), then(M("recipe"), "contrast", method = "pairwise"), M("temp", at = list(temp = c(180, 200))), list(list(op = "joint_tests")))),
  cake_slopes = list(data = "cake", formula = "angle ~ recipe * temp + (1 | recipe:replicate)", asks = list(
    M("recipe"), M("recipe", by = "temp", at = list(temp = c(180, 200))), M("recipe", at = list(temp = c(180, 200))),
    list(list(op = "emtrends", specs = "recipe", var = "temp")), list(list(op = "emtrends", specs = "1", var = "temp")),
    then(list(list(op = "emtrends", specs = "recipe", var = "temp")), "contrast", method = "pairwise"),
    list(list(op = "joint_tests")))),
  holes = list(data = "holes", formula = "angle ~ recipe * temperature + (1 | recipe:replicate)", asks = list(
    M("recipe"), M("temperature"), M(c("recipe", "temperature")), M("recipe", weights = "cells"), M("recipe", weights = "proportional"),
    then(M("temperature"), "contrast", method = "pairwise"), then(M("recipe", by = "temperature"), "contrast", method = "pairwise"))),
  sleep = list(data = "sleepstudy", formula = "Reaction ~ Days + (Days | Subject)", asks = list(
    M("1"), M("Days", at = list(Days = c(0, 1, 5, 9, 20))), list(list(op = "emtrends", specs = "1", var = "Days")))),
  sleep_log = list(data = "sleepstudy", formula = "log(Reaction) ~ Days + (1 | Subject)", asks = list(
    M("Days", at = list(Days = c(2, 4)), type = "response"), M("Days", at = list(Days = c(2, 4))),
    M("Days", at = list(Days = c(2, 4)), type = "response", bias_adjust = TRUE, sigma = 0.3),
    then(M("Days", at = list(Days = c(2, 4, 7)), type = "response"), "contrast", method = "pairwise"))),
  sleep_sqrt = list(data = "sleepstudy", formula = "sqrt(Reaction) ~ Days + (1 | Subject)", asks = list(
    M("Days", at = list(Days = c(2, 4)), type = "response"), then(M("Days", at = list(Days = c(2, 4)), type = "response"), "contrast", method = "pairwise"),
    M("Days", at = list(Days = c(2, 4)), type = "response", bias_adjust = TRUE, sigma = 2))),
  sleep_log10 = list(data = "sleepstudy", formula = "log10(Reaction) ~ Days + (1 | Subject)", asks = list(
    then(M("Days", at = list(Days = c(2, 4, 7)), type = "response"), "contrast", method = "pairwise"))),
  sleep_shifted = list(data = "sleepstudy", formula = "log(Reaction + 5) ~ Days + (1 | Subject)", asks = list(
    M("Days", at = list(Days = c(2, 4)), type = "response"), then(M("Days", at = list(Days = c(2, 4)), type = "response"), "contrast", method = "pairwise"))),
  sleep_poly = list(data = "sleepstudy", formula = "Reaction ~ poly(Days, 2) + (1 | Subject)", asks = list(
    M("Days"), M("Days", at = list(Days = c(0, 3, 7))), list(list(op = "joint_tests")))),
  sleep_spline = list(data = "sleepstudy", formula = "Reaction ~ splines::ns(Days, 3) + (1 | Subject)", python = "Reaction ~ ns(Days, 3) + (1 | Subject)",
    asks = list(M("Days"), M("Days", at = list(Days = c(0, 3, 7))))),
  unbalanced = list(data = "marginal", formula = "Reaction ~ f * h + Days + (1 | Subject)", asks = list(
    M("f"), M("f", weights = "proportional"), M("f", weights = "outer"), M("f", weights = "cells"), M("f", weights = "flat"), M("f", by = "h"),
    M(c("f", "h")), then(M(c("f", "h")), "contrast", method = "pairwise"), then(M(c("f", "h")), "contrast", method = "pairwise", by = "h"),
    then(M(c("f", "h")), "contrast", interaction = "pairwise"), then(M("f"), "contrast", method = "trt.vs.ctrl", adjust = "bonferroni"),
    then(M("f", weights = "proportional"), "contrast", method = "pairwise"), list(list(op = "joint_tests")))),
  kinds = list(data = "marginal", formula = "Reaction ~ two + lg + f + Days + (1 | Subject)", asks = list(
    M("lg"), M("two"), M("f"), M("f", weights = "cells"), M("f", weights = "proportional"), M("f", weights = "outer"), M("two", at = list(two = c(1, 2))),
    M("f", at = list(lg = TRUE)), M("f", at = list(f = c("c", "a"))), then(M("lg"), "contrast", method = "pairwise"), list(list(op = "joint_tests")))),
  levels = list(data = "marginal", formula = "Reaction ~ factor(Days) + scale(e) + I(e^2) + (1 | Subject)", asks = list(
    M("1"), M("Days"), M("e", at = list(e = c(1, 2))), then(M("Days"), "contrast", method = "consec", adjust = "fdr"))),
  nested = list(data = "marginal", formula = "Reaction ~ g + t + Days + (1 | Subject)", asks = list(
    M("t"), M("g"), then(M("t"), "contrast", method = "pairwise"), then(M("g"), "contrast", method = "pairwise"), list(list(op = "joint_tests")))),
  ml = list(data = "marginal", formula = "Reaction ~ f * h + Days + (1 | Subject)", REML = FALSE, asks = list(M("f"), then(M("f"), "contrast", method = "pairwise"))),
  weighted = list(data = "marginal", formula = "Reaction ~ f + Days + (1 | Subject)", weights = "w", asks = list(M("f"), M("f", weights = "proportional"))),
  machines = list(data = "Machines", formula = "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", asks = list(
    M("Machine"), then(M("Machine"), "contrast", method = "pairwise"), list(list(op = "joint_tests")))),
  cbpp = list(data = "cbpp", formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)", family = "binomial", asks = list(
    M("period"), M("period", type = "response"), then(M("period"), "contrast", method = "pairwise"),
    then(M("period", type = "response"), "contrast", method = "pairwise"), then(M("period", type = "response"), "contrast", method = "eff"),
    M("period", type = "response", bias_adjust = TRUE, sigma = 0.6), list(list(op = "joint_tests")),
    then(then(M("period"), "regrid"), "contrast", method = "pairwise"))),
  contraception = list(data = "Contraception", formula = "use ~ age + I(age^2) + urban + livch + (1 | district)", family = "binomial", asks = list(
    M("livch"), M("livch", by = "urban", type = "response"), M("urban", weights = "proportional", type = "response"),
    then(M("livch", type = "response"), "contrast", method = "trt.vs.ctrl", adjust = "holm"), list(list(op = "joint_tests")))),
  ticks = list(data = "grouseticks", formula = "TICKS ~ YEAR + scale(HEIGHT) + (1 | BROOD)", family = "poisson", asks = list(
    M("YEAR", type = "response"), then(M("YEAR", type = "response"), "contrast", method = "pairwise"),
    list(list(op = "emtrends", specs = "1", var = "HEIGHT")))),
  rates = list(data = "marginal", formula = "count ~ f + Days + offset(log(e)) + (1 | Subject)", family = "poisson", asks = list(
    M("f"), M("f", type = "response"), then(M("f", type = "response"), "contrast", method = "pairwise"), M("1"))))

model <- function(x) {
  if (!is.null(x$family)) return(do.call(glmmTMB, list(as.formula(x$formula), data = as.name(x$data), family = x$family,
    control = glmmTMBControl(optCtrl = list(rel.tol = 1e-14, x.tol = 1e-12, eval.max = 1e4, iter.max = 1e4)))))
  if (is.null(x$REML)) x$REML <- TRUE
  suppressMessages(as_lmerModLmerTest(fit_case(x, frames)))
}
rows_of <- function(r, s) {
  d <- as.data.frame(s)
  est <- attr(s, "estName"); cl <- attr(s, "clNames")
  if (!is.null(d[["model term"]])) { # joint tests
    return(list(term = I(as.character(d[["model term"]])), df1 = I(num(d$df1)), df2 = I(num(d$df2)), F = I(num(d$F.ratio)), p = I(num(d$p.value))))
  }
  keep <- setdiff(names(d), c(est, "SE", "df", cl, "null", "t.ratio", "z.ratio", "p.value"))
  out <- list(labels = lapply(d[keep], function(v) I(as.character(v))), estimate = I(num(d[[est]])), se = I(num(d$SE)), df = I(num(d$df)))
  if (!is.null(d$p.value)) out$p <- I(num(d$p.value))
  stat <- if (is.null(d$t.ratio)) d$z.ratio else d$t.ratio
  if (!is.null(stat)) out$statistic <- I(num(stat))
  if (length(cl)) { out$lower <- I(num(d[[cl[1]]])); out$upper <- I(num(d[[cl[2]]])) }
  out
}
ask <- function(m, x, steps) {
  first <- steps[[1]]
  df <- if (is.null(x$family)) NULL else Inf
  data <- frames[[x$data]]
  common <- list(m, data = data)
  if (!is.null(df)) common$df <- df
  # emmeans takes the mean of an offset of glmer's, and does not know that of glmmTMB.
  if (grepl("offset", x$formula)) common$offset <- mean(log(data$e))
  if (is.null(x$family)) common$lmer.df <- if (is.null(x$ddf)) "satterthwaite" else x$ddf
  if (first$op == "joint_tests") return(rows_of(NULL, do.call(joint_tests, common)))
  args <- first[setdiff(names(first), c("op", "type", "bias_adjust", "sigma", "level"))]
  args$specs <- as.formula(paste("~", paste(args$specs, collapse = "*"), if (!is.null(args$by)) paste("|", args$by)))
  args$by <- NULL
  if (first$op == "emtrends") args$delta.var <- 1e-3
  e <- do.call(first$op, c(common, args))
  sum_args <- list(infer = c(TRUE, TRUE))
  type <- if (is.null(first$type)) "link" else first$type
  if (!is.null(first$bias_adjust)) sum_args <- c(sum_args, list(bias.adjust = TRUE, sigma = first$sigma))
  if (!is.null(first$level)) sum_args$level <- first$level
  for (s in steps[-1]) {
    a <- s[names(s) != "op"]
    if (s$op == "regrid") { e <- regrid(e); type <- "response"; next }
    if (s$op == "contrast") {
      adjust <- a$adjust; a$adjust <- NULL
      e <- do.call(contrast, c(list(e), a))
      if (!is.null(adjust)) sum_args$adjust <- adjust
    } else sum_args <- c(sum_args[setdiff(names(sum_args), "infer")], list(infer = c(FALSE, TRUE)), a)
  }
  rows_of(e, do.call(summary, c(list(e, type = type), sum_args)))
}
boxed <- function(steps) lapply(steps, function(s) lapply(s, function(v) if (is.list(v)) lapply(v, I) else if (length(v) > 1) I(v) else v))
cases <- list()
for (name in names(fits)) {
  x <- fits[[name]]
  m <- model(x)
  asks <- lapply(x$asks, function(steps) list(steps = boxed(steps), result = suppressMessages(ask(m, x, steps))))
  if (!is.null(x$python)) x$formula <- x$python
  cases[[length(cases) + 1]] <- c(list(id = name), x[setdiff(names(x), c("asks", "python"))], list(asks = asks))
}
# The largest of correlated statistics, by mvtnorm to 1e-5.
suppressMessages(library(mvtnorm))
set.seed(20261127)
pairs_of <- function(k) { C <- t(combn(k, 2)); A <- matrix(0, nrow(C), k); A[cbind(seq_len(nrow(C)), C[, 1])] <- 1
  A[cbind(seq_len(nrow(C)), C[, 2])] <- -1; A }
largest <- function(A, V, df) {
  R <- cov2cor(A %*% V %*% t(A))
  at <- c(1, 2, 3)
  tail <- function(two) vapply(at, function(q) 1 - num(pmvt(if (two) rep(-q, nrow(R)) else rep(-Inf, nrow(R)), rep(q, nrow(R)), corr = R,
    df = df, algorithm = GenzBretz(maxpts = 1e6, abseps = 1e-5, releps = 0))), 0)
  list(correlations = lapply(seq_len(nrow(R)), function(i) I(num(R[i, ]))), df = df, at = I(at), two = I(tail(TRUE)), one = I(tail(FALSE)))
}
W <- diag(c(1, 0.4, 2.5, 0.8)) + 0.2
tails <- list(largest(pairs_of(4), W, 9), largest(diff(diag(4)), W, 30), largest(cbind(-1, diag(3)), W, 0), largest(diff(diag(4))[1:2, ], W, 5))
# Letters and effect sizes.
letters_of <- function(m, specs, data, ...) {
  d <- as.data.frame(multcomp::cld(emmeans(m, specs, data = data, lmer.df = "satterthwaite"), ...))
  list(level = I(as.character(d[[1]])), group = I(trimws(d$.group, "right")))
}
x <- fits$cake; m <- model(x)
l <- fits$levels; n <- model(l)
displays <- list(list(id = "cake", specs = "temperature", alpha = 0.05, rows = letters_of(m, "temperature", cake)),
  list(id = "cake", specs = "recipe", alpha = 0.9, rows = letters_of(m, "recipe", cake, alpha = 0.9)),
  list(id = "levels", specs = "Days", alpha = 0.05, rows = letters_of(n, "Days", marginal)))
d <- as.data.frame(eff_size(emmeans(m, "recipe", data = cake, lmer.df = "satterthwaite"), sigma = 4.5, edf = 50))
effects <- list(sigma = 4.5, edf = 50, estimate = I(num(d$effect.size)), se = I(num(d$SE)), lower = I(num(d$lower.CL)), upper = I(num(d$upper.CL)))
write_json_file(list(program = paste(program(), "emmeans", packageVersion("emmeans"), "lmerTest", packageVersion("lmerTest"),
  "pbkrtest", packageVersion("pbkrtest"), "glmmTMB", packageVersion("glmmTMB"), "mvtnorm", packageVersion("mvtnorm")), script = "emmeans.R", cases = cases, tails = tails, displays = displays, effects = effects), "emmeans.json")
