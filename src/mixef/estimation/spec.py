"""What a model is: formula, data, terms, and which kind of model; nothing of its fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from mixef import checks
from mixef.control import Control
from mixef.errors import ArgumentError, DataError
from mixef.estimation.columns import LARGEST
from mixef.estimation.search.optimize import Step
from mixef.families import family as families
from mixef.terms.covariance import make_covariance
from mixef.terms.fixed import Design
from mixef.terms.formula import Formula
from mixef.terms.frame import ModelFrame
from mixef.terms.needed import needed_names
from mixef.terms.nodes import variable_names
from mixef.terms.outcome import Outcome
from mixef.terms.parametrization import Parametrization
from mixef.terms.random import RandomTerm
from mixef.terms.sources import columns_alone

if TYPE_CHECKING:
    from mixef.estimation.fit import Fit

Trace = Callable[[Step], None]


@dataclass(frozen=True)
class ModelCall:
    """The arguments that a model was asked for with, as ``update`` needs them."""

    data: Any = None  # the data frame; a pandas frame is held by a copy that shares its columns
    data_name: str | None = None  # what the caller calls it
    #: `weights`, `offset`, `subset`, `contrasts`, `na_action`: as given.
    weights: Any = None
    offset: Any = None
    subset: Any = None
    na_action: str = "omit"
    contrasts: dict[str, Any] | None = None
    #: Whether the data hold only the columns that the fit used, as after a pickle.
    is_pruned: bool = False

    def pruned(self, formula: Formula, frame: Any) -> ModelCall:
        """Return the call with the columns that a formula and its arguments use, to pickle."""
        if not frame.in_memory:
            return replace(self, data=frame.table(self.data))
        needed = needed_names(formula, self.weights, self.offset, self.subset)
        if needed is None and frame.dot_columns is not None:
            needed = {*frame.dot_columns, *variable_names(formula.response or formula.fixed)}
        return replace(self, data=columns_alone(self.data, needed), is_pruned=True)


class Kind(ABC):
    """What linear and generalized models do differently; a new kind gives the same verbs."""

    is_linear: ClassVar[bool]  # whether the model is exactly normal, so that its tests are t and F
    takes_batches: ClassVar[bool] = False  # whether rows may stay where they lie, to be read anew
    searches_beta: bool  # whether the coefficients are parameters of the search
    #: The arguments of the fitting function that belong to the kind.
    options: ClassVar[tuple[str, ...]]
    control_type: ClassVar[type[Control]]
    family: families.Family
    REML: bool
    nAGQ: int

    def changed(self, options: dict[str, Any]) -> Self:
        """Return the kind with other options; it takes those that are its own out of the dict."""
        own = {name: options.pop(name) for name in self.options if name in options}
        return replace(self, **own) if own else self  # type: ignore[type-var]

    @abstractmethod
    def outcome(self, frame: ModelFrame) -> Outcome:
        """Return the response of a frame, as the model takes it."""

    @abstractmethod
    def fit(self, spec: ModelSpec, start: Any, trace: Trace | None) -> Fit:
        """Search, and judge the end; warnings are left to the caller."""

    @abstractmethod
    def problem(self, spec: ModelSpec, kept: np.ndarray) -> Any:
        """Return the model on scaled data; its independent columns of X are ``kept``."""

    @abstractmethod
    def criterion(self, problem: Any, u: np.ndarray | None = None) -> Any:
        """Return a criterion of a problem, with a factor of its own.

        Parameters
        ----------
        u : ndarray (q,), optional
            Modes near those that it will look for.
        """

    @abstractmethod
    def by_likelihood(self) -> Kind:
        """Return the kind whose criterion is -2 log L of all parameters."""

    @abstractmethod
    def start(self, par: np.ndarray, beta: np.ndarray, extra: Any) -> dict[str, Any]:
        """Return a start of the search from parameters on the user's scale."""

    @abstractmethod
    def labels(self, names: Sequence[str], terms: Sequence[RandomTerm]) -> list[str]:
        """Name the parameters that `hessian` is over (K,), given the names of the coefficients."""

    @abstractmethod
    def hessian(self, fit: Fit) -> np.ndarray | None:
        """Return the Hessian (K, K) of the criterion at the end; None where it is no minimum's."""

    @abstractmethod
    def vcov(self, fit: Fit) -> np.ndarray:
        """Return the covariance (p, p) of the fixed effects."""

    def needs_exact(self, fit: Fit, what: str) -> None:  # noqa: B027
        """Refuse what takes an exact factor of the random effects, where the fit's is none."""

    def report(self, fit: Fit) -> None:  # noqa: B027
        """Warn of what is wrong with a fit of this kind alone."""

    @abstractmethod
    def effects_slopes(self, fit: Fit) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the derivatives of beta (p, K) and of the modes (K, l_t, s_t), one a term."""

    @abstractmethod
    def coupling(self, fit: Fit, par: np.ndarray) -> np.ndarray:
        """Return ``Lambda'Z'WX`` (q, p) at scaled par; W as at the end, X as the user has it."""


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """A model on its data: all that a fit needs."""

    formula: Formula
    frame: ModelFrame  # response, weights, offset and rows kept
    design: Design  # fixed-effects columns, aliased ones included
    terms: tuple[RandomTerm, ...]  # in lme4's internal order
    kind: Kind  # ``Gaussian(REML)``, or ``Generalized(family, nAGQ)``
    control: Control
    call: ModelCall
    outcome: Outcome  # the response as the kind takes it

    def changed(self, **changes: Any) -> ModelSpec:
        """Return the model with other fields; a new frame brings its response with it."""
        if "frame" in changes:
            kind = changes.get("kind", self.kind)
            response = kind.outcome(changes["frame"])
            changes["outcome"] = replace(response, modelled=self.outcome.modelled)
        return replace(self, **changes)

    def on_batch(self, frame: ModelFrame) -> ModelSpec:
        """Return the model on some of its rows, which a batch of its frame has in memory."""
        return self.changed(
            frame=frame,
            design=self.design.on_batch(frame.variables, frame.n),
            terms=tuple(term.on_batch(frame) for term in self.terms),
        )


def par_labels(terms: Sequence[RandomTerm]) -> list[str]:
    """Name the covariance parameters of all terms, as lme4 names theta."""
    return [label for term in terms for label in term.structure.labels(term.group, term.columns)]


def theta_labels(terms: Sequence[RandomTerm]) -> list[str]:
    """Name the entries of theta: each term's lower triangle, column by column."""
    return [
        label
        for term in terms
        for label in make_covariance("us", False, len(term.columns)).labels(
            term.group, term.columns
        )
    ]


def checked_start(start: Any, more: Sequence[str] = ()) -> Mapping[str, Any]:
    """Return the parts of a user's start: "par" or "theta", and more for some kinds."""
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


def starting_covariances(
    start: Mapping[str, Any], terms: Sequence[RandomTerm], parametrization: Parametrization
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
