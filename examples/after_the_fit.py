"""After the fit: health, influence, marginal means, robust errors, tables, sentences.

An experiment on cakes with a linear model, infections in herds of cattle with a binomial one, and
reaction times for random slopes.
"""

import pandas as pd

from mixef import compare, etable, glmer, lmer, load_dataset, ranova, report

pd.set_option("display.width", 110)
pd.set_option("display.max_columns", 12)


def heading(text):
    print(f"\n{text}\n{'-' * len(text)}")


cake = load_dataset("cake")
cake["temp"] = cake["temp"].astype(float)
fit = lmer("angle ~ recipe * temp + (1 | recipe:replicate)", cake)
herds = load_dataset("cbpp")
cbpp = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds, "binomial")

heading("Is there anything wrong with the model?")
print(fit.check())

heading("How much does it explain, and how much do the groups have in common?")
print(fit.r2())
print(fit.icc())

heading("Do the residuals of the binomial model look like draws from it?")
residuals = cbpp.simulated_residuals(n=500, seed=1)
print(residuals)
print(residuals.tests())

heading("Which herd says most?")
print(cbpp.influence("herd").most(3))

heading("Are the random effects needed?")
print(ranova(lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))))

heading("Mean angles of the recipes, compared; slopes over the temperature")
means = fit.emmeans("recipe")
print(means)
print(means.pairs(adjust="tukey"))
print(fit.emtrends("temp", "recipe"))
print("\nA difference of less than 5 degrees would not matter (equivalence):")
print(means.pairs().test(delta=5.0, side="equivalence"))

heading("Odds of infection, each period against the first")
print(cbpp.emmeans("period", type="response"))
print(cbpp.emmeans("period", type="response").contrast("trt.vs.ctrl", adjust="mvt"))

heading("The same with standard errors that trust the model less")
robust = cbpp.with_vcov("CR2", cluster="herd")
print(cbpp.coef_table().round(4))
print(robust.coef_table().round(4))

heading("Models side by side")
additive = lmer("angle ~ recipe + temp + (1 | recipe:replicate)", cake)
print(compare(additive, fit))
print(etable(additive, fit, stars=True))

heading("For the paper")
print(report(additive))
print()
print(report(cbpp, exponentiate=True))
