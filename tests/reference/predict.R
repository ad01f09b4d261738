# Makes predict.json: lme4's predict() on the fit's own rows and on new data.
#   cd tests/reference && Rscript predict.R
# theta is recorded, so that predictions can be compared where lme4's search ended.
source("fit_record.R")
suppressMessages(library(splines))
read_frame <- function(name) {
  meta <- fromJSON(file.path("data", paste0(name, ".json")), simplifyVector = FALSE)
  d <- read.csv(file.path("data", paste0(name, ".csv")), colClasses = "character")
  as.data.frame(mapply(function(x, m) switch(m$kind, factor = factor(x, unlist(m$levels), ordered = m$ordered),
    logical = x == "TRUE", integer = as.integer(x), as.numeric(x)), d, meta[names(d)], SIMPLIFY = FALSE))
}
crossed <- read_frame("crossed"); nested <- read_frame("nested"); vector <- read_frame("vector")
crossed_na <- read_frame("crossed_na")
sleepstudy <- lme4::sleepstudy; Penicillin <- lme4::Penicillin; cake <- lme4::cake
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9, maxfun = 1e5), check.rankX = "silent.drop.cols")
models <- list()
model <- function(id, data, formula, newdata, re_form = list("NULL"), new_levels = FALSE, ...) {
  extra <- as.list(substitute(list(...)))[-1]
  call <- as.call(c(quote(lmer), list(as.formula(formula), data = as.name(data), control = quote(tight)), extra))
  m <- suppressWarnings(eval(call))
  # lme4 needs new factors with all the levels of the old ones, and every level in a row if (f | g).
  old <- get(data)
  r_newdata <- newdata
  for (v in names(newdata)) if (is.factor(old[[v]]))
    r_newdata[[v]] <- factor(newdata[[v]], union(levels(old[[v]]), newdata[[v]]), ordered = is.ordered(old[[v]]))
  predictions <- lapply(re_form, function(text) list(re_form = text, own = head(num(predict(m, re.form = eval(parse(text = text)))), 20),
    new = num(predict(m, r_newdata, re.form = eval(parse(text = text)), allow.new.levels = new_levels))))
  models[[length(models) + 1]] <<- list(id = id, data = data, formula = formula, newdata = lapply(newdata, function(x) I(as.vector(x))),
    arguments = lapply(extra, function(x) if (is.call(x)) as.list(eval(x)) else as.character(x)), new_levels = new_levels,
    theta = I(num(getME(m, "theta"))), predictions = predictions)
}
D <- function(...) data.frame(..., stringsAsFactors = FALSE)
all_or_none <- list("NULL", "NA", "~0")
model("sleep", "sleepstudy", "Reaction ~ Days + (Days|Subject)", D(Days = c(0, 4.5, 12, 3), Subject = c("308", "372", "308", "335")),
      c(all_or_none, "~(1|Subject)", "~(0+Days|Subject)", "~(Days|Subject)"))
model("sleep_new_levels", "sleepstudy", "Reaction ~ Days + (Days|Subject)", D(Days = c(0, 4.5, 12), Subject = c("308", "new", "other")),
      list("NULL", "~(1|Subject)"), TRUE)
model("sleep_missing_predictor", "sleepstudy", "Reaction ~ Days + (Days|Subject)", D(Days = c(0, NA, 12), Subject = c("308", "372", "330")), all_or_none)
model("penicillin", "Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)", D(plate = c("a", "g", "x"), sample = c("F", "A", "C")),
      c(all_or_none, "~(1|plate)", "~(1|sample)", "~(1|sample)+(1|plate)"))
model("nested", "nested", "y ~ x + (1|a/b/c)", D(x = c(1, 2, 3), a = c("g1", "g2", "g9"), b = c("u", "v", "w"), c = c("p", "q", "r")),
      c(all_or_none, "~(1|a)", "~(1|b:a)", "~(1|a/b)"))
model("several_terms_one_factor", "vector", "y ~ x + z + (1|g) + (0+x|g) + (0+z|g)", D(x = c(-1, 0.5, 2), z = c(1, 0, -2), g = c("g1", "g14", "g5")), all_or_none)
model("factor_slopes", "vector", "y ~ x + f + (1+x+f|g)", D(x = c(-1, 0.5, 2), f = c("B", "C", "A"), g = c("g1", "g14", "g5")), all_or_none)
model("interaction", "vector", "y ~ f*x + (1|g)", D(x = c(-1, 0.5), f = c("C", "C"), g = c("g3", "g2")), all_or_none)
model("rank_deficient", "vector", "y ~ x + x2 + z + (1|g)", D(x = c(0, 1), x2 = c(1, 3), z = c(0.5, 2), g = c("g1", "g2")), all_or_none)
few <- D(x = c(-0.4, 0, 1.3), z = c(0.5, -0.5, 1.9), f = c("mid", "hi", "hi"), o = c("m", "xl", "s"), a = c("a3", "a1", "a15"), b = c("b1", "b10", "b2"), v = c(0.1, 0.9, 2))
model("poly", "crossed", "y ~ poly(x, 3) + (1|a)", few, all_or_none)
model("poly_raw", "crossed", "y ~ poly(x, 2, raw = TRUE) + (1|a)", few, all_or_none)
model("scale", "crossed", "y ~ scale(x) + (scale(x)|a)", few, all_or_none)
model("ns", "crossed", "y ~ ns(x, df = 3) + (1|a)", few, all_or_none)
model("bs", "crossed", "y ~ bs(x, df = 5) + (1|a)", few, all_or_none)
model("transforms", "crossed", "y ~ I(x^2) + log(z + 2) + exp(x):f + (1|b)", few, all_or_none)
model("contr_sum", "crossed", "y ~ f * x + (1|a)", few, all_or_none, contrasts = list(f = "contr.sum"))
model("ordered", "crossed", "y ~ o * x + (1|a)", few, all_or_none)
model("offset_in_formula", "crossed", "yw ~ x + offset(v) + (1|a)", few, all_or_none)
model("offset_argument", "crossed", "yw ~ x + (1|a)", few, all_or_none, offset = v)
model("weights", "crossed", "yw ~ x + (1|a) + (1|b)", few, c(all_or_none, "~(1|b)"), weights = w)
model("cellmeans", "cake", "angle ~ 0 + recipe + temp + (1|recipe:replicate)", D(recipe = c("C", "A"), temp = c(200, 180), replicate = c("1", "15")),
      all_or_none)
write_json_file(list(program = program(), script = "predict.R", cases = models), "predict.json")
