# Makes pbmodcomp.json: parametric bootstrap tests of pbkrtest, standard errors of lme4's bootMer, and
# intervals of the package boot for given replicates.
#   cd tests/reference && Rscript pbmodcomp.R
suppressMessages({library(lme4); library(pbkrtest); library(boot); library(jsonlite)})
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12),
                     check.conv.singular = "ignore")
# The calls have to name what pbkrtest can find again.
fit <- function(formula, data) eval(bquote(lmer(.(formula), .(as.name(data)), REML = FALSE, control = tight)))
gfit <- function(formula, data) eval(bquote(glmer(.(formula), .(as.name(data)), family = binomial)))

models <- list(
  sleep_days = list(large = fit(Reaction ~ Days + (Days | Subject), "sleepstudy"), small = fit(Reaction ~ 1 + (Days | Subject), "sleepstudy"), n = 400),
  sleep_square = list(large = fit(Reaction ~ Days + I(Days^2) + (Days | Subject), "sleepstudy"), small = fit(Reaction ~ Days + (Days | Subject), "sleepstudy"), n = 1000),
  cake_recipe = list(large = fit(angle ~ recipe + temp + (1 | recipe:replicate), "cake"), small = fit(angle ~ temp + (1 | recipe:replicate), "cake"), n = 2000),
  sleep_slopes = list(large = fit(Reaction ~ Days + (Days | Subject), "sleepstudy"), small = fit(Reaction ~ Days + (1 | Subject), "sleepstudy"), n = 300),
  cbpp_period = list(large = gfit(cbind(incidence, size - incidence) ~ period + (1 | herd), "cbpp"), small = gfit(cbind(incidence, size - incidence) ~ 1 + (1 | herd), "cbpp"), n = 100))
tests <- lapply(names(models), function(id) {
  m <- models[[id]]
  set.seed(20240711)
  got <- suppressMessages(suppressWarnings(PBmodcomp(m$large, m$small, nsim = m$n)))
  s <- summary(got)
  ref <- as.numeric(got$ref)
  list(id = id, LRT = unname(got$LRTstat[1]), df = unname(got$LRTstat[2]), used = length(ref),
       extreme = sum(ref > got$LRTstat[1]), summary = as.list(as.data.frame(s$test)), rows = rownames(s$test),
       ref = signif(ref, 12))
})

# bootMer: standard errors and means of 2000 replicates.
set.seed(11)
fm1 <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, control = tight)
stats <- function(x) {v <- as.data.frame(VarCorr(x)); c(setNames(v$sdcor[c(1, 2, 3, 4)], c("sd_(Intercept)", "sd_Days", "cor", "sigma")), fixef(x))}
parametric <- suppressMessages(suppressWarnings(bootMer(fm1, stats, nsim = 2000)))
set.seed(12)
semi <- suppressMessages(suppressWarnings(bootMer(fm1, stats, nsim = 2000, use.u = TRUE, type = "semiparametric")))
moments <- function(b) list(t0 = as.list(b$t0), mean = colMeans(b$t, na.rm = TRUE), sd = apply(b$t, 2, sd, na.rm = TRUE), n = nrow(b$t))

# boot.ci of replicates that are given.
set.seed(13)
intervals <- lapply(c(99, 200, 1000), function(n) {
  t <- signif(exp(rnorm(n)), 8)
  b <- structure(list(t0 = 1.2, t = matrix(t), R = n, sim = "ordinary", stype = "i", call = quote(boot())), class = "boot")
  one <- function(level) {ci <- boot.ci(b, conf = level, type = c("norm", "basic", "perc"))
    list(level = level, norm = ci$normal[2:3], basic = ci$basic[4:5], perc = ci$percent[4:5])}
  list(t = t, t0 = 1.2, by_level = lapply(c(.95, .8), one))
})
out <- list(source = paste("R", getRversion(), "lme4", packageVersion("lme4"), "pbkrtest", packageVersion("pbkrtest"), "boot", packageVersion("boot")),
            cases = tests, bootMer = list(parametric = moments(parametric), semiparametric = moments(semi)), intervals = intervals)
writeLines(toJSON(out, digits = 12, auto_unbox = TRUE, na = "null"), "pbmodcomp.json")
