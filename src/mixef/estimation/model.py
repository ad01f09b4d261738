"""What fits of linear and generalized models share: their frozen state and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixef import checks
from mixef.control import Control, act
from mixef.errors import (
    ArgumentError,
    ConvergenceWarning,
    DataError,
    DataWarning,
    FitError,
    SingularFitWarning,
)
from mixef.estimation.convergence import Convergence
from mixef.estimation.magnitudes import LARGEST, refuse_extremes
from mixef.estimation.singular import AtBound, VanishedDirection
from mixef.linalg.standardize import independent_columns, weighted_pieces
from mixef.terms.covariance import make_covariance
from mixef.terms.fixed import Design
from mixef.terms.formula import Formula
from mixef.terms.frame import ModelFrame, needed_names
from mixef.terms.held import columns_alone
from mixef.terms.nodes import variable_names
from mixef.terms.parametrization import Parametrization
from mixef.terms.random import RandomTerm

# What a fit computes at first need, and does not pickle.
REBUILT = ("_criterion", "curvature")
NO_HESSIAN = (
    "the Hessian at the optimum could not be computed, or is not that of a minimum: standard "
    "errors take the covariance parameters as known and may be too small; simplify the random "
    "effects, or rescale the predictors"
)


@dataclass(frozen=True)
class ModelCall:
    """The arguments that a model was asked for with, as ``update`` needs them.

    Attributes
    ----------
    data : Any
        The data frame; a pandas frame is held by a copy that shares its columns.
    data_name : str or None
        What the caller calls it.
    weights, offset, subset, contrasts, na_action
        As given.
    is_pruned : bool
        Whether the data hold only the columns that the fit used, as after a pickle.
    """

    data: Any = None
    data_name: str | None = None
    weights: Any = None
    offset: Any = None
    subset: Any = None
    na_action: str = "omit"
    contrasts: dict[str, Any] | None = None
    is_pruned: bool = False

    def pruned(self, formula: Formula, frame: ModelFrame) -> ModelCall:
        """Return the call with the columns that a formula and its arguments use, to pickle."""
        needed = needed_names(formula, self.weights, self.offset, self.subset)
        if needed is None and frame.dot_columns is not None:
            needed = {*frame.dot_columns, *variable_names(formula.response or formula.fixed)}
        return replace(self, data=columns_alone(self.data, needed), is_pruned=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """A fitted model: all that a method, a refit or a profile needs.

    Attributes
    ----------
    formula : Formula
    frame : ModelFrame
        Response, weights, offset and rows kept.
    design : Design
        Fixed-effects columns, aliased ones included.
    kept : ndarray of int (p,)
        Columns of the design that are estimated.
    terms : tuple of RandomTerm
        In lme4's internal order.
    control : Control
    call : ModelCall
    convergence : Convergence
    vanished : tuple of VanishedDirection or AtBound
        Directions without variance; empty unless the fit is singular.
    """

    formula: Formula
    frame: ModelFrame
    design: Design
    kept: np.ndarray
    terms: tuple[RandomTerm, ...]
    control: Control
    call: ModelCall
    convergence: Convergence
    vanished: tuple[VanishedDirection | AtBound, ...]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.formula.text}, {self.frame.n} rows>"

    @property
    def X(self) -> np.ndarray:
        """Fixed-effects columns that are estimated (n, p)."""
        return self.design.columns(self.kept)

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """Names of the estimated coefficients (p)."""
        return tuple(self.design.names[j] for j in self.kept)

    @property
    def dropped_names(self) -> tuple[str, ...]:
        """Names of the columns dropped as combinations of earlier ones."""
        kept = set(self.kept.tolist())
        return tuple(name for j, name in enumerate(self.design.names) if j not in kept)

    @property
    def par_labels(self) -> list[str]:
        """Names of the covariance parameters."""
        return par_labels(self.terms)

    @property
    def groups(self) -> dict[str, list[int]]:
        """The terms (their positions) of each grouping factor."""
        out: dict[str, list[int]] = {}
        for t, term in enumerate(self.terms):
            out.setdefault(term.group, []).append(t)
        return out

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k not in REBUILT}
        return state | {"call": self.call.pruned(self.formula, self.frame)}

    def __deepcopy__(self, memo: dict[int, Any]) -> Fit:
        """Return a fit that shares what never changes, and computes the rest for itself."""
        new = object.__new__(type(self))
        new.__dict__.update({k: v for k, v in self.__dict__.items() if k not in REBUILT})
        return new


def par_labels(terms: tuple[RandomTerm, ...]) -> list[str]:
    """Name the covariance parameters of all terms, as lme4 names theta."""
    return [label for term in terms for label in term.structure.labels(term.group, term.columns)]


def theta_labels(terms: tuple[RandomTerm, ...]) -> list[str]:
    """Name the entries of theta: each term's lower triangle, column by column."""
    return [
        label
        for term in terms
        for label in make_covariance("us", False, len(term.columns)).labels(
            term.group, term.columns
        )
    ]


def checked_start(start: Any, more: Sequence[str] = ()) -> Mapping[str, Any]:
    """Return the parts of a user's start: "par" or "theta", and more for some models."""
    if not isinstance(start, Mapping):
        return {"par": start}
    given = [str(key) for key in start]
    known = ["par", "theta", *more]
    if not given or set(given) - set(known):
        raise DataError(f"start has the keys {given}; expected {checks.either(known)}")
    for one, other in (("par", "theta"), ("beta", "fixef")):
        if one in start and other in start:
            raise DataError(f"start has both {one!r} and {other!r}; give one of them")
    return start


def checked_parameters(
    values: Any, labels: Sequence[str], what: str = "covariance parameters"
) -> np.ndarray:
    """Return parameters (k,) of the user's as floats, one a label."""
    expected = f"expected {len(labels)} finite numbers: {', '.join(labels)}"
    try:
        par = checks.numbers(values, what).ravel()
    except ArgumentError:
        raise DataError(f"the {what} are {checks.shown(values)}; {expected}") from None
    if len(par) != len(labels):
        raise DataError(f"the {what} are {len(par)} values; {expected}")
    if not (np.abs(par) < LARGEST).all():
        raise DataError(f"the {what} are {par.tolist()}; {expected}")
    return par


def starting_covariances(
    start: Mapping[str, Any], terms: tuple[RandomTerm, ...], parametrization: Parametrization
) -> np.ndarray | None:
    """Return coordinates (k,) of a user's start on the user's columns; None if it has none.

    Raises
    ------
    DataError
        For standard deviations below zero, as in lme4, and correlations out of bounds.
    """
    key = "theta" if "theta" in start else "par"
    if key not in start:
        return None
    if key == "par":
        labels, structures = par_labels(terms), [term.structure for term in terms]
        values = checked_parameters(start[key], labels)
        x = parametrization.of_user(values)
    else:
        labels = theta_labels(terms)
        structures = [make_covariance("us", False, len(t.columns)) for t in terms]
        values = checked_parameters(start[key], labels)
        x = parametrization.of_theta(values)
    low, high = (
        np.concatenate([getattr(s, end) for s in structures]) for end in ("lower", "upper")
    )
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        a = outside[0]
        what = f"start has {labels[a]} = {values[a]:g}; expected "
        if np.isfinite(high[a]):
            raise DataError(f"{what}a correlation from {low[a]:.4g} to {high[a]:g}")
        positive = parametrization.par_of(parametrization.term_lams(x)).round(6) + 0.0
        raise DataError(
            f"{what}0 or more: it is a standard deviation relative to sigma; par = "
            f"{positive.tolist()} stands for the same covariances"
        )
    return x


def refuse_extreme_columns(
    y: np.ndarray, name: str, frame: ModelFrame, design: Design, terms: Sequence[RandomTerm]
) -> None:
    """Refuse columns, response and weights that cannot be squared."""
    parts = [((name,), y[:, None]), (design.names, design.matrix)]
    if frame.weights is not None:
        parts.append((("weights",), frame.weights[:, None]))
    refuse_extremes([*parts, *((term.columns, term.z) for term in terms)])


def response_name(formula: Formula) -> str:
    """Name the response, for messages."""
    return "the response" if formula.response is None else formula.response.text


def independent(design: Design, weights: np.ndarray | None, control: Control) -> np.ndarray:
    """Return the columns of X that are independent, after the checks of X."""
    kept = independent_columns(weighted_pieces(design.matrix, weights))
    dropped = [name for j, name in enumerate(design.names) if j not in set(kept.tolist())]
    if dropped:
        columns = (
            "1 column / coefficient"
            if len(dropped) == 1
            else (f"{len(dropped)} columns / coefficients")
        )
        act(
            control.check_rankX,
            f"fixed-effect model matrix is rank deficient so dropping {columns}: "
            f"{', '.join(dropped)}; the data cannot tell them from the columns before",
            DataError,
            DataWarning,
        )
    if control.check_scaleX != "ignore":
        _check_scale(design, control)
    return kept


def _check_scale(design: Design, control: Control) -> None:
    spread = np.array([column.std() for column in design.matrix.T])  # no copy of them all
    spread = np.where(spread > 0, spread, 1.0)
    logs = np.abs(np.log(spread))
    worst = int(np.argmax(logs))
    if max(logs[worst], np.ptp(np.log(spread))) > np.log(1e3):
        act(
            control.check_scaleX,
            "Some predictor variables are on very different scales "
            f"({design.names[worst]} has standard deviation {spread[worst]:.2g}); the fit "
            "is the same on any scale, but consider rescaling for readable coefficients",
            DataError,
            DataWarning,
        )


def report(fit: Fit) -> None:
    """Issue the warnings that the end of the search asks for."""
    control, end = fit.control, fit.convergence
    for problem in end.problems:
        if problem == end.separation:
            continue  # it has a check of its own
        of_curvature = problem == NO_HESSIAN or (bool(end.flat) and problem is end.problems[-1])
        action = control.check_conv_hess if of_curvature else control.check_conv_grad
        act(action, problem, FitError, ConvergenceWarning)
    if fit.vanished:
        act(
            control.check_conv_singular,
            "boundary (singular) fit: " + "; ".join(str(v) for v in fit.vanished),
            FitError,
            SingularFitWarning,
        )
