"""Ticks on red grouse chicks: counts with more variance than Poisson, in broods in places.

Elston et al. (2001) counted the ticks on the heads of 403 chicks from 118 broods at 63 places in
three years, and ask how infestation changes with the height above sea level.

    python examples/ecology.py [FIGURE]
"""

import sys
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from mixef import compare, glmer, glmer_nb, load_dataset

ticks = load_dataset("grouseticks")

# Broods and places are levels of variation; the counts still vary more than Poisson within broods.
poisson = glmer("TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)", ticks, "poisson")
print(poisson.overdispersion())
print("", poisson.simulated_residuals(250, seed=1).tests(), sep="\n")

# Two remedies: an effect of each chick, as in the publication, or negative binomial counts.
chicks = glmer(
    "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION) + (1 | INDEX)", ticks, "poisson"
)
negative = glmer_nb("TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)", ticks)
print("", compare(poisson, chicks, negative), sep="\n")
print("", chicks.summary(correlation=False), sep="\n")
print("", chicks.simulated_residuals(250, seed=1).tests(), sep="\n")

# The figure: the mean of a typical chick and the average over chicks, broods and places, over the
# counts; and the places in order.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 6), layout="constrained")
chicks.plot.effects("cHEIGHT", by="YEAR", ax=left)
left.set_yscale("function", functions=(np.log1p, np.expm1))  # counts may be 0
left.set(yticks=[0, 1, 3, 10, 30, 100], ylim=(-0.15, 600))
chicks.plot.caterpillar("LOCATION", ax=right)
right.tick_params("y", labelsize=5)

# The sentence.
estimate = chicks.coef_table().loc["cHEIGHT"]
limits = chicks.confint("cHEIGHT", method="wald").loc["cHEIGHT"]
fewer = [1 - np.exp(10 * x) for x in (estimate["Estimate"], *limits[::-1])]
other = 1 - np.exp(10 * negative.fixef()["cHEIGHT"])
sentence = (
    f"Chicks had {fewer[0]:.0%} fewer ticks for each 10 m of height (95% CI {fewer[1]:.0%} to "
    f"{fewer[2]:.0%}, z = {estimate['z value']:.2f}), in both models of the counts "
    f"({other:.0%} by the negative binomial one)."
)
print("", textwrap.fill(sentence, 90), sep="\n")
path = Path(*sys.argv[1:2] or [tempfile.gettempdir(), "ecology.png"])
figure.savefig(path)
print(f"Figure: {path}")
