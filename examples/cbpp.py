"""Pleuropneumonia in 15 herds of cattle: a binomial model, how well it integrates, and its checks.

The analysis of the glmer paper (Walker, Christensen, Bates, Bolker and Maechler, Fitting
generalized linear mixed-effects models using lme4, sections 2 to 4.1).
"""

import pandas as pd

from mixef import Binomial, GHrule, glmer, load_dataset

cbpp = load_dataset("cbpp")

# Each herd has its own log odds of new cases; they fall over the four periods.
laplace = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, family="binomial")
print(laplace.summary())

# The same response as a proportion of `size` animals.
proportion = glmer("incidence / size ~ period + (1 | herd)", cbpp, "binomial", weights="size")
print(f"\nAs a proportion with weights: logLik {proportion.loglik:.5f}, {laplace.loglik:.5f}")

# How the herds' effects are integrated out: fixed effects at the mode, Laplace, quadrature.
by_nodes = {k: laplace.update(nAGQ=k) for k in (0, 1, 9, 25)}
estimates = pd.DataFrame({k: fit.fixef() for k, fit in by_nodes.items()})
estimates.loc["sd(herd)"] = {k: fit.theta[0] for k, fit in by_nodes.items()}
estimates.loc["SE(period2)"] = {
    k: fit.coef_table()["Std. Error"]["period2"] for k, fit in by_nodes.items()
}
estimates.loc["logLik"] = {k: fit.loglik for k, fit in by_nodes.items()}
estimates.loc["less saturated"] = {k: fit.relative_loglik for k, fit in by_nodes.items()}
print("\nBy nAGQ (lme4's logLik is the last row where nAGQ is above 1):")
print(estimates.round(4).to_string())

# Why so little changes: z standard deviations from its mode, the integrand of a herd is close to
# the normal density that Laplace's approximation puts in its place. t(z) is the ratio of the two.
values = laplace.integrand([-3, -2, -1, 0, 1, 2, 3])
herds = laplace.ranef()["herd"].index
t = values.pivot_table(index="group", columns="z", values="t").loc[herds]
density = values.pivot_table(index="z", values=["density", "normal"])
density["least"] = values.groupby("z")["density"].min()
density["most"] = values.groupby("z")["density"].max()
print("\nIntegrands over all herds (mean, least, most) beside the normal density:")
print(density[["normal", "density", "least", "most"]].round(4).to_string())
print("\nt(z), herd by herd:")
print(t.round(3).to_string())

# Where quadrature looks at it: nodes and weights for the standard normal density.
rule = GHrule(5)
print("\nThe rule with 5 nodes:")
print(pd.DataFrame({"z": rule.z, "w": rule.w}).round(5).to_string(index=False))

# Other links have as many parameters, so that the log-likelihoods compare.
print("\nlogLik by link:")
for link in ("logit", "probit", "cloglog", "cauchit"):
    print(f"  {link:8s}{laplace.update(family=Binomial(link)).loglik:10.3f}")

# Is there more variance than binomial? Pearson's chi-square, given the herds, does not find it.
# The likelihood does: it gains much by an effect for each observation, and hardly needs the herds.
cbpp = cbpp.assign(obs=range(len(cbpp)))
models = {
    "herd": laplace,
    "herd and obs": laplace.update(". ~ . + (1 | obs)", data=cbpp),
    "obs": laplace.update(". ~ . + (1 | obs) - (1 | herd)", data=cbpp),
}
rows = {}
for name, fit in models.items():
    deviations = fit.VarCorr().to_frame().set_index("grp")["sdcor"]
    rows[name] = {
        "npar": fit.npar,
        "AIC": fit.aic,
        "BIC": fit.bic,
        "logLik": fit.loglik,
        "sd(herd)": deviations.get("herd"),
        "sd(obs)": deviations.get("obs"),
        "Pearson/df": fit.overdispersion().ratio,
    }
print("\nAn effect for each observation:")
print(pd.DataFrame(rows).T.astype({"npar": int}).round(2).to_string(na_rep="-"))
print(f"\nHerds only: {laplace.overdispersion()}")

# Residuals, given the herds.
kinds = ("deviance", "pearson", "response", "working")
residuals = pd.DataFrame({kind: laplace.residuals(kind) for kind in kinds})
print("\nResiduals:")
print(residuals.quantile([0, 0.25, 0.5, 0.75, 1]).round(3).to_string())
largest = residuals["deviance"].abs().nlargest(4).index
print("\nThe largest deviance residuals:")
rows = cbpp.loc[largest].assign(fitted=laplace.fitted(), deviance=residuals["deviance"])
print(rows.drop(columns="obs").round(3).to_string())

# The share of new cases: in an average herd, in herd 1, and in a herd that was not in the study.
new = pd.DataFrame({"period": ["1", "2", "3", "4"], "herd": "1"})
print("\nPredicted incidence:")
print(
    new.assign(
        average=laplace.predict(new, re_form="~0"),
        herd_1=laplace.predict(new),
        unseen=laplace.predict(new.assign(herd="new"), new_levels="population"),
    )
    .drop(columns="herd")
    .round(3)
    .to_string(index=False)
)
