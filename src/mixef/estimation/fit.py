"""A fitted model, and the one way to fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from mixef.control import Control, act
from mixef.errors import ConvergenceWarning, FitError, SingularFitWarning
from mixef.estimation.estimates import Estimates
from mixef.estimation.search.convergence import Convergence
from mixef.estimation.search.hessian import inverse_hessian
from mixef.estimation.search.singular import AtBound, VanishedDirection
from mixef.estimation.spec import Kind, ModelCall, ModelSpec, Trace, par_labels
from mixef.families import family as families
from mixef.linalg.threads import one_blas_thread
from mixef.terms.columns import Columns
from mixef.terms.fixed import Design
from mixef.terms.formula import Formula
from mixef.terms.frame import ModelFrame
from mixef.terms.outcome import Outcome
from mixef.terms.random import RandomTerm
from mixef.terms.sources import attributes
from mixef.terms.values import Matrix

NO_HESSIAN = (
    "the Hessian at the optimum could not be computed, or is not that of a minimum: standard "
    "errors take the covariance parameters as known and may be too small; simplify the random "
    "effects, rescale the predictors, or use an exact factor where it is iterative"
)


def fit_model(spec: ModelSpec, *, start: Any = None, trace: Trace | None = None) -> Fit:
    """Fit a model: check it, search, judge the end, and warn of what is wrong with it.

    Parameters
    ----------
    start : array (k,) or dict, optional
        Covariance parameters on the user's scale, or a dict of "par" or "theta" and what else
        the kind searches for; estimates of simpler models by default.
    trace : callable, optional
        Called with every evaluation; its parameters are on the user's scale.
    """
    with one_blas_thread():
        fit = spec.kind.fit(spec, start, trace)
    _report(fit)
    return fit


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Fit:
    """A fitted model: all that a method, a refit or a profile needs."""

    spec: ModelSpec
    kept: np.ndarray  # (p,) of int: columns of the design that are estimated
    # (K,): where the search ended, in the scaled problem: covariance parameters, and those of a
    # generalized model besides (coefficients unless nAGQ is 0, auxiliary coordinates)
    point: np.ndarray
    estimates: Estimates
    convergence: Convergence
    # Directions without variance; empty unless the fit is singular
    vanished: tuple[VanishedDirection | AtBound, ...]
    # (K, K): exact Hessian of the criterion at ``point``, where the search ended with it
    end_hessian: np.ndarray | None = None
    # What tests and standard errors of the fixed effects go by, in the place of the model's own
    # covariance (inference/robust): its ``matrix`` (p, p), and the rules that it has for tests
    beta_covariance: Any = None
    # What the search was for; made again where it is missing, as after a pickle
    held_problem: Any = None
    # The fit whose rows these are some of; None for a fit by itself
    whole: Fit | None = None

    def __repr__(self) -> str:
        return f"<Fit of {self.formula.text}, {self.frame.n} rows>"

    # ------------------------------------------------------------------ of the model

    @property
    def formula(self) -> Formula:
        """The formula."""
        return self.spec.formula

    @property
    def frame(self) -> ModelFrame:
        """Response, weights, offset and rows kept."""
        return self.spec.frame

    @property
    def design(self) -> Design:
        """Fixed-effects columns, aliased ones included."""
        return self.spec.design

    @property
    def terms(self) -> tuple[RandomTerm, ...]:
        """Random-effects terms, in lme4's internal order."""
        return self.spec.terms

    @property
    def kind(self) -> Kind:
        """What this kind of model does in its own way."""
        return self.spec.kind

    @property
    def control(self) -> Control:
        """The options of the search and its checks."""
        return self.spec.control

    @property
    def call(self) -> ModelCall:
        """The arguments that the model was asked for with."""
        return self.spec.call

    @property
    def outcome(self) -> Outcome:
        """The response as the model takes it."""
        return self.spec.outcome

    @property
    def family(self) -> families.Family:
        """The distribution of the response."""
        return self.kind.family

    @property
    def is_linear(self) -> bool:
        """Whether the model is exactly normal, so that its tests are t and F."""
        return self.kind.is_linear

    @property
    def REML(self) -> bool:
        """Whether the criterion is restricted."""
        return self.kind.REML

    @property
    def nAGQ(self) -> int:
        """Quadrature points; 1 for Laplace and for the exact integral, 0 with beta in the mode."""
        return self.kind.nAGQ

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
    def labels(self) -> list[str]:
        """Names of the parameters that `hessian` is over (K,)."""
        return self.kind.labels(self.fixed_names, self.terms)

    @property
    def extra_labels(self) -> list[str]:
        """Names of the auxiliary coordinates, or of log sigma, among `labels`."""
        return self.labels[len(self.labels) - len(self.family.auxiliary) :]

    @property
    def groups(self) -> dict[str, list[int]]:
        """The terms (their positions) of each grouping factor."""
        out: dict[str, list[int]] = {}
        for t, term in enumerate(self.terms):
            out.setdefault(term.group, []).append(t)
        return out

    @property
    def npar(self) -> int:
        """Number of parameters: fixed effects, covariance parameters, auxiliary ones."""
        return len(self.kept) + len(self.estimates.par) + len(self.family.auxiliary)

    # ------------------------------------------------------------------ of the rows

    @property
    def y(self) -> np.ndarray:
        """The response (n,); proportions for a binomial one."""
        return self.outcome.y

    @property
    def weights(self) -> np.ndarray | None:
        """Prior weights (n,), numbers of trials among them; None for ones."""
        return self.outcome.weights

    @property
    def fixed_predictor(self) -> np.ndarray:
        """``X beta + offset`` (n,)."""
        design, kept, beta = self.design, self.kept, self.estimates.beta
        whole = len(kept) == len(design.names)
        parts = (design.rows(rows) for rows in design.pieces())
        fixed = np.concatenate([(X if whole else X[:, kept]) @ beta for X in parts])
        return fixed if self.frame.offset is None else fixed + self.frame.offset

    @property
    def units(self) -> Mapping[str, str]:
        """Units of the variables, as far as the data say: ``attrs["units"]`` of a pandas frame."""
        units = attributes(self.call.data).get("units", {})
        return units if isinstance(units, Mapping) else {}

    @property
    def is_counted(self) -> bool:
        """Whether the response is ``cbind(successes, failures)``."""
        return isinstance(self.frame.response, Matrix)

    @property
    def eta(self) -> np.ndarray:
        """``X beta + Z b + offset`` (n,)."""
        if self.estimates.eta is not None:
            return self.estimates.eta
        eta = self.fixed_predictor
        for term, b in zip(self.terms, self.estimates.effects, strict=True):
            codes = term.grouping.codes
            for rows in term.design.pieces():
                eta[rows] += np.einsum("ns,ns->n", term.design.rows(rows), b[codes[rows]])
        return eta

    @property
    def mu(self) -> np.ndarray:
        """The mean (n,) given the conditional modes."""
        mu = self.estimates.mu
        return self.family.link.inverse(self.eta) if mu is None else mu

    @property
    def columns(self) -> Columns | None:
        """The columns of the data, ``frame.rows`` of which were used; None for arrays in reach."""
        return self.frame.data_columns(self.call.data)

    def pieces(self) -> Iterator[Fit]:
        """Yield the fit on some of its rows at a time, in memory; itself where all of them are.

        What a piece says of each row is right. What it would sum over rows is of its own alone.
        """
        if self.frame.in_memory:
            yield self
            return
        for frame in self.frame.batches():
            yield self.on_batch(frame)

    def on_batch(self, frame: ModelFrame) -> Fit:
        """Return the fit on a batch of its rows; itself where it has them all in memory."""
        if self.frame.in_memory:
            return self
        return replace(self, spec=self.spec.on_batch(frame), whole=self)

    # ------------------------------------------------------------------ of the parameters

    @property
    def scaled_par(self) -> np.ndarray:
        """Covariance parameters of the scaled problem (k,)."""
        return self.point[: len(self.estimates.par)]

    @property
    def covariance_scale(self) -> float:
        """What ``lam lam'`` is relative to: sigma squared, or 1 on the scale of a link."""
        return self.estimates.sigma**2 if self.is_linear else 1.0

    @property
    def sigma(self) -> float | None:
        """The residual standard deviation; None for a family without a dispersion."""
        return self.estimates.sigma if self.family.has_dispersion else None

    @property
    def extra(self) -> families.Extra:
        """The auxiliary parameters as the family takes them; 1 where it has none."""
        return 1.0 if self.estimates.extra is None else self.estimates.extra

    @property
    def vcov(self) -> np.ndarray:
        """Covariance of the fixed effects (p, p): the one that was chosen, or the model's own."""
        chosen = self.beta_covariance
        matrix: np.ndarray = self.model_vcov if chosen is None else chosen.matrix
        return matrix

    @cached_property
    def model_vcov(self) -> np.ndarray:
        """Covariance of the fixed effects (p, p) where the model is right."""
        return self.kind.vcov(self) if self.whole is None else self.whole.model_vcov

    @cached_property
    def hessian(self) -> np.ndarray | None:
        """Hessian (K, K) of the criterion at the end; None where it is not that of a minimum.

        It is over the scaled problem's covariance parameters and log sigma for a linear model,
        over ``point`` for a generalized one.
        """
        return self.kind.hessian(self) if self.whole is None else self.whole.hessian

    @cached_property
    def curvature(self) -> Any:
        """Of a linear model: the Hessian, and the slopes of `vcov` for the same parameters."""
        if self.whole is not None:
            return self.whole.curvature
        return self.criterion().curvature(self.scaled_par)

    def search_covariance(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the covariance (K, K) of these parameters, and which of them are open (K,).

        NaN where there is no Hessian.
        """
        if self.hessian is None:
            size = len(self.labels)
            return np.full((size, size), np.nan), np.zeros(size, dtype=bool)
        return inverse_hessian(self.hessian)

    # ------------------------------------------------------------------ fits of changed models

    def again(self, *, start: Any = None, **changes: Any) -> Fit:
        """Fit the model with other fields of its `ModelSpec`, or options of its kind.

        Nothing of the caller's is read again. A new frame brings its response with it.
        """
        kind = changes.pop("kind", self.kind).changed(changes)
        return fit_model(self.spec.changed(kind=kind, **changes), start=start)

    def by_ml(self) -> Fit:
        """Return the maximum-likelihood fit, without the warnings that this one gave before."""
        return self.again(REML=False, control=self.control.quiet()) if self.REML else self

    def with_spec(self, **changes: Any) -> Fit:
        """Return the estimates on a changed model, as a stand-in from which to fit that."""
        own = {f.name for f in fields(self)}
        new = {name: changes.pop(name) for name in list(changes) if name in own}
        new = {"held_problem": None, "beta_covariance": None, "whole": None} | new
        return replace(self, spec=self.spec.changed(**changes), **new)

    def warm_start(self, **values: Any) -> dict[str, Any]:
        """Return the estimates as a start of a search, with other values of some of them.

        Parameters
        ----------
        par, beta, extra : ndarray or float, optional
        """
        e = self.estimates
        return self.kind.start(**({"par": e.par, "beta": e.beta, "extra": e.extra} | values))

    # ------------------------------------------------------------------ its criterion

    @cached_property
    def problem(self) -> Any:
        """The model on scaled data, which never changes; not pickled."""
        if self.whole is not None:
            return self.whole.problem
        if self.held_problem is not None:
            return self.held_problem
        return self.kind.problem(self.spec, self.kept)

    def needs_exact(self, what: str) -> None:
        """Refuse what takes an exact factor of the random effects, where the fit's is none.

        Raises
        ------
        ExactFactorNeededError
        """
        self.kind.needs_exact(self, what)

    def criterion(self) -> Any:
        """Return a criterion with a factor of its own, for the caller to move about."""
        return self.kind.criterion(self.problem, self.estimates.u)

    def __getstate__(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        call = self.call.pruned(self.formula, self.frame)
        # Rows that stay where they lie may not be there where the fit is next used.
        held = None if self.frame.in_memory else self.held_problem
        return own | {"spec": replace(self.spec, call=call), "held_problem": held}

    def __deepcopy__(self, memo: dict[int, Any]) -> Fit:
        """Return the fit itself: it never changes."""
        return self


def _report(fit: Fit) -> None:
    """Issue the warnings that the end of the search asks for."""
    control, end = fit.control, fit.convergence
    fit.kind.report(fit)
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
