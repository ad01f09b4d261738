# Makes after_insteval.json: what comes after a large fit, beside emmeans, car, performance and lme4: InstEval by ML.
# Means by z, since degrees of freedom of 73,421 rows take R too long. Leverages are those of every 500th row, by one column of
# the hat matrix each, at lme4's estimates.
#   cd tests/reference && Rscript after_insteval.R
source("fit_record.R")
suppressMessages({library(emmeans); library(Matrix)})
fit <- lmer(y ~ service * lectage + studage + (1 | s) + (1 | d), InstEval, REML = FALSE,
            control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9)))
emm_options(msg.interaction = FALSE)
frame_of <- function(x) { d <- as.data.frame(x); lapply(d, function(v) if (is.factor(v)) as.character(v) else v) }
means <- emmeans(fit, ~ service, lmer.df = "asymptotic")
ages <- emmeans(fit, ~ studage, lmer.df = "asymptotic")
rows <- seq(1, nrow(InstEval), by = 500)
U <- getME(fit, "A")                                   # Lambda'Z'
X <- getME(fit, "X")
L <- getME(fit, "L"); RZX <- getME(fit, "RZX"); RX <- getME(fit, "RX")
CL <- solve(L, solve(L, U[, rows], system = "P"), system = "L")
CR <- solve(t(RX), t(X[rows, ]) - t(RZX) %*% CL)
hat <- colSums(as.matrix(CL)^2) + colSums(as.matrix(CR)^2)
write_json_file(list(program = paste(program(), "emmeans", packageVersion("emmeans"), "car", packageVersion("car"), "performance",
  packageVersion("performance")), script = "after_insteval.R", theta = unname(getME(fit, "theta")), means = frame_of(means),
  pairs = frame_of(pairs(ages)), vif = as.list(as.data.frame(car::vif(fit))), r2 = unlist(performance::r2(fit)),
  icc = as.list(performance::icc(fit)), rows = rows - 1, hat = hat), "after_insteval.json")
