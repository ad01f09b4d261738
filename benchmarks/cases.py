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


@dataclass(frozen=True)
class Case:
    """One model on one data set, with what mixef should reach.

    `ratio` bounds mixef's time over lme4's, `seconds` mixef's time by itself, and `evaluations`
    those of the criterion with its gradient.
    """

    name: str
    formula: str
    frame: Callable[[], pd.DataFrame]
    REML: bool = True
    ratio: float | None = None
    seconds: float | None = None
    evaluations: int = 12


def _small(name: str, formula: str) -> Case:
    return Case(name, formula, partial(load_dataset, name), ratio=0.3)


CASES = (
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
