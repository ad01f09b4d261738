# Makes residual_tests.json: tests of numbers between 0 and 1 by lmtest (Durbin and Watson), ape (Moran), car (Levene) and R's own
# ks.test, binom.test and p.adjust.
#   cd tests/reference && Rscript residual_tests.R
source("fit_record.R")
suppressMessages({library(lmtest); library(ape); library(car)})
i <- 1:60
u <- round((i * 0.6180339887498949 + 0.1 * sin(i / 3)) %% 1, 6)
g <- factor(c("a", "b", "c", "d")[1 + (i * 7) %% 11 %% 4])
time <- (i * 17) %% 61
x <- round(cos(i) * i, 4)
y <- round(sin(1.7 * i) * 10, 4)
D <- 1 / as.matrix(dist(cbind(x, y)))
diag(D) <- 0
dw <- dwtest(u ~ 1, order.by = ~ time, alternative = "two.sided", exact = FALSE)
moran <- lapply(c("two.sided", "greater", "less"), function(a) Moran.I(u, D, alternative = a))
levene <- leveneTest(u, g, center = median)
within <- tapply(u, g, function(v) ks.test(v, "punif", exact = TRUE))
p <- sapply(within, function(t) t$p.value)
write_json_file(list(
  program = paste(R.version.string, "lmtest", packageVersion("lmtest"), "ape", packageVersion("ape"), "car", packageVersion("car")),
  script = "residual_tests.R", u = u, g = as.character(g), time = time, x = x, y = y,
  ks = list(statistic = num(ks.test(u, "punif", exact = TRUE)$statistic), p_value = num(ks.test(u, "punif", exact = TRUE)$p.value)),
  dw = list(statistic = num(dw$statistic), p_value = num(dw$p.value)),
  moran = list(statistic = num(moran[[1]]$observed), expected = num(moran[[1]]$expected),
    p_value = list(`two-sided` = num(moran[[1]]$p.value), greater = num(moran[[2]]$p.value), less = num(moran[[3]]$p.value))),
  levene = list(statistic = num(levene[1, "F value"]), p_value = num(levene[1, "Pr(>F)"])),
  groups = list(statistic = num(sapply(within, function(t) t$statistic)), p_value = num(p), p_adjusted = num(p.adjust(p, "holm"))),
  binomial = list(count = 3, n = 60, simulations = 99, p_value = num(binom.test(3, 60, 2 / 100)$p.value))
), "residual_tests.json")
