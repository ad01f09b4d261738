"""Data that are made here: simulated with fixed seeds, columns as data frames usually come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import expit

from mixef.datasets import load_dataset

CONDITIONS = ("a", "b", "c")
BETA = (2200.0, -70.0, -330.0, 80.0, 20.0, 25.0, -20.0, 0.0)
# Standard deviations and rank of the random effects: a few large ones, several that are zero,
# so that the maximal model is singular at its optimum, as such models are on real data.
SUBJECT_SD = (300.0, 50.0, 90.0, 70.0, 0.0, 35.0, 0.0, 20.0)
ITEM_SD = (350.0, 60.0, 240.0, 0.0, 40.0, 0.0, 30.0, 0.0)
RANK = 4
RESIDUAL_SD = 650.0


def maximal(subjects: int = 56, items: int = 32) -> pd.DataFrame:
    """Reaction times of each subject on each item, in one of 2 x 2 x 2 conditions.

    The condition is (subject + item) modulo 8, a Latin square: each subject sees each condition
    equally often, and so does each item. Magnitudes are those of a reaction time in ms.
    """
    rng = np.random.default_rng(72)
    subject, item = (part.ravel() for part in np.indices((subjects, items)))
    condition = (subject + item) % 8
    signs = {name: 2 * (condition >> bit & 1) - 1 for bit, name in enumerate(CONDITIONS)}
    x = _columns(*signs.values())
    effects = _effects(rng, subjects, SUBJECT_SD)[subject] + _effects(rng, items, ITEM_SD)[item]
    noise = RESIDUAL_SD * rng.standard_normal(len(x))
    y = np.einsum("nk,nk->n", x, np.asarray(BETA) + effects) + noise
    return pd.DataFrame({"y": y, **signs, "subj": subject + 1, "item": item + 1})


def _columns(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The 8 columns of ``a*b*c``."""
    columns = [np.ones_like(a), a, b, c, a * b, a * c, b * c, a * b * c]
    return np.column_stack(columns).astype(float)


def _effects(rng: np.random.Generator, levels: int, sd: tuple[float, ...]) -> np.ndarray:
    """Correlated effects, levels x 8, whose covariance matrix has rank `RANK`."""
    loadings = rng.standard_normal((len(sd), RANK))
    loadings *= (np.asarray(sd) / np.linalg.norm(loadings, axis=1))[:, None]
    return rng.standard_normal((levels, RANK)) @ loadings.T


def crossed(rows: int, g: int, h: int, seed: int) -> pd.DataFrame:
    """Rows spread at random over the pairs of two factors, which have integer codes."""
    rng = np.random.default_rng(seed)
    codes = {"g": rng.integers(0, g, rows), "h": rng.integers(0, h, rows)}
    x = rng.standard_normal(rows)
    y = 1 + 0.5 * x + rng.standard_normal(rows)
    y += 0.8 * rng.standard_normal(g)[codes["g"]] + 0.5 * rng.standard_normal(h)[codes["h"]]
    return pd.DataFrame({"y": y, "x": x, **codes})


def slopes(rows: int = 200_000, groups: int = 5_000) -> pd.DataFrame:
    """Groups that differ in intercept and slope, with correlation 0.5."""
    rng = np.random.default_rng(3)
    g = rng.integers(0, groups, rows)
    x = rng.standard_normal(rows)
    effects = rng.standard_normal((groups, 2)) @ np.array([[0.7, 0.2], [0.0, 0.35]])
    y = 1 + 0.5 * x + effects[g, 0] + effects[g, 1] * x + rng.standard_normal(rows)
    return pd.DataFrame({"y": y, "x": x, "g": g})


def nested(rows: int = 1_000_000, a: int = 1_000, b: int = 50) -> pd.DataFrame:
    """Groups of `a` that each hold `b` subgroups, whose codes start anew in each group."""
    rng = np.random.default_rng(4)
    cell = np.arange(rows) % (a * b)
    x = rng.standard_normal(rows)
    y = 1 + 0.5 * x + rng.standard_normal(rows)
    y += 0.6 * rng.standard_normal(a)[cell // b] + 0.4 * rng.standard_normal(a * b)[cell]
    return pd.DataFrame({"y": y, "x": x, "a": cell // b, "b": cell % b})


def cbpp() -> pd.DataFrame:
    """The data of cbpp with a column of the animals that stayed healthy."""
    frame = load_dataset("cbpp")
    return frame.assign(healthy=frame["size"] - frame["incidence"])


def contraception() -> pd.DataFrame:
    """Contraception with `ch`: whether a woman has children."""
    frame = load_dataset("Contraception")
    return frame.assign(ch=(frame["livch"] != "0").astype(int))


def toenail(patients: int = 294, visits: int = 7) -> pd.DataFrame:
    """Bernoulli data of few visits a patient, whose intercepts have standard deviation 4.

    Size and effects are about those of the toenail trial, where the Laplace approximation is poor.
    """
    rng = np.random.default_rng(9)
    patient, visit = (part.ravel() for part in np.indices((patients, visits)))
    treatment = patient % 2
    eta = -1.6 - 0.2 * treatment - 0.7 * visit - 0.25 * treatment * visit
    y = bernoulli(rng, eta + 4 * rng.standard_normal(patients)[patient])
    columns = {"treatment": treatment, "visit": visit, "patient": patient + 1}
    return pd.DataFrame({"y": y, **columns})


def grouped(
    draw: Callable[[np.random.Generator, np.ndarray], np.ndarray],
    seed: int,
    rows: int,
    **levels: int,
) -> pd.DataFrame:
    """Responses drawn from a linear predictor of `x`, `z` and a normal effect of each factor."""
    rng = np.random.default_rng(seed)
    codes = {name: rng.integers(0, count, rows) for name, count in levels.items()}
    x, z = rng.standard_normal((2, rows))
    eta = 0.5 + 0.4 * x - 0.3 * z
    for name, count in levels.items():
        eta += 0.7 * rng.standard_normal(count)[codes[name]]
    return pd.DataFrame({"y": draw(rng, eta), "x": x, "z": z, **codes})


def bernoulli(rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
    """0 or 1, by the logit link."""
    return rng.binomial(1, expit(eta))


def poisson(rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
    """Counts, by the log link."""
    return rng.poisson(np.exp(eta))


def gamma(rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
    """Gamma variates of shape 2, by the log link."""
    return rng.gamma(2, np.exp(eta) / 2)


def negative_binomial(rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
    """Counts of shape 1.5 by the log link: Poisson with a gamma-distributed mean."""
    return rng.poisson(rng.gamma(1.5, np.exp(eta) / 1.5))
