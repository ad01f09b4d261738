"""After the fit: test, compare, bound, simulate, predict; each number beside what R gives."""

import numpy as np
import pandas as pd

from mixef import (
    all_fit,
    anova,
    exact_rlrt,
    glmer,
    lm_list,
    lmer,
    load_dataset,
    pb_test,
    power,
    simulate_from,
)

pd.set_option("display.width", 100)
sleepstudy = load_dataset("sleepstudy")
fit = lmer("Reaction ~ Days + (Days | Subject)", sleepstudy)

# Tests. Satterthwaite's degrees of freedom are the default; Kenward and Roger's are there too.
print(fit.summary())
print("\nKenward-Roger:")
print(fit.coef_table(ddf="kenward-roger").round(4))
print("\nIs the slope 10 ms a day?")
print(fit.contest("Days = 10"))

cake = lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", load_dataset("cake"))
print("\nThe terms of a factorial experiment:")
print(cake.anova(type="III"))

# Comparisons. Likelihood-ratio tests are of fits by maximum likelihood, which anova makes itself.
without_slopes = lmer("Reaction ~ Days + (1 | Subject)", sleepstudy)
print("\nDo the slopes vary between subjects?")
print(anova(without_slopes, fit))
print("\nThe same of one variance component, without the chi-square approximation:")
print(exact_rlrt(without_slopes, seed=1))
print("\nThe fixed slope, by simulation under the model without it:")
print(pb_test(fit, fit.update(". ~ . - Days"), n=500, seed=1))

# Intervals: by the profile of the likelihood, by curvature, by the bootstrap.
print("\nProfile, Wald and bootstrap intervals:")
intervals = {
    "profile": fit.confint(),
    "wald": fit.confint(method="wald"),
    "bootstrap": fit.confint(method="boot", n=500, seed=1),
}
print(pd.concat(intervals, axis=1).round(3))

# Predictions: a known subject, and one that was not in the study.
new = pd.DataFrame({"Days": [0, 5, 10] * 2, "Subject": ["308"] * 3 + ["new"] * 3})
print("\nMeans and new observations, with the uncertainty of everything that was estimated:")
predicted = fit.predict(new, new_levels="population", interval="prediction")
print(new.join(predicted.round(1)))

# Simulation, from a fit and from nothing but numbers.
print("\nStandard deviation of the responses, and of the simulated ones:")
simulated = fit.simulate(200, seed=1)
print(f"{sleepstudy['Reaction'].std():.1f}  {simulated.std().mean():.1f}")
design = pd.DataFrame({"x": np.tile([0.0, 1.0], 40), "g": np.repeat(np.arange(20), 4)})
parameters = {"beta": [10.0, 1.0], "theta": [0.5], "sigma": 2.0}
design["y"] = simulate_from("y ~ x + (1 | g)", design, parameters, seed=2)["sim_1"]
print(lmer("y ~ x + (1 | g)", design).fixef().round(2).to_dict())
print("\nPower for a slope of 5 ms a day, by the number of subjects:")
print(power(fit, "Days", sizes={"Subject": [6, 12, 18]}, new_params={"Days": 5.0}, n=200, seed=1))

# A generalized model: tests of terms, and means that are averaged over the herds.
cbpp = load_dataset("cbpp")
herds = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, "binomial")
print("\nA generalized model's terms:")
print(herds.anova())
print(herds.confint().round(3))
periods = pd.DataFrame({"period": ["1", "2", "3", "4"]})
print("\nProbability in a typical herd, and over all herds:")
typical = herds.predict(periods, re_form="~0", interval="confidence")
average = herds.predict(periods, population_averaged=True, interval="confidence")
print(pd.concat({"typical": typical, "average": average}, axis=1).round(3))

# One regression a subject, and the model by every optimizer.
print("\nSeparate regressions:")
print(lm_list("Reaction ~ Days | Subject", sleepstudy).coef().head(3).round(2))
print()
print(all_fit(fit))
