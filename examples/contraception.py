"""Contraception in 60 districts of Bangladesh: six models of a binary response, compared.

The models cm1 to cm6 of the glmer paper (Walker, Christensen, Bates, Bolker and Maechler, Fitting
generalized linear mixed-effects models using lme4, section 4.2), all by Laplace's approximation.
"""

import numpy as np
import pandas as pd
from scipy import stats

from mixef import glmer, load_dataset

contraception = load_dataset("Contraception")
# One living child or more makes the difference; how many hardly matters (cm1 against cm2).
contraception["ch"] = pd.Categorical(np.where(contraception["livch"] == "0", "N", "Y"))

formulas = {
    "cm1": "use ~ age + I(age^2) + urban + livch + (1 | district)",
    "cm2": "use ~ age + I(age^2) + urban + ch + (1 | district)",
    "cm3": "use ~ age * ch + I(age^2) + urban + (1 | district)",
    "cm4": "use ~ age * ch + I(age^2) + urban + (urban | district)",
    "cm5": "use ~ age * ch + I(age^2) + urban + (1 | urban:district) + (1 | district)",
    "cm6": "use ~ age * ch + I(age^2) + urban + (1 | urban:district)",
}
models = {name: glmer(formula, contraception, "binomial") for name, formula in formulas.items()}


def compare(*names):
    """Compare each model with the one before it, which is nested in it, by likelihood ratio."""
    fits = [models[name] for name in names]
    table = pd.DataFrame(
        {
            "npar": [fit.npar for fit in fits],
            "AIC": [fit.aic for fit in fits],
            "BIC": [fit.bic for fit in fits],
            "logLik": [fit.loglik for fit in fits],
            "deviance": [fit.objective for fit in fits],
        },
        index=names,
    )
    chisq, df = -table["deviance"].diff(), table["npar"].diff()
    return table.assign(Chisq=chisq, Df=df, p=stats.chi2.sf(chisq, df))


def show(table):
    """Print a comparison; the first model has no test."""
    formats = {"AIC": "{:.1f}", "BIC": "{:.1f}", "logLik": "{:.2f}", "deviance": "{:.2f}",
               "Chisq": "{:.3f}", "Df": "{:.0f}", "p": "{:.4f}"}  # fmt: skip
    print(table.to_string(na_rep="", formatters={k: v.format for k, v in formats.items()}))


print(models["cm4"].summary())

print("\nAll models by their numbers of parameters (deviance is -2 log L):")
for name, formula in formulas.items():
    print(f"  {name}: {formula}")
show(compare("cm2", "cm3", "cm6", "cm1", "cm5", "cm4").drop(columns=["Chisq", "Df", "p"]))

print("\nDoes the number of children matter?")
show(compare("cm2", "cm1"))
print("\nDoes age act differently with children? Do districts differ in their towns?")
show(compare("cm2", "cm3", "cm4"))
print("\nDo town and country of one district share anything?")
show(compare("cm6", "cm5"))
print("(Where the smaller model has a variance at zero, its bound, p is too large.)")

# The districts by cm4: country, and what town adds, with conditional standard deviations.
modes = models["cm4"].ranef(condVar=True)
effects = modes["district"]
spread = np.sqrt(np.diagonal(modes.condVar["district"], axis1=1, axis2=2))
effects = effects.join(pd.DataFrame(spread, effects.index, ["sd", "sd(urbanY)"]))
effects["women"] = contraception["district"].value_counts()
ordered = effects.sort_values("(Intercept)")
print("\nEffects of districts on the log odds (cm4), lowest and highest:")
print(pd.concat([ordered.head(4), ordered.tail(4)]).round(2).to_string())

# Probabilities by cm6, which has the lowest AIC: for an average place, then in one district.
best = models["cm6"]
ages = [-10.0, 0.0, 10.0]
new = pd.MultiIndex.from_product([["N", "Y"], ["N", "Y"], ages], names=["urban", "ch", "age"])
new = new.to_frame(index=False).assign(district="1")
new["average"], new["district_1"] = best.predict(new, re_form="~0"), best.predict(new)
probability = new.pivot_table(
    index=["urban", "ch"], columns="age", values=["average", "district_1"]
)
print("\nProbability of use (cm6) by age in years from the mean:")
print(probability.round(2).to_string())
