# Makes anova.json and data/factorial.*: tables of tests of terms by lmerTest (types I to III, Satterthwaite and
# Kenward-Roger) and car (type II and III, chi-square), likelihood-ratio tables and drop1 by lme4, at tight optima.
#   cd tests/reference && Rscript anova.R
source("glmm_record.R")
suppressMessages({library(lmerTest); library(car); library(mlmRev)})
options(warn = 1)

# A factorial with unequal cells, covariates and a crossed group; three cells of A by B, and one of A:B:C, to be emptied.
set.seed(20250117)
n <- 240
d <- data.frame(A = factor(sample(c("a1", "a2", "a3"), n, TRUE, c(.5, .3, .2))), B = factor(sample(c("b1", "b2", "b3"), n, TRUE, c(.2, .35, .45))),
  C = factor(sample(c("c1", "c2"), n, TRUE)), g = factor(sample(sprintf("g%02d", 1:20), n, TRUE)), x = round(rnorm(n, 1), 3), z = round(runif(n, -1, 2), 3))
d$o <- factor(sample(c("lo", "mid", "hi"), n, TRUE, c(.4, .4, .2)), levels = c("lo", "mid", "hi"), ordered = TRUE)
d$logic <- d$z > .6
d$w <- round(runif(n, .3, 3), 2)
d$y <- round(10 + c(0, 1, .5)[d$A] + c(0, .4, .9)[d$B] + .5 * (d$A == "a2") * (d$C == "c2") + .3 * d$x + .4 * d$x * (d$B == "b3") - .2 * d$z +
  rnorm(20, 0, .8)[d$g] + rnorm(n) / sqrt(d$w), 4)
frames <- list(factorial = d)
write_data(frames, "data")
frames$cake <- lme4::cake; frames$sleepstudy <- lme4::sleepstudy; frames$cbpp <- lme4::cbpp; frames$VerbAgg <- lme4::VerbAgg
data(Contraception, package = "mlmRev")
Contraception$ch <- factor(ifelse(Contraception$livch == "0", "N", "Y"))
frames$Contraception <- Contraception
# Rows counted from 1; an expression that keeps rows is evaluated here and in Python alike.
frames$cake_some <- frames$cake[-c(1:4, 9, 50:53, 77, 101, 102, 200, 244, 245), ]
frames$sleep_some <- frames$sleepstudy[-c(2, 3, 5, 17, 18, 19, 20, 44, 97:101, 150, 171), ]
frames$one_empty <- subset(frames$factorial, !(A == "a3" & B == "b1"))
frames$three_empty <- subset(frames$factorial, !(A == "a3" & B == "b1") & !(A == "a1" & B == "b3") & !(A == "a2" & B == "b2"))
frames$deep_empty <- subset(frames$factorial, !(A == "a2" & B == "b1" & C == "c2"))

table_of <- function(a) list(rows = I(rownames(a)), columns = I(colnames(a)), values = lapply(as.list(a), function(x) I(num(x))),
  heading = I(as.character(attr(a, "heading"))))
printed <- function(x) I(capture.output(print(x)))
C <- function(id, data, formula, REML = TRUE, ...) list(id = id, data = data, formula = formula, REML = REML, ...)
cases <- list(
  C("sleepstudy", "sleepstudy", "Reaction ~ Days + (Days|Subject)"),
  C("sleepstudy_poly", "sleepstudy", "Reaction ~ poly(Days, 2) + (Days|Subject)"),
  C("sleep_some", "sleep_some", "Reaction ~ Days + I(Days^2) + (Days|Subject)", REML = FALSE),
  C("cake", "cake", "angle ~ recipe * temperature + (1|recipe:replicate)"),
  C("apart", "factorial", "y ~ A + B:C + (1|g)"),
  C("apart_slope", "factorial", "y ~ A + B:x + (1|g)"),
  C("cake_some", "cake_some", "angle ~ recipe * temperature + (1|recipe:replicate)"),
  C("cake_covariate", "cake_some", "angle ~ recipe * temp + (1|recipe:replicate)"),
  C("two_way", "factorial", "y ~ A * B + (1|g)"),
  C("two_way_ml", "factorial", "y ~ A * B + x + (1|g)", REML = FALSE),
  C("three_way", "factorial", "y ~ A * B * C + (1|g)"),
  C("three_way_covariate", "factorial", "y ~ A * B * x + C + (1|g)"),
  C("nested", "factorial", "y ~ A / C + x + (1|g)"),
  C("no_margin", "factorial", "y ~ A + A:B + (1|g)"),
  C("no_intercept", "factorial", "y ~ 0 + A + B + (1|g)"),
  C("no_intercept_x", "factorial", "y ~ 0 + A + A:x + (1|g)"),
  C("covariates", "factorial", "y ~ x * z + B + (1|g)"),
  C("ordered", "factorial", "y ~ o * logic + x + (1|g)"),
  C("splines", "factorial", "y ~ A * poly(x, 2) + z + (x|g)"),
  C("weights", "factorial", "y ~ A * B + x + (1|g)", weights = "w"),
  C("one_empty", "one_empty", "y ~ A * B + (1|g)"),
  C("one_empty_x", "one_empty", "y ~ A * B + x + (1|g)"),
  C("three_empty", "three_empty", "y ~ A * B + (1|g)"),
  C("deep_empty", "deep_empty", "y ~ A * B * C + (1|g)"))

lmer_case <- function(cs) {
  d <- frames[[cs$data]]
  m <- fit_case(cs, frames)
  m@call[[1]] <- quote(lme4::lmer)
  lt <- suppressWarnings(as_lmerModLmerTest(m))
  tab <- function(...) tryCatch(table_of(suppressWarnings(suppressMessages(anova(lt, ...)))), error = function(e) list(error = conditionMessage(e)))
  out <- c(cs, list(theta = I(num(getME(m, "theta"))), logLik = num(logLik(m)), lme4 = table_of(anova(m))))
  for (type in c("I", "II", "III")) out[[type]] <- tab(type = type)
  if (is.null(cs$weights) && cs$REML && nrow(d) < 280) for (type in c("I", "III")) out[[paste0(type, "_KR")]] <- tab(type = type, ddf = "Kenward-Roger")
  d1 <- tryCatch(table_of(suppressWarnings(drop1(lt))), error = function(e) list(error = conditionMessage(e)))
  out$drop1_F <- d1
  # Type II by car is of the generalized least squares fit; type III needs sum contrasts.
  out$car_II <- tryCatch(table_of(car::Anova(m, type = 2)), error = function(e) list(error = conditionMessage(e)))
  old <- options(contrasts = c("contr.sum", "contr.poly"))
  ms <- fit_case(cs, frames)
  out$car_III <- tryCatch(table_of(car::Anova(ms, type = 3)), error = function(e) list(error = conditionMessage(e)))
  options(old)
  # Likelihood-ratio tests of single terms.
  if (is.null(cs$weights)) out$drop1 <- tryCatch({
    labels <- drop.scope(nobars(as.formula(cs$formula)))
    small <- lapply(labels, function(l) {
      # A no-intercept model keeps its constraint through update().
      ff <- deparse1(update(as.formula(cs$formula), paste(". ~ . -", l)))
      fit_case(modifyList(cs, list(formula = ff, REML = FALSE)), frames)
    })
    full <- fit_case(modifyList(cs, list(REML = FALSE)), frames)
    list(labels = I(labels), npar = I(vapply(small, function(s) attr(logLik(s), "df"), 0)), deviance = I(vapply(small, function(s) -2 * num(logLik(s)), 0)),
      full = -2 * num(logLik(full)), full_npar = attr(logLik(full), "df"))
  }, error = function(e) list(error = conditionMessage(e)))
  cat(cs$id, "\n")
  out
}
lmers <- lapply(cases, lmer_case)

# What R prints.
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12))
cake <- frames$cake_some; sleepstudy <- frames$sleepstudy
m <- lmerTest::lmer(angle ~ recipe * temperature + (1 | recipe:replicate), cake, control = tight)
fm1 <- lme4::lmer(Reaction ~ Days + (Days | Subject), sleepstudy, control = tight)
fm2 <- lme4::lmer(Reaction ~ Days + (Days || Subject), sleepstudy, control = tight)
fm3 <- lme4::lmer(Reaction ~ Days + (1 | Subject), sleepstudy, control = tight)
fm0 <- lm(Reaction ~ Days, sleepstudy)
fw <- lme4::lmer(Reaction ~ Days + (Days | Subject), sleepstudy, weights = rep(c(1, 2, .5), 60), control = tight)
fw0 <- lm(Reaction ~ Days, sleepstudy, weights = rep(c(1, 2, .5), 60))
cm <- lme4::lmer(angle ~ recipe * temperature + (1 | recipe:replicate), cake, control = tight)
ctl <- control
gm1 <- lme4::glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), frames$cbpp, binomial, control = ctl)
gm0 <- lme4::glmer(cbind(incidence, size - incidence) ~ 1 + (1 | herd), frames$cbpp, binomial, control = ctl)
glm1 <- glm(cbind(incidence, size - incidence) ~ period, binomial, frames$cbpp)
prints <- list(III = printed(anova(m)), I = printed(anova(m, type = 1)), KR = printed(anova(m, ddf = "Kenward-Roger")), lme4 = printed(anova(cm)),
  drop1 = printed(suppressWarnings(drop1(cm, test = "Chisq"))), drop1_F = printed(drop1(m)), drop1_none = printed(drop1(cm)),
  lrt = printed(suppressMessages(anova(fm1, fm2, fm3))), lrt_glmm = printed(anova(gm1, gm0)), drop1_glmm = printed(drop1(gm1, test = "Chisq")))
lrts <- list(sleep = table_of(suppressMessages(anova(fm1, fm2, fm3))), sleep_lm = table_of(suppressMessages(anova(fm1, fm0))),
  sleep_reml = table_of(anova(fm1, fm2, fm3, refit = FALSE)), weights_lm = table_of(suppressMessages(anova(fw, fw0))),
  cbpp = table_of(anova(gm1, gm0)), cbpp_glm = table_of(anova(gm1, glm1)))

# Wald tables of generalized models, by car at the exact optimum with the exact covariance.
G <- function(id, data, formula) list(id = id, data = data, formula = formula, family = "binomial", nAGQ = 1)
glmms <- lapply(list(
  G("cbpp", "cbpp", "cbind(incidence, size - incidence) ~ period + (1|herd)"),
  G("contra", "Contraception", "use ~ age * ch + I(age^2) + urban + (1|district)"),
  G("contra_livch", "Contraception", "use ~ age * livch + urban + (1|district)"),
  G("verbagg", "VerbAgg", "r2 ~ Anger + Gender * situ + btype * situ + (1|id)")), function(cs) {
  r <- glmm_case(cs, frames)
  m <- attr(r, "fit")
  V <- if (is.list(r$vcov)) do.call(rbind, r$vcov) else r$vcov
  b <- r$beta; names(b) <- r$beta_names; dimnames(V) <- list(r$beta_names, r$beta_names)
  X <- getME(m, "X"); asgn <- attr(X, "assign")
  II <- car::Anova(m, type = 2, vcov. = V)
  # Type III under sum contrasts: the same fit in other coordinates, beta_sum = T beta with X beta = X_sum beta_sum.
  tt <- delete.response(terms(nobars(as.formula(cs$formula))))
  d <- frames[[cs$data]]
  isf <- names(Filter(is.factor, d[all.vars(tt)]))
  Xs <- model.matrix(tt, d, contrasts.arg = setNames(rep(list("contr.sum"), length(isf)), isf))
  T <- qr.solve(Xs, X)
  bs <- drop(T %*% b); Vs <- T %*% V %*% t(T); as_ <- attr(Xs, "assign")
  wald <- function(b, V) drop(b %*% solve(V, b))
  labels <- attr(tt, "term.labels")
  III <- vapply(seq_along(labels), function(t) wald(bs[as_ == t], Vs[as_ == t, as_ == t, drop = FALSE]), 0)
  # Sequential: of the coefficients up to a term, the later ones dropped, in the metric of V^-1.
  P <- solve(V); up <- function(t) { k <- asgn <= t; if (!any(k)) 0 else { c <- (P %*% b)[k]; drop(c %*% solve(P[k, k], c)) } }
  I_ <- diff(vapply(0:length(labels), up, 0))
  cat(cs$id, "\n")
  c(cs, list(labels = I(labels), Df = I(as.numeric(table(factor(asgn[asgn > 0], seq_along(labels))))), I = I(I_), II = table_of(II), III = I(III),
    beta = I(num(b)), se = I(num(sqrt(diag(V))))))
})
versions <- vapply(c("lme4", "lmerTest", "pbkrtest", "car"), function(p) paste(p, packageVersion(p)), "")
write_json_file(list(program = paste(paste(versions, collapse = ", "), R.version.string), script = "anova.R", cases = lmers, printed = prints, lrt = lrts, glmm = glmms), "anova.json")
