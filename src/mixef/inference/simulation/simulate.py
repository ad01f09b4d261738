"""Simulated responses, as numbers and as a frame of the response's kind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError, DataError
from mixef.estimation.fit import Fit
from mixef.inference.lazy_rows import ByRow, in_order
from mixef.inference.prediction.prediction_rows import included_columns
from mixef.inference.simulation.drawn import DrawnResponses, drawn_responses
from mixef.inference.simulation.new_parameters import (
    Values,
    fitted_values_of,
    parameters_of,
    read_values,
)
from mixef.inference.simulation.sampler import Sampler, draw_responses
from mixef.inference.simulation.simulation_rows import (
    NEW_LEVELS,
    SimulationRows,
    fitted_rows,
    level_effects,
    new_rows,
)
from mixef.terms.exact import Integers
from mixef.terms.factor import Factor

NONE = ("~0", False)


def simulated_responses(
    fit: Fit, n: int, rng: np.random.Generator, *, use_u: bool = False
) -> np.ndarray | DrawnResponses:
    """Draw n responses (n_rows, n) of the fit's rows, shares for binomial counts.

    ``use_u`` holds the random effects at their conditional modes instead of drawing new ones.
    Those of rows in an engine are drawn when these are read.
    """
    values = fitted_values_of(fit)
    if not fit.frame.in_memory:
        return drawn_responses(fit, n, rng, values, included_columns(fit, None) if use_u else {})
    if use_u:
        held = Sampler(fit.eta, (), fit.weights, fit.family, values.extra)
        return draw_responses(held, n, rng)
    return draw_responses(make_sampler(fit, fitted_rows(fit), values), n, rng)


def simulations(
    fit: Fit,
    n: int = 1,
    seed: int | np.random.Generator | None = None,
    newdata: Any = None,
    re_form: str | bool | None = "~0",
    use_u: bool = False,
    new_params: Any = None,
    new_levels: str = "draw",
    weights: Any = None,
    env: Mapping[str, Any] | None = None,
) -> Any:
    """Return simulated responses, one column a replicate; see ``MixedModel.simulate``."""
    n, rng = checks.whole(n, "n"), checks.generator(seed)
    new_levels = checks.option(new_levels, "new_levels", NEW_LEVELS)
    use_u = checks.flag(use_u, "use_u")
    if use_u:
        if re_form is not None and not (isinstance(re_form, str | bool) and re_form in NONE):
            raise ArgumentError(
                "use_u=True holds all random effects at their modes, but re_form is "
                f"{checks.shown(re_form)}; give one of the two"
            )
        re_form = None
    if weights is not None and newdata is None:
        raise ArgumentError("weights= is for newdata; the fit's own rows have the fit's weights")
    values = fitted_values_of(fit)
    if new_params is not None:
        values = read_values(new_params, parameters_of(fit), values)
    if newdata is None and not fit.frame.in_memory:
        checks.count(n, "n", each=1 + sum(term.n_effects for term in fit.terms))
        return _in_order(drawn_responses(fit, n, rng, values, included_columns(fit, re_form)))
    rows = fitted_rows(fit) if newdata is None else new_rows(fit, newdata, weights, env)
    checks.count(n, "n", each=len(rows.index))
    sampler = make_sampler(fit, rows, values, included_columns(fit, re_form), new_levels)
    y = draw_responses(sampler, n, rng)
    like, index, trials = fit.frame.response, rows.index, rows.trials
    if newdata is None:
        y, index = fit.frame.pad(y), fit.frame.padded_index
        trials = None if trials is None else fit.frame.pad(trials)
    return simulation_frame(y, index, like, trials)


def _in_order(drawn: DrawnResponses) -> Any:
    """Return the table that a fit is of, with responses that are drawn when it is read."""
    names = [f"sim_{i}" for i in range(1, drawn.shape[1] + 1)]
    if drawn.fit.is_counted:
        names = [f"{name}_{count}" for name in names for count in COUNTS]
    return in_order(drawn.fit, partial(_begin, drawn, names), names)


def _begin(drawn: DrawnResponses, names: list[str], part: int | None) -> ByRow:
    """Return the responses of one reading of the rows, batch after batch."""
    reading = drawn.begin(part)

    def values(piece: Fit) -> pd.DataFrame:
        y, trials = reading.all_of(piece), piece.outcome.trials
        if piece.is_counted:
            assert trials is not None
            counts = _whole(y * trials[:, None])
            y = np.stack([counts, trials[:, None] - counts], axis=2).reshape(len(y), -1)
        return pd.DataFrame(piece.frame.pad(y), columns=names)

    return values


def make_sampler(
    fit: Fit,
    rows: SimulationRows,
    values: Values,
    included: Mapping[int, np.ndarray] | None = None,
    new_levels: str = "draw",
) -> Sampler:
    """Return what responses of some rows are drawn from.

    ``included`` has, for each term whose random effects stay at their conditional modes, its
    columns (s,) that do, as 1.
    """
    effects = []
    for t, (term, group) in enumerate(zip(fit.terms, rows.groups, strict=True)):
        held = None if included is None or t not in included else included[t] > 0
        if held is not None and new_levels == "error" and group.new:
            raise DataError(
                f"new levels detected in newdata: {', '.join(group.new[:5])} of {term.group}; set "
                "new_levels='draw' for new random effects, 'population' for zero, or 'missing' "
                "for NaN"
            )
        modes = fit.estimates.effects[t]
        effects.append(level_effects(group, values.roots[t], modes, held, new_levels))
    return Sampler(rows.fixed(values.beta), tuple(effects), rows.weights, fit.family, values.extra)


COUNTS = ("successes", "failures")


def simulation_frame(
    values: np.ndarray, index: pd.Index, like: Any = None, trials: np.ndarray | None = None
) -> pd.DataFrame:
    """Return simulated responses (m, n) as columns ``sim_1``, ``sim_2``, ...; NaN for none.

    They come back as whole numbers, booleans or the levels of a factor where the response ``like``
    is that. With ``trials`` (m,), for successes and failures, each ``sim_i`` is two columns.
    """
    names = [f"sim_{i}" for i in range(1, values.shape[1] + 1)]
    if trials is not None:
        counts = _whole(values * trials[:, None])
        both = np.stack([counts, trials[:, None] - counts], axis=2)
        columns = pd.MultiIndex.from_product([names, COUNTS])
        return pd.DataFrame(_integers(both.reshape(len(values), -1)), index, columns)
    if isinstance(like, Factor) and like.kind != "logical":
        codes = np.where(np.isnan(values), -1.0, values).astype(np.int8)
        labels = {
            name: pd.Categorical.from_codes(codes[:, i], like.level_set.index, like.ordered)
            for i, name in enumerate(names)
        }
        return pd.DataFrame(labels, index)
    logical = isinstance(like, Factor) or (isinstance(like, np.ndarray) and like.dtype.kind == "b")
    if logical and np.isin(values, (0.0, 1.0)).all():  # a linear model's are any numbers
        return pd.DataFrame(values == 1.0, index, names)
    if isinstance(like, Integers):
        values = _integers(values)
    return pd.DataFrame(values, index, names)


def _whole(values: np.ndarray) -> np.ndarray:
    """Take out rounding: successes are a share times trials."""
    whole = np.rint(values)
    return np.where(np.abs(values - whole) < 1e-6, whole, values)


def _integers(values: np.ndarray) -> np.ndarray:
    """Return whole numbers as integers; anything else as it is."""
    with np.errstate(invalid="ignore"):
        whole = (values == np.rint(values)) & (np.abs(values) < 2.0**62)
    return values.astype(np.int64) if whole.all() else values
