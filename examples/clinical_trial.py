"""A trial of progabide: seizures of 59 patients with epilepsy, counted four times.

Thall and Vail (1990) give the seizures of each patient in the eight weeks before the trial and in
four periods of two weeks after patients were assigned to progabide or placebo.

    python examples/clinical_trial.py [FIGURE]
"""

import sys
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from mixef import compare, glmer, load_dataset

seizures = load_dataset("epil")

# A patient's counts are alike, and the logarithm of those before the trial says much about them.
poisson = glmer("y ~ lbase * trt + lage + V4 + (1 | subject)", seizures, "poisson")
print(poisson.overdispersion())

# Counts of one patient vary more than Poisson: negative binomial, with the shape estimated.
fit = poisson.update(family="nbinom2")
print("", compare(poisson, fit), sep="\n")
print("", fit.summary(correlation=False), sep="\n")
print("", fit.simulated_residuals(250, seed=1).tests(), sep="\n")

# The effect, at the mean of the logarithm before the trial, as a ratio of rates.
print("", fit.emmeans("trt", at={"lbase": 0}, type="response"), sep="\n")
effect = fit.emmeans("trt", at={"lbase": 0}, type="response").pairs(reverse=True)
print("", effect, sep="\n")

# It stands on few patients: those whose absence would move the coefficients most.
print("", fit.influence(groups="subject", refit=False), sep="\n")
without = fit.update(data=seizures[seizures["subject"] != 49])

# The figure: rates by what was before, for both groups, over the counts; and the patients.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 6), layout="constrained")
fit.plot.effects("lbase", by="trt", ax=left)
left.set_yscale("function", functions=(np.log1p, np.expm1))  # counts may be 0
left.set(yticks=[0, 1, 3, 10, 30, 100], ylim=(-0.15, 400))
fit.plot.caterpillar("subject", ax=right)
right.tick_params("y", labelsize=5)

# The sentence.
ratio, other = (
    m.emmeans("trt", at={"lbase": 0}, type="response").pairs(reverse=True).to_frame().iloc[0]
    for m in (fit, without)
)
sentence = (
    f"Patients with progabide had {1 - ratio.estimate:.0%} fewer seizures than patients with "
    f"placebo and as many before (rate ratio {ratio.estimate:.2f}, 95% CI {ratio.conf_low:.2f} to "
    f"{ratio.conf_high:.2f}, z = {ratio.statistic:.2f}, p = {ratio.p_value:.3f}); without "
    f"patient 49 the ratio is {other.estimate:.2f} (p = {other.p_value:.3f})."
)
print("", textwrap.fill(sentence, 90), sep="\n")
path = Path(*sys.argv[1:2] or [tempfile.gettempdir(), "clinical_trial.png"])
figure.savefig(path)
print(f"Figure: {path}")
