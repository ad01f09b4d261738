"""Coverage of the intervals of predictions, by simulation."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from mixef import GlmerControl, LmerControl, glmer, lmer


def share_within(covered, nominal):
    """Whether a share of independent hits is within 4 binomial standard errors of a level."""
    covered = np.asarray(covered, dtype=float)
    assert abs(covered.mean() - nominal) < 4 * np.sqrt(nominal * (1 - nominal) / len(covered))


KINDS = ["known", "known mean", "new level", "new mean", "population", "population mean"]
# With few groups there are more sets, for the comparison with normal intervals of these means.
N_SETS = {8: 600, 15: 300, 40: 100}
NORMAL = stats.norm.ppf(0.95)
COMPARED = ("new mean", "population mean")


@cache
def simulated_linear(n_groups):
    """Hits of 90 % intervals by t, and of means by normal quantiles (2, sets).

    Groups have 4 to 12 rows. Of responses the second ones mean nothing.
    """
    rng = np.random.default_rng(20250107)
    sizes = rng.integers(4, 13, n_groups)
    g = np.repeat(np.arange(n_groups), sizes)
    L = np.array([[1.0, 0.0], [0.3, 0.5]])
    quiet = LmerControl(check_conv_singular="ignore")
    hits = {kind: [] for kind in KINDS}
    for _ in range(N_SETS[n_groups]):
        x, b = rng.normal(size=len(g)), rng.normal(size=(n_groups + 1, 2)) @ L.T
        mean = 1 + 0.5 * x + b[g, 0] + b[g, 1] * x
        data = pd.DataFrame({"y": mean + rng.normal(size=len(g)), "x": x, "g": g})
        fit = lmer("y ~ x + (x | g)", data, control=quiet)
        at = rng.normal()
        fixed = 1 + 0.5 * at
        new = {"x": [at, at], "g": [3, n_groups]}
        drawn = {level: rng.normal() for level in (3, n_groups)}
        for kinds, arguments in (
            ({"known": 3, "new level": n_groups}, {"new_levels": "population"}),
            ({"population": n_groups}, {"re_form": "~0"}),
        ):
            for interval in ("confidence", "prediction"):
                found = fit.predict(new, interval=interval, level=0.9, se_fit=True, **arguments)
                for kind, level in kinds.items():
                    aim, key = fixed + b[level, 0] + b[level, 1] * at, kind
                    if interval == "prediction":
                        aim += drawn[level]
                    else:
                        key = kind.removesuffix(" level") + " mean"
                        aim = fixed if kind == "population" else aim
                    row = found.iloc[int(level == n_groups)]
                    by_normal = abs(aim - row["fit"]) < NORMAL * row["se_fit"]
                    hits[key].append([row["lower"] < aim < row["upper"], by_normal])
    return {kind: np.transpose(found) for kind, found in hits.items()}


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [8, 15, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_linear_intervals_cover(kind, n_groups):
    share_within(simulated_linear(n_groups)[kind][0], 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMPARED)
def test_with_few_groups_normal_intervals_cover_less(kind):
    # A new level's mean has about half as many degrees of freedom as there are groups.
    by_t, by_normal = simulated_linear(8)[kind].mean(axis=1)
    # Of the same sets: 4.4 % are expected to differ with 7 degrees of freedom.
    assert by_t - by_normal > 0.025


@cache
def simulated_binomial(n_sets=150):
    """Hits of 90 % intervals over simulated data sets: 40 groups of 6 rows with 5 trials."""
    rng = np.random.default_rng(20250108)
    g = np.repeat(np.arange(40), 6)
    quiet = GlmerControl(check_conv_singular="ignore")
    hits = {"known": [], "new level": [], "average": [], "response": []}
    average = integrate.quad(
        lambda z: stats.norm.pdf(z) / (1 + np.exp(0.3 - 0.4 - 0.8 * z)), -9, 9
    )[0]
    for _ in range(n_sets):
        x, b = rng.normal(size=len(g)), 0.8 * rng.normal(size=41)
        p = 1 / (1 + np.exp(-(-0.3 + 0.8 * x + b[g])))
        data = pd.DataFrame({"k": rng.binomial(5, p), "x": x, "g": g}).assign(n=5)
        fit = glmer("cbind(k, n - k) ~ x + (1 | g)", data, family="binomial", control=quiet)
        at = 0.5
        for key, level in (("known", 3), ("new level", 40)):
            new = {"x": [at], "g": [level], "k": [0], "n": [40]}
            how = {"new_levels": "population", "level": 0.9}
            truth = 1 / (1 + np.exp(-(-0.3 + 0.8 * at + b[level])))
            row = fit.predict(new, interval="confidence", **how).iloc[0]
            hits[key].append(row["lower"] < truth < row["upper"])
            if key == "known":
                row = fit.predict(new, interval="prediction", **how).iloc[0]
                drawn = rng.binomial(40, truth) / 40
                hits["response"].append(row["lower"] - 1e-9 <= drawn <= row["upper"] + 1e-9)
        row = fit.predict(
            {"x": [at]}, population_averaged=True, interval="confidence", level=0.9
        ).iloc[0]
        hits["average"].append(row["lower"] < average < row["upper"])
    return hits


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["known", "new level", "average"])
def test_generalized_intervals_cover(kind):
    share_within(simulated_binomial()[kind], 0.9)


@pytest.mark.slow
def test_intervals_of_counts_cover_at_least_their_level():
    hits = np.array(simulated_binomial()["response"], dtype=float)
    # Counts of 40 trials: up to 4 % more than the level.
    assert 0.9 - 4 * np.sqrt(0.09 / len(hits)) < hits.mean() < 0.94 + 4 * np.sqrt(0.06 / len(hits))
