# Makes more_lmm.json and its data: linear mixed models on simulated or altered data, fitted by lme4.
#   cd tests/reference && Rscript more_lmm.R
source("fit_record.R")
r4 <- function(x) round(x, 4)
fac <- function(k, n, prefix) factor(paste0(prefix, sample(k, n, TRUE)), levels = paste0(prefix, seq_len(k)))
frames <- list()

set.seed(20240611)
# Three crossed factors, cells unequal and some empty; v is an offset, w are weights over six decades.
n <- 260
d <- data.frame(a = fac(15, n, "a"), b = fac(10, n, "b"), c = fac(6, n, "c"), x = r4(rnorm(n)), z = r4(runif(n, -1, 2)))
d$f <- factor(sample(c("lo", "mid", "hi"), n, TRUE, c(.5, .3, .2)), levels = c("lo", "mid", "hi"))
d$o <- factor(sample(c("s", "m", "l", "xl"), n, TRUE), levels = c("s", "m", "l", "xl"), ordered = TRUE)
d$v <- r4(runif(n))
d$w <- signif(10^runif(n, -3, 3), 5)
d$k <- sample(1:7, n, TRUE)
d$flag <- d$x + rnorm(n) > 0
with(d, {
  eta <- 2 + x - .5 * z + c(0, 1, -1)[f] + rnorm(15)[a] + rnorm(15, sd = .6)[a] * x + rnorm(10, sd = .7)[b] + rnorm(10, sd = .5)[b] * z + rnorm(6, sd = .5)[c] + rnorm(7, sd = .5)[k] * (1 + flag)
  d$y <<- r4(eta + rnorm(n, sd = .8))
  d$yw <<- r4(eta + rnorm(n, sd = .8) / sqrt(w))
})
frames$crossed <- droplevels(d)

# The same with missing values in the response, a predictor, a group and the weights.
d$y[c(3, 77)] <- NA; d$x[c(12, 130, 259)] <- NA; d$a[40] <- NA; d$w[200] <- NA
frames$crossed_na <- d

set.seed(20240613)
# Three nested levels, labels of the inner ones repeating; some cells hold one row only.
d <- expand.grid(rep = 1:4, c = factor(c("p", "q", "r")), b = factor(c("u", "v", "w")), a = factor(paste0("g", 1:9)))
d <- d[sort(sample(nrow(d), 230)), c("a", "b", "c")]
n <- nrow(d)
d$x <- r4(rnorm(n, 3))
ab <- interaction(d$a, d$b, drop = TRUE); abc <- interaction(ab, d$c, drop = TRUE)
d$y <- r4(1 + .5 * d$x + rnorm(9)[d$a] + rnorm(9, sd = .4)[d$a] * d$x + rnorm(nlevels(ab), sd = .8)[ab] + rnorm(nlevels(abc), sd = .6)[abc] + rnorm(n))
rownames(d) <- NULL
frames$nested <- d

set.seed(7)
# One factor with vector terms; f has three levels, t two.
d <- data.frame(g = fac(14, 280, "g"), x = r4(rnorm(280)), z = r4(rnorm(280)))
d$t <- factor(sample(c("no", "yes"), 280, TRUE)); d$f <- factor(sample(c("A", "B", "C"), 280, TRUE))
S <- crossprod(matrix(rnorm(16), 4)) / 3
B <- matrix(rnorm(14 * 4), 14) %*% chol(S)
d$y <- r4(5 + d$x + B[d$g, 1] + B[d$g, 2] * d$x + B[d$g, 3] * (d$t == "yes") + B[d$g, 4] * (d$f == "C") + .7 * rnorm(14)[d$g] * d$z + rnorm(280))
# Singular by design: slopes proportional to intercepts (up and down), and no group effect in y0.
b0 <- as.numeric(scale(rnorm(14)))
d$yup <- r4(2 + d$x + b0[d$g] * (1 + .5 * d$x) + rnorm(280, sd = 1.5))
d$ydown <- r4(2 + d$x + b0[d$g] * (1 - .5 * d$x) + rnorm(280, sd = 1.5))
d$y0 <- r4(lm.fit(model.matrix(~ g, d), rnorm(280))$residuals + .3 * d$x)
# Columns that repeat others, and a cell of t:f that is empty.
d$x2 <- r4(2 * d$x + 1)
d$h <- factor(ifelse(d$t == "yes" & d$f == "C", "B", as.character(d$f)))
d$big <- r4(d$x * 1e4)
frames$vector <- droplevels(d)

set.seed(20240615)
# Many levels seen once.
k <- c(1:30, sample(31:45, 90, TRUE))
d <- data.frame(id = factor(sprintf("i%02d", k)), x = r4(rnorm(120)))
d$y <- r4(d$x + rnorm(45)[k] + rnorm(120, sd = .7))
frames$once <- d

set.seed(20240616)
# Two factors with equally many levels: lme4 turns their order round when a third has more.
d <- data.frame(a = fac(8, 200, "a"), b = fac(8, 200, "b"), c = fac(20, 200, "c"), x = r4(rnorm(200)))
d$y <- r4(d$x + rnorm(8)[d$a] + .5 * rnorm(8)[d$b] + .8 * rnorm(20)[d$c] + rnorm(200))
frames$ties <- droplevels(d)

L <- function(id, data, formula, REML = TRUE, ...) list(id = id, data = data, formula = formula, REML = REML, ...)
cases <- list(
  L("crossed3_reml", "crossed", "y ~ x + f + (1|a) + (1|b) + (1|c)"),
  L("crossed3_ml", "crossed", "y ~ x + f + (1|a) + (1|b) + (1|c)", FALSE),
  L("crossed3_reordered", "crossed", "y ~ x + (1|c) + (1|b) + (1|a)"),
  L("ties_in_order", "ties", "y ~ x + (1|a) + (1|b)"),
  L("ties_reordered", "ties", "y ~ x + (1|a) + (1|b) + (1|c)"),
  L("two_vector_crossed", "crossed", "y ~ x + z + (1 + x|a) + (1 + z|b)"),
  L("two_vector_crossed_ml", "crossed", "y ~ x * z + (x|a) + (z|b) + (1|c)", FALSE),
  L("nested3_reml", "nested", "y ~ x + (1|a/b/c)"),
  L("nested3_slopes", "nested", "y ~ x + (x|a) + (1|a:b)"),
  L("interaction_group", "crossed", "y ~ x + (1|a:b)"),
  L("interaction_group_both", "crossed", "y ~ x + (1|a:b) + (1|a)", FALSE),
  L("vector3", "vector", "y ~ x + t + (1 + x + t|g)", FALSE),
  L("vector_factor", "vector", "y ~ x + f + (1 + x + f|g)"),
  L("factor_slopes", "vector", "y ~ f + (0 + f|g)"),
  L("factor_cellmeans", "vector", "y ~ 0 + f + x + (0 + t|g)", FALSE),
  L("terms_one_factor", "vector", "y ~ x + z + (1|g) + (0 + x|g) + (0 + z|g)"),
  L("terms_one_factor_mixed", "vector", "y ~ x + z + (1 + x|g) + (0 + z|g)"),
  L("double_bar", "vector", "y ~ x + z + (x + z||g)", FALSE),
  L("singular_zero", "vector", "y0 ~ x + (1|g)"),
  L("singular_zero_slope", "vector", "y0 ~ x + (x|g)", FALSE),
  L("singular_plus_one", "vector", "yup ~ x + (x|g)"),
  L("singular_minus_one", "vector", "ydown ~ x + (x|g)", FALSE),
  L("weights_six_decades", "crossed", "yw ~ x + z + (1|a) + (1|b)", weights = "w"),
  L("weights_slope", "crossed", "yw ~ x + (x|a)", FALSE, weights = "w"),
  L("offset_argument", "crossed", "y ~ x + (1|a)", offset = "2*v"),
  L("offset_both_weights", "crossed", "yw ~ x + offset(v) + (1|a)", offset = "z", weights = "w"),
  L("rank_deficient", "vector", "y ~ x + x2 + z + (1|g)"),
  L("rank_deficient_cell", "vector", "y ~ t * h + (1|g)"),
  L("no_fixed_reml", "crossed", "y ~ 0 + (1|a)"),
  L("no_fixed_ml", "crossed", "y ~ 0 + (1|a) + (1|b)", FALSE),
  L("missing_omit", "crossed_na", "y ~ x + (1|a) + (1|b)"),
  L("missing_exclude", "crossed_na", "y ~ x + (x|a)", FALSE, weights = "w", na_action = "na.exclude"),
  L("levels_once", "once", "y ~ x + (1|id)"),
  L("poly", "crossed", "y ~ poly(x, 3) + (1|a)"),
  L("contr_sum", "crossed", "y ~ f * x + (1|a)", contrasts = list(f = "contr.sum")),
  L("contr_helmert", "crossed", "y ~ f + o + (1|a)", contrasts = list(f = "contr.helmert", o = "contr.helmert")),
  L("ordered", "crossed", "y ~ o * x + (1|a)", FALSE),
  L("transforms", "crossed", "y ~ I(x^2) + log(z + 2) + exp(x):f + (1|b)"),
  L("logical_integer_group", "crossed", "y ~ flag + k + (flag|k)", FALSE),
  L("scaled_slope", "vector", "y ~ big + (big||g)"))

dir.create("data", showWarnings = FALSE)
write_data(frames, "data")
fits <- lapply(cases, function(cs) { cat(cs$id, "\n"); record(cs, fit_case(cs, frames)) })
write_json_file(list(program = program(), script = "more_lmm.R",
  note = "theta from bobyqa restarted to 1e-11, then Newton steps on the entries off their bound", cases = fits), "more_lmm.json")
