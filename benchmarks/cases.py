"""The models that are timed, and the targets of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from benchmarks import simulate
from mixef.datasets import load_dataset

MAXIMAL = "y ~ a*b*c + (a*b*c | subj) + (a*b*c | item)"
SERVICE = "y ~ service + (1|s) + (1|d) + (1|dept:service)"
TICKS = "TICKS ~ YEAR + HEIGHT + (1|BROOD) + (1|INDEX) + (1|LOCATION)"
TOENAIL = "y ~ treatment*visit + (1|patient)"


@dataclass(frozen=True)
class Case:
    """One model on one data set, with what mixef should reach.

    `family` is spelled as R evaluates it, with "nbinom2" for a negative binomial of unknown shape.
    `peers` are the programs that minimise the same criterion. `ratio` bounds mixef's time over that
    of the first of them, `seconds` mixef's time by itself, and `evaluations` those of the criterion
    with its gradient.
    """

    name: str
    formula: str
    frame: Callable[[], pd.DataFrame]
    REML: bool = True
    ratio: float | None = None
    seconds: float | None = None
    evaluations: int = 12
    family: str = "gaussian"
    nAGQ: int = 1
    peers: tuple[str, ...] = ("lme4", "glmm", "mixedlm")


def _small(name: str, formula: str) -> Case:
    return Case(name, formula, partial(load_dataset, name), ratio=0.3)


# GPBoost, which has gradients too, needs up to 0.05 of lme4's time.
_generalized = partial(Case, REML=False, evaluations=25)
_beside_both = partial(_generalized, ratio=0.05, peers=("lme4", "glmmTMB", "glmm"))
# lme4 minimises another criterion here: without the scale in the Laplace approximation (gamma),
# with expected information (negative binomial), where glmmTMB has the scale, and observed.
_with_scale = partial(_generalized, formula="y ~ x + z + (1|g)", peers=("glmmTMB", "glmm"))

LINEAR = (
    _small("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    _small("Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)"),
    _small("Pastes", "strength ~ 1 + (1|batch/cask)"),
    _small("cake", "angle ~ recipe*temperature + (1|recipe:replicate)"),
    Case("InstEval", SERVICE, partial(load_dataset, "InstEval"), REML=False, ratio=0.03),
    Case("maximal_ml", MAXIMAL, simulate.maximal, REML=False, ratio=0.02, evaluations=25),
    Case("maximal_reml", MAXIMAL, simulate.maximal, ratio=0.02, evaluations=25),
    Case(
        "crossed_200k",
        "y ~ x + (1|g) + (1|h)",
        partial(simulate.crossed, 200_000, 5_000, 2_000, seed=1),
        ratio=0.03,
    ),
    Case("slopes_200k", "y ~ x + (x|g)", simulate.slopes, ratio=0.05),
    Case("nested_1m", "y ~ x + (1|a/b)", simulate.nested, ratio=0.05),
    Case(
        "sparse_80k",
        "y ~ x + (1|g) + (1|h)",
        partial(simulate.crossed, 80_000, 8_000, 8_000, seed=2),
        seconds=90.0,
    ),
)

GENERALIZED = (
    _beside_both(
        "cbpp",
        "cbind(incidence, healthy) ~ period + (1|herd)",
        simulate.cbpp,
        ratio=0.1,
        family="binomial",
    ),
    _beside_both(
        "Contraception",
        "use ~ age*ch + I(age^2) + urban + (urban|district)",
        simulate.contraception,
        family="binomial",
    ),
    _beside_both(
        "VerbAgg",
        "r2 ~ Anger + Gender + btype + situ + (1|id) + (1|item)",
        partial(load_dataset, "VerbAgg"),
        family="binomial",
    ),
    _beside_both(
        "grouseticks",
        TICKS,
        partial(load_dataset, "grouseticks"),
        ratio=0.04,
        family="poisson",
    ),
    _beside_both("toenail", TOENAIL, simulate.toenail, family="binomial"),
    # Quadrature with Bernoulli data only: lme4's value is relative to the saturated model, where
    # their log-likelihood is zero.
    _generalized(
        "toenail_agq20",
        TOENAIL,
        simulate.toenail,
        family="binomial",
        nAGQ=20,
        ratio=0.05,
        peers=("lme4",),
    ),
    _beside_both(
        "bernoulli_200k",
        "y ~ x + z + (1|g)",
        partial(simulate.grouped, simulate.bernoulli, 5, 200_000, g=5_000),
        ratio=0.03,
        family="binomial",
    ),
    _beside_both(
        "poisson_200k",
        "y ~ x + z + (1|a) + (1|b)",
        partial(simulate.grouped, simulate.poisson, 6, 200_000, a=5_000, b=500),
        family="poisson",
    ),
    _with_scale(
        "gamma_5k",
        frame=partial(simulate.grouped, simulate.gamma, 7, 5_000, g=250),
        family="Gamma(log)",
    ),
    _with_scale(
        "nbinom_5k",
        frame=partial(simulate.grouped, simulate.negative_binomial, 8, 5_000, g=250),
        family="nbinom2",
    ),
)

CASES = LINEAR + GENERALIZED
