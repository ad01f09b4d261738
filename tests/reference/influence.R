# Makes influence.json: leverages, Cook's distances and studentized residuals by lme4, and lme4's fits to the data without each group.
#   cd tests/reference && Rscript influence.R
# lme4's rstudent is internally studentized. Its influence() searches loosely: the fits without a group are made here one by one, from
# tight searches; fixed effects that lme4 drops for want of rows are NA. The case "singular" is R's glm: a fit without random variance.
suppressMessages({library(lme4); library(jsonlite)})
num <- function(x) unname(as.numeric(x))
read_frame <- function(name) {
  meta <- fromJSON(file.path("data", paste0(name, ".json")), simplifyVector = FALSE)
  d <- read.csv(file.path("data", paste0(name, ".csv")), colClasses = "character")
  as.data.frame(mapply(function(x, m) switch(m$kind, factor = factor(x, unlist(m$levels), ordered = m$ordered),
    logical = x == "TRUE", integer = as.integer(x), as.numeric(x)), d, meta[names(d)], SIMPLIFY = FALSE))
}
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, optCtrl = list(rhobeg = 0.02, rhoend = 1e-11, maxfun = 1e5),
  check.conv.singular = "ignore", check.rankX = "silent.drop.cols", check.nlev.gtreq.5 = "ignore")
tight <- function(formula, d, weights, REML, start = NULL) {
  d$.w <- weights
  lmer(as.formula(formula), d, weights = .w, REML = REML, control = control, start = start)
}
cases <- list()
model <- function(id, data, d, formula, group = NULL, weights = NULL, REML = TRUE) {
  w <- if (is.null(weights)) rep(1, nrow(d)) else d[[weights]]
  m <- tight(formula, d, w, REML)
  m <- tight(formula, d, w, REML, getME(m, "theta"))
  out <- list(id = id, program = paste("lme4", packageVersion("lme4"), R.version.string), data = data, formula = formula, weights = weights,
    REML = REML, group = group, hatvalues = num(hatvalues(m)), cooks_distance = num(cooks.distance(m)), rstudent = num(rstudent(m)))
  if (!is.null(group)) {
    levels <- sort(unique(as.character(d[[group]])))
    fits <- lapply(levels, function(level) {
      rest <- as.character(d[[group]]) != level
      tight(formula, d[rest, ], w[rest], REML, getME(m, "theta"))
    })
    out$levels <- levels
    out$without <- lapply(fits, function(f) list(beta = as.list(fixef(f)), se = as.list(sqrt(diag(as.matrix(vcov(f))))), sigma = sigma(f),
      sdcor = num(as.data.frame(VarCorr(f))$sdcor), logdet = num(determinant(as.matrix(vcov(f)))$modulus)))
  }
  cat(id, "\n")
  cases[[length(cases) + 1]] <<- out
}
d <- transform(sleepstudy, w = rep(c(1, 2, 0.5), 60))
model("sleep", "sleepstudy", d, "Reaction ~ Days + (Days | Subject)", "Subject")
model("sleep_ML", "sleepstudy", d, "Reaction ~ Days + (Days | Subject)", "Subject", REML = FALSE)
model("sleep_w", "sleepstudy_w", d, "Reaction ~ Days + (Days | Subject)", NULL, "w")
model("unbalanced", "sleepstudy_unbalanced", read_frame("sleepstudy_unbalanced"), "Reaction ~ Days + (Days | Subject)", "Subject")
model("machines", "Machines", nlme::Machines, "score ~ Machine + (1 | Worker/Machine)", "Worker")
model("machine", "Machines", nlme::Machines, "score ~ Machine + (1 | Worker)", "Machine")
model("penicillin", "Penicillin", Penicillin, "diameter ~ 1 + (1 | plate) + (1 | sample)", "sample")
model("cake", "cake", cake, "angle ~ recipe * temp + (1 | recipe:replicate)", "temperature")
crossed <- read_frame("crossed")
model("crossed", "crossed", crossed, "yw ~ x + f + (x | a) + (1 | b)", "b", "w")
# Groups that cancel out: the search of a mixed model ends without random variance, where it is a generalized linear model.
x <- rep(1:10, 4); y <- c(2, 1, 3, 4, 2, 5, 4, 7, 6, 9, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 2, 2, 2, 4, 3, 5, 5, 6, 8, 8, 1, 1, 4, 3, 3, 6, 4, 7, 7, 9)
glm_case <- function(family, y, shape) {
  m <- glm(y ~ x, family = family, control = list(epsilon = 1e-14))
  list(id = family, program = paste("stats", R.version.string), x = x, y = y, hatvalues = num(hatvalues(m)), rstudent = num(rstudent(m)),
    cooks_distance = num(cooks.distance(m)))
}
singular <- list(glm_case("poisson", y), glm_case("binomial", as.numeric(y > 4)))
write_json(list(cases = cases, singular = singular), "influence.json", auto_unbox = TRUE, digits = NA, na = "null", null = "null")
