# Freeze model matrices, term labels, bar expansions and number labels of R.
#   Rscript model_matrix.R > model_matrix.json        (R 4.2.2, lme4 1.1-31, MASS, splines, jsonlite)
suppressMessages({library(lme4); library(jsonlite); library(splines)})

n <- 24
i <- seq_len(n)
d <- data.frame(
  y = round(sin(i) * 5 + i / 7, 3),
  x = c(3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4) / 2,
  z = round(cos(i * 1.7) * 3 + 4, 2),
  k = rep(c(10L, 20L, 30L, 40L, 50L, 60L), 4),
  a = rep(c("u", "v", "w"), length.out = n),
  b = rep(c("m", "n"), each = 2, length.out = n),
  ch = rep(c("q", "p", "s", "r", "q"), length.out = n),
  o = rep(c("lo", "mid", "hi", "top"), each = 3, length.out = n),
  l = i %% 3 == 0,
  w = rep(c(0.5, 1, 2, 4), length.out = n),
  stringsAsFactors = FALSE)
names(d)[names(d) == "w"] <- "my w"
plain <- d
d$a <- factor(d$a); d$b <- factor(d$b)
d$o <- factor(d$o, levels = c("lo", "mid", "hi", "top"), ordered = TRUE)

new <- data.frame(x = c(0.25, 2.6, 5), z = c(1.5, 4, 8), k = c(15L, 35L, 70L),
                  a = c("w", "u", "v"), b = c("n", "m", "n"), ch = c("s", "q", "p"),
                  o = c("top", "lo", "mid"), l = c(TRUE, FALSE, TRUE), w = c(1, 3, 2),
                  stringsAsFactors = FALSE)
names(new)[names(new) == "w"] <- "my w"
newd <- new
newd$a <- factor(new$a, levels(d$a)); newd$b <- factor(new$b, levels(d$b))
newd$o <- factor(new$o, levels(d$o), ordered = TRUE)

fixed <- c(
  "y ~ 1", "y ~ 0", "y ~ x", "y ~ x - 1", "y ~ a", "y ~ 0 + a", "y ~ a + b", "y ~ 0 + a + b", "y ~ a * b",
  "y ~ a:b", "y ~ 0 + a:b", "y ~ a + a:b", "y ~ b:a + a", "y ~ a/b", "y ~ a * x", "y ~ a:x", "y ~ 0 + a:x",
  "y ~ x + a:x", "y ~ x:a + x:b", "y ~ a * b * x", "y ~ (a + b + x)^2 - a:x", "y ~ a:b:x", "y ~ 0 + x:a:b + a",
  "y ~ l", "y ~ 0 + l", "y ~ l * a", "y ~ x:l", "y ~ o", "y ~ 0 + o", "y ~ o * a", "y ~ o:x", "y ~ ch", "y ~ ch:b",
  "y ~ I(x^2) + I(x > 2)", "y ~ x * z + log(z)", "y ~ log(z + 1, 2) + sqrt(z) + exp(-x) + abs(x - 3)",
  "y ~ poly(x, 2)", "y ~ poly(x, 3) * b", "y ~ poly(z, 2, raw = TRUE)", "y ~ 0 + poly(x, 2):a", "y ~ scale(x)",
  "y ~ scale(z, scale = FALSE)", "y ~ scale(z, center = FALSE)", "y ~ bs(z, df = 5)", "y ~ bs(z, knots = c(3, 5))",
  "y ~ bs(z, df = 4, degree = 2, intercept = TRUE)", "y ~ ns(z, 3)", "y ~ ns(z, df = 4) + a",
  "y ~ ns(z, knots = c(3, 5), Boundary.knots = c(1, 7))", "y ~ ns(z, 3, intercept = TRUE) - 1",
  "y ~ factor(k)", "y ~ factor(k) * x", "y ~ factor(x > 2)", "y ~ factor(a, levels = c(\"w\", \"v\", \"u\"))",
  "y ~ relevel(a, ref = \"v\")", "y ~ as.numeric(a) + as.numeric(o)", "y ~ cut(z, c(0, 3, 5, 9))", "y ~ cut(z, 3)",
  "y ~ cut(z, c(0, 3, 5, 9), right = FALSE) + x", "y ~ ifelse(x > 2, z, 0)", "y ~ interaction(a, b)",
  "y ~ pmin(x, z) + pmax(x, z, 3) + round(z)", "y ~ I(a == \"u\") + I(ch %in% c(\"p\", \"q\"))",
  "y ~ I(x > 2 & !l | z < 3)", "y ~ `my w` * a", "y ~ ordered(k)", "y ~ I(k/10) + I(k%%20) + I(k%/%20)",
  "y ~ dummy(a, \"v\") + dummy(b)", "y ~ x + offset(z)", "y ~ as.factor(k):b", "y ~ b %in% a", "y ~ I(-x^2) + I(2 * x/100000)",
  "y ~ I(o > \"mid\")", "y ~ cbind(x, z)", "y ~ x + I(x - mean(x))")
coded <- list(
  list("y ~ a", list(a = "contr.sum")), list("y ~ a * b", list(a = "contr.sum", b = "contr.helmert")),
  list("y ~ o", list(o = "contr.helmert")), list("y ~ o + x", list(o = "contr.treatment")), list("y ~ o:b", list(o = "contr.sum")),
  list("y ~ a", list(a = "contr.poly")), list("y ~ o", list(o = "contr.sdif")), list("y ~ a * x", list(a = "contr.SAS")),
  list("y ~ factor(k)", list(`factor(k)` = "contr.sum")), list("y ~ 0 + a + b", list(b = "contr.sum")))
contr.sdif <- MASS::contr.sdif

one <- function(text, contrasts = NULL) {
  f <- as.formula(text)
  mf <- model.frame(f, d)
  tt <- attr(mf, "terms")
  X <- model.matrix(tt, mf, contrasts.arg = contrasts)
  xlev <- .getXlevels(tt, mf)
  nd <- tryCatch({
    nf <- model.frame(delete.response(tt), newd, xlev = xlev, na.action = na.pass)
    suppressWarnings(model.matrix(delete.response(tt), nf, contrasts.arg = attr(X, "contrasts")))
  }, error = function(e) NULL)
  list(formula = text, contrasts = contrasts, names = colnames(X), assign = attr(X, "assign"),
       labels = attr(tt, "term.labels"), matrix = unname(X[, , drop = FALSE]),
       new = if (is.null(nd)) NULL else unname(nd[, , drop = FALSE]))
}
strip <- function(r) { dimnames(r$matrix) <- NULL; attributes(r$matrix) <- list(dim = dim(r$matrix)); if (!is.null(r$new)) attributes(r$new) <- list(dim = dim(r$new)); r }

bars <- c("y ~ x + (1|a/b)", "y ~ x + (z|a/b/c)", "y ~ (x*z||g)", "y ~ (0+x||g)", "y ~ (x-1||g)", "y ~ (x||a/b)", "y ~ (1|a:b)",
          "y ~ (1|factor(a))", "y ~ (1|interaction(a,b))", "y ~ (a:x+I(x^2)||g)", "y ~ (x+w|a)+(x|b)", "y ~ (log(x)+1||g)",
          "y ~ 0+x+(1|(a:b):c)", "y ~ x+(1|g)-1", "y ~ log( y+1 )*x+(poly( x,2 )|g)")
bar <- function(text) {
  f <- as.formula(text)
  list(formula = text, bars = sapply(findbars(f), function(b) paste(deparse(b), collapse = "")),
       fixed = sub("^~", "", paste(deparse(nobars(f)[[3]]), collapse = "")))
}

algebra <- c("(1+x):z", "0+x+1", "(a+b+c)^2-a:b", "a/b", "(a+b)/c", "a/b/c", "a%in%b", "x+a:b+offset(w)", "b:a+a", "a+b:a", "a*b-1",
             "-1+(a+b)^3", "a-0", "(x-1)*z", "a*b*c-a:b:c", "a:a", "(a:b)^2", "a/(b*c)", "I(x^2)+poly(x,2)*z", "`my var`*x", "x>2",
             "a+a", "z+b:a:x+a*x", "x-x", "1", "0", "offset(log(w))+x:offset(w)", "a^3", "(a+b+c+d)^3-(b+c)^2",
             "np.log(x)+I(-x)+I(2*x/100000)+f(x,df=3,\"q\",T)+I(!a)+I(x%%2)+I(a==1&b!=2||c)")
algebra_of <- function(text) {
  t <- terms(as.formula(paste("~", text)))
  list(text = text, intercept = attr(t, "intercept"), labels = attr(t, "term.labels"),
       offsets = as.character(sapply(attr(t, "variables"), deparse)[-1][attr(t, "offset")]))
}

updates <- list(c("y~x*z+(1|g)", ".~.-x"), c("y~x*z+(1|g)", ".~.-x:z-(1|g)"), c("y~x+(1|g)", "log(.)~.+(0+x|h)"), c("y~x+z", ".~0+."),
                c("y~x-1+(x|a/b)", ".~.+w"), c("y~x+(1|g)", "~.-x"), c("y~x*z", "~(.)-1"), c("y~x+offset(w)", ".~.+z"),
                c("y~x", "."), c("y~x+(1|g)", ".~1"), c("y~x+(x|g)+(1|h)", ".~.-(1|h)"))
updates <- Filter(function(u) grepl("~", u[2]), updates)
updated <- function(u) list(old = u[1], new = u[2], result = paste(deparse(update(as.formula(u[1]), as.formula(u[2])), width.cutoff = 500), collapse = ""))

numbers <- c(1e5, 123456, 0.1, 1/3, 1e-5, 0.0001, 1e15, 1e16, 123456789012, 1.5, -2, 3e-4, 1e5 + 0.1, 3e5, 308, 0.1 + 0.2, 1e-300, 12345.678)

crossed <- function(text, data) { m <- lFormula(as.formula(text), data, control = lmerControl(check.nobs.vs.nlev = "ignore", check.nobs.vs.nRE = "ignore", check.nlev.gtr.1 = "ignore"))$reTrms
  list(formula = text, names = names(m$flist), levels = lapply(unname(m$flist), levels), codes = lapply(unname(m$flist), function(f) as.integer(f) - 1L)) }
groups <- lapply(c("y ~ 1 + (1|a:b)", "y ~ 1 + (1|b:a)", "y ~ 1 + (1|k)", "y ~ 1 + (1|ch/b)", "y ~ 1 + (1|a:k:b)", "y ~ 1 + (1|x)", "y ~ 1 + (1|a/b/ch)", "y ~ 1 + (1|o:l)"), crossed, data = d)

# ragged lists must stay lists: never simplify
cat(toJSON(list(
  source = paste("R", getRversion(), "lme4", packageVersion("lme4"), "model_matrix.R"),
  data = as.list(plain), new = as.list(new),
  fixed = c(lapply(fixed, function(t) strip(one(t))), lapply(coded, function(c) strip(one(c[[1]], c[[2]])))),
  bars = lapply(bars, bar), algebra = lapply(algebra, algebra_of), updates = lapply(updates, updated),
  numbers = list(value = numbers, text = as.character(numbers)), groups = groups),
  digits = NA, auto_unbox = FALSE, null = "null", matrix = "rowmajor"))
