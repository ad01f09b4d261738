"""Broken names: listeners crossed with pictures, a maximal model and a parsimonious one.

In an experiment of Kronmueller and Barr (2007) 56 listeners found each of 32 pictures by a
description. Its speaker kept to a name used before or broke with it (prec), was the one who had
used it or a new one (spkr), and the listener did or did not remember digits (load). All three vary
within listeners and within pictures.

    python examples/psycholinguistics.py [FIGURE]
"""

import sys
import tempfile
import textwrap
import warnings
from pathlib import Path

import matplotlib.pyplot as plt

from mixef import anova, etable, lmer, load_dataset

times = load_dataset("kb07")
sums = {"spkr": "contr.sum", "prec": "contr.sum", "load": "contr.sum"}

# The maximal model: every effect varies over listeners and over pictures, 72 parameters of
# covariances. Its fit is singular: some combinations of effects do not vary at all.
fixed = "rt_trunc ~ spkr * prec * load"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    maximal = lmer(
        f"{fixed} + (spkr * prec * load | subj) + (spkr * prec * load | item)",
        times,
        contrasts=sums,
    )
for group, components in maximal.rePCA().items():
    varying = int((components.sdev > 1e-4).sum())
    print(f"{group}: {varying} of {len(components.sdev)} dimensions have any variance")

# What the data tell: listeners differ in speed, pictures in speed and in what a broken name costs.
parsimonious = lmer(f"{fixed} + (1 | subj) + (prec | item)", times, contrasts=sums)
intercepts = lmer(f"{fixed} + (1 | subj) + (1 | item)", times, contrasts=sums)
print("", parsimonious.summary(correlation=False), sep="\n")

# The slope over pictures is needed; by AIC and BIC the rest of the maximal model is not.
print("", anova(intercepts, parsimonious, maximal, refit=False), sep="\n")

# The estimates hardly differ. Standard errors do: the maximal model's are the larger ones.
print(
    "",
    etable(maximal, parsimonious, model_names=["maximal", "parsimonious"], ran_pars=False),
    sep="\n",
)

# The figure: mean times, and the pictures' own estimates drawn to those of the model.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
parsimonious.plot.effects("prec", by="spkr", ax=left)
parsimonious.plot.shrinkage("item", ax=right)

# The sentence.
cost = parsimonious.emmeans("prec").pairs().to_frame().iloc[0]
over_pictures = 2 * parsimonious.VarCorr().stddev("item")["prec1"]
sentence = (
    f"Listeners took {cost.estimate:.0f} ms longer where the speaker broke with a name than "
    f"where it was kept (95% CI {cost.conf_low:.0f} to {cost.conf_high:.0f}, "
    f"t({cost.df:.1f}) = {cost.statistic:.2f}, p = {cost.p_value:.1g}); from picture to picture "
    f"this cost has a standard deviation of {over_pictures:.0f} ms."
)
print("", textwrap.fill(sentence, 90), sep="\n")
path = Path(*sys.argv[1:2] or [tempfile.gettempdir(), "psycholinguistics.png"])
figure.savefig(path)
print(f"Figure: {path}")
