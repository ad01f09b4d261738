"""Simulation before any fit, by `simulate_from`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.arguments import checked_contrasts, names_for
from mixef.errors import DataError, FormulaError
from mixef.families.continuous import Normal
from mixef.families.convert import make_family
from mixef.hints import refuse_unknown
from mixef.inference.prediction.prediction_rows import trials_in
from mixef.inference.simulation.new_parameters import Parameters, read_values
from mixef.inference.simulation.sampler import Sampler, draw_responses
from mixef.inference.simulation.simulate import simulation_frame
from mixef.inference.simulation.simulation_rows import (
    GroupRows,
    check_weights,
    level_effects,
)
from mixef.terms.columns import Columns
from mixef.terms.exact import Integers
from mixef.terms.expressions import Scope, State
from mixef.terms.fixed import design
from mixef.terms.formula import Formula, parse_formula
from mixef.terms.frame import model_frame
from mixef.terms.needed import needed_names
from mixef.terms.nodes import Call, Name
from mixef.terms.random import random_terms


def simulate_from(
    formula: str,
    data: Any,
    params: Any,
    family: Any = "gaussian",
    n: int = 1,
    seed: int | np.random.Generator | None = None,
    *,
    weights: Any = None,
    offset: Any = None,
    contrasts: dict[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> pd.DataFrame:
    """Draw responses of a model with given parameters, without a fit.

    Parameters
    ----------
    formula : str
        As for `lmer`. The response need not be in the data, and may be left out:
        ``"~ x + (1 | g)"``.
    data : DataFrame
        Predictors and grouping factors, one row a response.
    params : dict
        All parameters; an error names those that are missing.

        * "beta": an array in the order of the design's columns, or a dict by name;
        * covariances of the random effects: "sd" and "cor", dicts from grouping factor to one
          number, or all in order (correlations are zero unless given), "cov", a dict from grouping
          factor to a matrix or the variance of a single column, single names as in
          ``{"sd_(Intercept)|g": 1.5}``, or lme4's "theta" (relative to sigma in a linear model)
          or "par";
        * "sigma" of a linear model, "dispersion", "shape" and the like of a family that has them.
    family : Family, type or str
        As for `glmer`; "gaussian" for a linear model.
    n : int
        Replicates.
    seed : int or numpy.random.Generator, optional
    weights : str or array (n,), optional
        Prior weights, or numbers of trials of a binomial response.
    offset : str or array (n,), optional
    contrasts, env : dict, optional
        As for `lmer`.

    Returns
    -------
    DataFrame (rows, n)
        Columns sim_1, sim_2, ..., with the data's index: numbers; shares for a binomial response
        with trials, or successes and failures (two columns each) if the formula's response is
        ``cbind(...)``. NaN where a predictor is missing.

    Raises
    ------
    DataError
        For parameters that are missing, that the model does not have, or that cannot be.
    FormulaError
        If the formula cannot be read, or has no random effects.

    Examples
    --------
    >>> import pandas as pd
    >>> from mixef import lmer, simulate_from
    >>> data = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0] * 10})
    >>> data["g"] = data.index // 4
    >>> truth = {"beta": {"(Intercept)": 1.0, "x": 2.0}, "sd": {"g": 1.5}, "sigma": 0.5}
    >>> data["y"] = simulate_from("y ~ x + (1 | g)", data, truth, seed=1)
    >>> lmer("y ~ x + (1 | g)", data).fixef().round(1)["x"].item()
    1.9
    """
    refuse_unknown(unknown, simulate_from)
    n, rng, family = checks.whole(n, "n"), checks.generator(seed), make_family(family)
    names = names_for(env, sys._getframe(1))
    contrasts = checked_contrasts(contrasts)
    parsed = parse_formula(formula)
    columns = Columns(data, needed_names(parsed, weights, offset))
    checks.count(n, "n", each=columns.n)
    counted = family.has_trials and _is_cbind(parsed)
    if weights is None and counted:
        assert parsed.response is not None
        weights = trials_in(parsed.response, columns, Scope(columns, State(), names))
        if weights is None:
            raise DataError(
                f"the data do not have the columns of {parsed.response.text}, so that the numbers "
                "of trials are not known; give them as weights="
            )
    frame = model_frame(
        _one_sided(parsed), columns, weights=weights, offset=offset, na_action="exclude",
        env=names, unused_levels=True,
    )  # fmt: skip
    check_weights(frame.weights, family.has_trials)
    X, terms = design(frame.fixed_terms, frame, contrasts), random_terms(frame, contrasts)
    linear = family.name == "gaussian" and family.is_canonical
    family = Normal() if linear else family
    values = read_values(params, Parameters(X.names, terms, family, linear), None)
    effects = tuple(
        level_effects(GroupRows(term.z, term.grouping.codes, np.arange(term.n_levels)), root)
        for term, root in zip(terms, values.roots, strict=True)
    )
    fixed = X.matrix @ values.beta + (0.0 if frame.offset is None else frame.offset)
    sampler = Sampler(fixed, effects, frame.weights, family, values.extra)
    y = frame.pad(draw_responses(sampler, n, rng))
    trials = frame.pad(frame.weights) if counted and frame.weights is not None else None
    whole = Integers(np.zeros(0, dtype=np.int64), None, "response")
    like = whole if family.support in ("whole", None) and not family.has_dispersion else None
    return simulation_frame(y, frame.padded_index, like, trials)


def _is_cbind(formula: Formula) -> bool:
    return isinstance(formula.response, Call) and formula.response.function == "cbind"


def _one_sided(formula: Formula) -> Formula:
    """Return the formula without its response, which the data need not have."""
    sides = (formula.fixed, *(bar.lhs for bar in formula.bars))
    if any(isinstance(node, Name) and node.name == "." for side in sides for node in side.walk()):
        raise FormulaError(
            f"simulate_from does not know what '.' stands for in {formula.text}: the response "
            "need not be in the data; write the terms out"
        )
    return replace(formula, response=None)
