"""Likelihood-ratio statistics of criteria with standard errors: when p values can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from mixef.errors import FitError
from mixef.estimation.fit import Fit

# Levels that p values are read against.
LEVELS = (0.1, 0.05, 0.01, 0.001)
# The share of a statistic that its error may have.
SHARE = 0.05
# Standard errors that an error is taken to be at most.
WIDTH = 2.0

Tail = Callable[[float], float]


class End(NamedTuple):
    """What a likelihood-ratio test takes of a smaller model's fit."""

    npar: int
    objective: float
    converged: bool
    objective_se: float = 0.0

    @classmethod
    def of(cls, fit: Fit) -> End:
        """Return the end of a fit."""
        e = fit.estimates
        return cls(fit.npar, e.objective, fit.convergence.converged, e.objective_se)


def chi_square_tail(df: float) -> Tail:
    """Return the function from a statistic to its p value, with some degrees of freedom."""
    return lambda statistic: float(scipy.special.chdtrc(df, max(statistic, 0.0)))


def refuse_uncertain(small: str, large: str, statistic: float, se: float, tail: Tail) -> None:
    """Refuse a likelihood-ratio test whose statistic is not known well enough.

    Parameters
    ----------
    small, large : str
        What the two models are called.
    statistic, se : float
        The difference of the criteria, and its standard error.
    tail : callable
        From a statistic to its p value.

    Raises
    ------
    FitError
        Where the error could move the p value across one of the usual levels, or is too large a
        share of the statistic.
    """
    error = WIDTH * se
    if error == 0.0 or np.isnan(statistic):
        return
    most, p, least = (tail(statistic + by) for by in (-error, 0.0, error))
    crossed = [level for level in LEVELS if least < level <= most]
    if crossed:
        why = f"its p value is {p:.3g}, and the error could move it across {crossed[0]:g}"
    elif error > SHARE * abs(statistic):
        why = f"that error is more than {SHARE:.0%} of it"
    else:
        return
    needed = 0.5 * min(se, SHARE * abs(statistic) / WIDTH)
    asked = f"objective_se={needed:.1g}" if needed > 0 else "a smaller objective_se"
    raise FitError(
        f"the likelihood-ratio test of {small} against {large} is refused: the statistic is "
        f"{statistic:.4g} with a standard error of {se:.2g}, since their criteria are estimates "
        f"(objective_se); {why}. Fit both with {asked} in their control, or with an exact "
        'factor there, factor="cholmod", where one fits; of fixed effects there are tests that do '
        "not go by the criterion (summary, contest, anova of one model)"
    )


def error_of(*fits: Fit) -> float:
    """Return the standard error of a difference of the criteria of fits."""
    return float(np.hypot.reduce([fit.estimates.objective_se for fit in fits]))


def error_note(names: Sequence[str], fits: Sequence[Fit]) -> list[str]:
    """Say which models' criteria are estimates, and how good."""
    return [
        f"the criterion of {name} is an estimate with a standard error of {se:.2g}"
        for name, fit in zip(names, fits, strict=True)
        if (se := fit.estimates.objective_se) > 0.0
    ]
