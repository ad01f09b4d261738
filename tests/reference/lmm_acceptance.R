# Makes lmm_acceptance.json: numbers printed in lme4's tests and help pages, or by a run of lme4, for linear
# mixed models, each beside the value of a tightly converged lme4 fit.
#   cd tests/reference && Rscript lmm_acceptance.R
# Data that mixef does not ship go to data/. r_rtol is 1e-6 after Newton steps (a criterion of 1e3 is
# known to 1e-13 of itself, which leaves theta and what follows from it uncertain to some 1e-7), and 3e-5 where lme4's
# search alone ended.
source("fit_record.R")
ext <- function(name) { e <- new.env(); data(list = name, package = "nlme", envir = e); as.data.frame(e[[name]]) }
sleep <- lme4::sleepstudy
outer_frames <- list(ergoStool = ext("ergoStool"), Machines = ext("Machines"), Oats = ext("Oats"),
  sleepstudy_w12 = within(sleep, { w <- rep(c(1, 2), 90) }))
frames <- c(outer_frames, list(sleepstudy = sleep, Dyestuff = lme4::Dyestuff, Dyestuff2 = lme4::Dyestuff2,
  Penicillin = lme4::Penicillin, Pastes = lme4::Pastes, cake = lme4::cake, InstEval = lme4::InstEval))

# Why a tolerance is what it is: relative to the largest number of the check, save `digits`, which allows
# half a unit of the last digit given.
reasons <- list(
  criterion = list(rtol = 1e-9, why = "a criterion is flat at its optimum: an inexact theta does not reach these digits"),
  fixed = list(rtol = 1e-9, why = "a criterion at a given theta, or a coefficient that theta does not enter"),
  bobyqa = list(rtol = 5e-5, why = "lme4's search stops with theta about 1e-5 from the optimum"),
  coarse = list(rtol = 3e-4, why = "the literal and lme4's tightly converged value (r_value) differ by about this much; r_value is the close check"),
  truncated = list(rtol = 5e-4, why = "the literal is cut at its fourth digit, not rounded (r_value is -.13755); r_value is the close check"),
  digits = list(rtol = 0, why = "half a unit of the last digit printed, and lme4's error in theta does not reach it"))

# One number or vector: quantity (with what selects from it), the literal as printed, where it is printed,
# and the R expression that gives the same from the fit m.
Q <- function(quantity, text, source, r, reason = "bobyqa", ...) {
  text <- strsplit(text, " +")[[1]]
  places <- nchar(sub("^[^.]*\\.?", "", text))
  atol <- if (reason == "digits") 0.5 * 10^-places else 0
  list(quantity = quantity, select = list(...), value = as.numeric(text), source = source, r = substitute(r),
       rtol = reasons[[reason]]$rtol, atol = atol, why = reasons[[reason]]$why)
}
row <- function(id, number, data, formula, REML, ..., r_formula = NULL, weights = NULL, offset = NULL, newton = TRUE)
  list(id = id, row = number, data = data, formula = formula, r_formula = r_formula, REML = REML, weights = weights,
       offset = offset, newton = newton, checks = list(...))
TT <- function(file) paste("lme4 2.1-0, tests:", file)
H <- "lme4 2.1-0, run at its defaults"
vc <- function(m) as.data.frame(VarCorr(m), order = "lower.tri")$vcov
devfun <- function(m, theta) { d <- as.function(update_devfun(m)); d(theta) }
update_devfun <- function(m) { a <- as.list(m@call)[-1]; do.call(mkLmerDevfun, do.call(lFormula, a)) }
crit <- function(m) if (isREML(m)) REMLcrit(m) else -2 * as.numeric(logLik(m))
cv <- function(m, group, term = 1) { v <- attr(ranef(m, condVar = TRUE)[[group]], "postVar"); if (is.list(v)) v[[term]][, , 1] else v[, , 1] }

rows <- list(
  row("dyestuff_reml", "1-3", "Dyestuff", "Yield ~ 1 + (1|Batch)", TRUE,
    Q("beta", "1527.5", TT("test-lmer"), fixef(m), "fixed"),
    Q("vcov_components", "1764.0375195", TT("test-lmer"), vc(m)[1], index = 0),
    Q("theta", ".84832031", TT("test-lmer"), getME(m, "theta")),
    Q("sigma", "49.5101272946856", TT("test-lmer"), sigma(m)),
    Q("objective", "319.654276842342", TT("test-lmer"), REMLcrit(m), "criterion"),
    Q("vcov", "375.714676744", TT("test-lmer"), vcov(m)[1, 1]),
    Q("devfun", "319.792389042002", TT("test-lmer"), devfun(m, 1), "fixed", theta = I(1)),
    Q("devfun", "326.023232155879", TT("test-lmer"), devfun(m, 0), "fixed", theta = I(0))),
  row("dyestuff_ml", "4,7", "Dyestuff", "Yield ~ 1 + (1|Batch)", FALSE,
    Q("objective", "327.327059881135", TT("test-lmer"), crit(m), "criterion"),
    Q("sigma", "49.5100999308089", TT("test-lmer"), sigma(m)),
    Q("vcov", "313.09721874266", TT("test-lmer"), vcov(m)[1, 1]),
    Q("aic", "333.327059881135", TT("test-lmer"), AIC(m), "criterion"),
    Q("npar", "3", TT("test-lmer"), attr(logLik(m), "df"), "fixed"),
    Q("condvar", "362.3583", TT("test-ranef"), cv(m, "Batch"), "coarse", group = "Batch", level = "A")),
  row("dyestuff2_reml", "8", "Dyestuff2", "Yield ~ 1 + (1|Batch)", TRUE,
    Q("beta", "5.6656", TT("lmer-1"), fixef(m), "fixed"),
    Q("se", ".67838803150", TT("lmer-1"), sqrt(vcov(m)[1, 1])),
    Q("tvalue", "8.3515624346", TT("lmer-1"), fixef(m) / sqrt(vcov(m)[1, 1])),
    Q("theta", "0", TT("lmer-1"), getME(m, "theta"), "digits"),
    Q("objective", "161.8", H, REMLcrit(m), "digits"),
    Q("sigma", "3.71568", H, sigma(m), "digits")),
  row("sleep_reml", "9-11,13,26,29,30", "sleepstudy", "Reaction ~ Days + (Days|Subject)", TRUE,
    Q("beta", "251.405104848485 10.467285959595", TT("lmer-1"), fixef(m), "fixed"),
    Q("vcov_correlation", "-.1375", TT("lmer-1"), cov2cor(as.matrix(vcov(m)))[2, 1], "truncated", index = I(c(1, 0))),
    Q("objective", "1743.6282722424", TT("REMLdev"), REMLcrit(m), "criterion"),
    Q("theta", ".966741773967 .015169058896 .230909953208", H, getME(m, "theta")),
    Q("vcov_components", "612.100158 9.604409 35.071714", H, vc(m)[1:3], index = I(0:2)),
    Q("sigma2", "654.940008", H, sigma(m)^2),
    Q("loglik", "-871.81413598", H, as.numeric(logLik(m)), "criterion"),
    Q("vcov_diagonal", "46.5751 2.38947", TT("lmer-0"), diag(as.matrix(vcov(m)))),
    Q("vcov_cholesky", "6.8245967 -.2126263 1.5310962", TT("lmer-0"), chol(as.matrix(vcov(m)))[c(1, 3, 4)]),
    Q("condsd", "12.07085695", H, sqrt(cv(m, "Subject")[1, 1]), group = "Subject", level = "308", index = 0),
    Q("ranef", "2.25855095", H, ranef(m)$Subject[1, 1], group = "Subject", level = "308", index = 0),
    Q("residual_range", "-101.17996 132.54664", TT("test-resids"), range(resid(m))),
    Q("residual_scaled_range", "-3.9536067 5.1792598", TT("test-resids"), range(resid(m, scaled = TRUE))),
    Q("fitted", "253.663652396798 430.66001930835 211.006415533628 227.634788908917 212.444742696829 257.61053840953",
      TT("test-predict"), fitted(m)[c(1, 10, 11, 20, 21, 30)], index = I(c(0, 9, 10, 19, 20, 29))),
    Q("df_residual", "174", "n - npar", df.residual(m), "fixed")),
  row("sleep_ml", "10,12,14,41", "sleepstudy", "Reaction ~ Days + (Days|Subject)", FALSE,
    Q("objective", "1751.939344", TT("REMLdev"), crit(m), "criterion"),
    Q("loglik", "-875.969672244", H, as.numeric(logLik(m)), "criterion"),
    Q("loglik", "-875.9696723", paste(TT("test-covariance_structures"), "(glmmTMB)"), as.numeric(logLik(m)), "criterion"),
    Q("theta", ".929190605 .018165755 .222643206", H, getME(m, "theta")),
    Q("sigma", "25.591907", H, sigma(m)),
    Q("aic", "1763.939344", TT("test-start"), AIC(m), "criterion"),
    Q("bic", "1783.1", TT("test-start"), BIC(m), "digits")),
  row("sleep_condvar", "26", "sleepstudy", "Reaction ~ Days + (Days|Subject)", TRUE,
    Q("condvar", "145.71273 -21.44041 -21.44041 5.310927", TT("test-ranef"), as.numeric(cv(m, "Subject")), "coarse",
      group = "Subject", level = "308")),
  row("sleep_us", "41", "sleepstudy", "Reaction ~ Days + us(Days|Subject)", FALSE,
    Q("loglik", "-875.9696723", paste(TT("test-covariance_structures"), "(glmmTMB)"), as.numeric(logLik(m)), "criterion"),
    r_formula = "Reaction ~ Days + (Days|Subject)"),
  row("sleep_intercept", "18", "sleepstudy", "Reaction ~ Days + (1|Subject)", TRUE,
    Q("df_residual", "176", TT("test-methods"), df.residual(m), "fixed")),
  row("sleep_two_terms", "27", "sleepstudy", "Reaction ~ Days + (1|Subject) + (0+Days|Subject)", TRUE,
    Q("condvar", "149.79166", TT("test-ranef"), cv(m, "Subject", 1), group = "Subject", level = "308", term = 0),
    Q("condvar", "5.4543894", TT("test-ranef"), cv(m, "Subject", 2), group = "Subject", level = "308", term = 1),
    Q("ranef", "1.5116973008 9.32373076098", TT("test-ranef"), as.numeric(ranef(m)$Subject[1, ]), "coarse", group = "Subject", level = "308")),
  row("sleep_double_bar", "28", "sleepstudy", "Reaction ~ Days + (Days||Subject)", TRUE,
    Q("fitted", "252.917801422647 272.708576602026 292.499351781404 312.290126960783", TT("test-doubleVertNotation"),
      fitted(m)[1:4], index = I(0:3))),
  row("sleep_double_bar_ml", "14", "sleepstudy", "Reaction ~ Days + (Days||Subject)", FALSE,
    Q("aic", "1762.0033", TT("test-start"), AIC(m), "digits"),
    Q("bic", "1777.97", TT("test-start"), BIC(m), "digits")),
  row("sleep_diag", "42", "sleepstudy", "Reaction ~ Days + diag(Days|Subject)", TRUE,
    Q("loglik", "-871.834646791", H, as.numeric(logLik(m)), "criterion"),
    Q("par", ".97989653 .23423123", H, getME(m, "theta")),
    r_formula = "Reaction ~ Days + (Days||Subject)"),
  row("sleep_diag_ml", "41,42", "sleepstudy", "Reaction ~ Days + diag(Days|Subject)", FALSE,
    Q("loglik", "-876.001627572", H, as.numeric(logLik(m)), "criterion"),
    Q("loglik", "-876.0016276", paste(TT("test-covariance_structures"), "(glmmTMB)"), as.numeric(logLik(m)), "criterion"),
    r_formula = "Reaction ~ Days + (Days||Subject)"),
  row("penicillin_reml", "33,34", "Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)", TRUE,
    Q("fitted", "25.9638 22.7663 25.7147 23.6799 23.7629 20.773", TT("test-predict"), fitted(m)[1:6], "digits", index = I(0:5)),
    Q("beta", "22.9722222222251", TT("test-predict"), fixef(m), "fixed"),
    Q("theta", "1.539675554 3.512518860", H, getME(m, "theta")),
    Q("objective", "330.860589", H, REMLcrit(m), "digits"),
    Q("sigma", ".549922682", H, sigma(m))),
  row("penicillin_ml", "34", "Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)", FALSE,
    Q("loglik", "-166.094174334", H, as.numeric(logLik(m)), "criterion"),
    Q("theta", "1.537594280 3.219756224", H, getME(m, "theta"))),
  row("pastes_sample", "36", "Pastes", "strength ~ 1 + (1|sample) + (1|batch)", TRUE,
    Q("theta", "3.526902209 1.563460012", H, getME(m, "theta")),
    Q("objective", "246.990746", H, REMLcrit(m), "digits"),
    Q("beta", "60.05333", H, fixef(m), "digits"),
    Q("se", ".67687", H, sqrt(vcov(m)[1, 1])),
    Q("vcov_components", "8.43367 1.65731 .67800", H, vc(m), index = I(0:2))),
  row("cake_interaction", "37", "cake", "angle ~ recipe*temperature + (1|recipe:replicate)", TRUE,
    Q("objective", "1638.62145988", H, REMLcrit(m), "criterion"),
    Q("vcov_components", "41.83704 20.47090", H, vc(m), index = I(0:1))),
  row("insteval_covariates", "38", "InstEval", "y ~ service + lectage + studage + (1|d) + (1|s)", FALSE, newton = FALSE,
    Q("loglik", "-118781.730425", H, as.numeric(logLik(m)), "criterion"),
    Q("theta", ".277073849 .439031364", H, getME(m, "theta")),
    Q("sigma", "1.17620261", H, sigma(m)),
    Q("beta", "3.22484305", H, fixef(m)[1], index = 0)),
  row("insteval_three_terms", "39", "InstEval", "y ~ 1 + (1|d) + (1|s) + (1|dept:service)", FALSE, newton = FALSE,
    Q("loglik", "-118826.645896", H, as.numeric(logLik(m)), "criterion"),
    Q("theta", ".2758781 .4354107 .0935924", H, getME(m, "theta")),
    Q("beta", "3.25521194", H, fixef(m))),
  row("ergo_stool", "40", "ergoStool", "effort ~ Type + (1|Subject)", TRUE,
    Q("se", ".57601226 .51868384", TT("vcov-etc"), sqrt(diag(as.matrix(vcov(m))))[1:2], index = I(0:1))),
  row("machines_vector", "68d", "Machines", "score ~ Machine + (Machine|Worker)", TRUE,
    Q("objective", "208.311218336", H, REMLcrit(m), "criterion"),
    Q("sigma", ".961578447", H, sigma(m))),
  row("machines_nested", "68d", "Machines", "score ~ Machine + (1|Worker) + (1|Worker:Machine)", TRUE,
    Q("objective", "215.687568008", H, REMLcrit(m), "criterion"),
    Q("theta", "3.878565977 4.972095209", H, getME(m, "theta"))),
  row("oats", "68e", "Oats", "yield ~ nitro + (1|Block/Variety)", TRUE,
    Q("objective", "593.041753318", H, REMLcrit(m), "criterion"),
    Q("theta", ".855263177 1.127362659", H, getME(m, "theta")),
    Q("beta", "81.872222 73.666667", H, fixef(m), "digits")),
  row("sleep_offset_ml", "68f", "sleepstudy", "Reaction ~ Days + (1|Subject)", FALSE, offset = "5*Days",
    Q("loglik", "-897.039321503", H, as.numeric(logLik(m)), "criterion"),
    Q("beta", "5.46728595960", H, fixef(m)[2], "fixed", index = 1),
    Q("theta", "1.16561179", H, getME(m, "theta"))),
  row("sleep_weights", "weights", "sleepstudy_w12", "Reaction ~ Days + (Days|Subject)", TRUE, weights = "w",
    Q("objective", "1750.55660857", H, REMLcrit(m), "criterion"),
    Q("theta", ".839769198831 .00765457625 .188755448909", H, getME(m, "theta")),
    Q("beta", "251.844405045 10.4717266967", H, fixef(m))))

out <- list()
for (cs in rows) {
  cat(cs$id, "\n")
  m <- fit_case(cs, frames, newton = cs$newton)
  checks <- lapply(cs$checks, function(k) {
    k$r_value <- num(eval(k$r))
    off <- abs(k$value - k$r_value)
    bad <- off > k$atol + k$rtol * max(abs(k$value))
    if (any(bad)) stop(cs$id, ", ", k$quantity, ": literal ", toString(k$value), ", lme4 ",
                       toString(format(k$r_value, digits = 14)))
    k$r_rtol <- if (cs$newton) 1e-6 else 3e-5
    k$r <- paste(deparse(k$r), collapse = "")
    if (length(k$value) > 1) { k$value <- I(k$value); k$r_value <- I(k$r_value) }
    if (!length(k$select)) k$select <- NULL
    k
  })
  out[[length(out) + 1]] <- c(cs[c("id", "row", "data", "formula", "REML", "weights", "offset")], list(checks = checks,
    fit = record(cs, m, full = FALSE)))
}
write_data(outer_frames, "data")
write_json_file(list(program = program(), script = "lmm_acceptance.R", reasons = reasons,
  note = "value: the literal of the source; r_value: this program, tightly converged; a check passes within atol + rtol * max|value| of the literal and within r_rtol * max|r_value| of lme4",
  cases = out), "lmm_acceptance.json")
