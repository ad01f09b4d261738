"""The matrices of a model without a fit: `model_matrices`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from mixef.arguments import model_call, names_for, spec_of_call
from mixef.control import GlmerControl, LmerControl
from mixef.estimation.generalized.kind import Generalized
from mixef.estimation.linear.kind import Gaussian
from mixef.hints import refuse_unknown
from mixef.inference.model_matrices import ModelMatrices, matrices_of


def model_matrices(
    formula: str,
    data: Any = None,
    family: Any = None,
    *,
    weights: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    contrasts: dict[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> ModelMatrices:
    """Return the matrices that a formula makes of data, without fitting a model.

    Parameters
    ----------
    formula, data, weights, offset, subset, na_action, contrasts, env
        As in `lmer`.
    family : Family, type or str, optional
        As in `glmer`; by default those of a linear model.

    Returns
    -------
    ModelMatrices
        ``y``, ``X``, ``Zt``, ``Lambdat``, ``theta``, ``names``, ``weights`` and ``offset``.

    Raises
    ------
    FormulaError, DataError
        As in `lmer` and `glmer`.

    Examples
    --------
    >>> from mixef import load_dataset, model_matrices
    >>> parts = model_matrices("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> parts
    Model matrices
            rows columns
    X        180       2
    Zt        36     180
    Lambdat   36      36
    theta has 3 entries
    >>> parts.Zt.shape, parts.Lambdat.shape, parts.theta.tolist()
    ((36, 180), (36, 36), [1.0, 0.0, 1.0])
    """
    refuse_unknown(unknown, model_matrices)
    names = names_for(env, sys._getframe(1))
    call = model_call(
        data, names, weights=weights, offset=offset, subset=subset, na_action=na_action,
        contrasts=contrasts,
    )  # fmt: skip
    if family is None:
        return matrices_of(spec_of_call(formula, call, Gaussian(), LmerControl(), names))
    return matrices_of(spec_of_call(formula, call, Generalized(family, 1), GlmerControl(), names))
