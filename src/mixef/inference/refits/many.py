"""Fits of one model to many responses: what bootstraps and refits of a matrix stand on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import ArgumentError, DataError
from mixef.estimation.fit import Fit
from mixef.estimation.many.fits import BatchEstimates, BatchFitter, OneByOne, batch_fitter, interior
from mixef.estimation.many.response_sums import (
    ResponseReading,
    StreamedResponses,
    columns_at_once,
    summed_responses,
)
from mixef.estimation.spec import checked_parameters
from mixef.families.auxiliary import joined, separate
from mixef.inference.components import component_values, components, scale_parameters
from mixef.inference.refits.new_response import new_response
from mixef.inference.replicates import attempted, in_parallel
from mixef.terms.frame import ModelFrame
from mixef.terms.relation.drawn_frame import drawn_frame
from mixef.terms.values import Matrix

# Fits one by one go to the processes in so many parts at least, for the progress bar's sake.
PARTS = 40


@dataclass(frozen=True, eq=False)
class ManyFits:
    """Estimates of one model from m responses; NaN where a fit failed."""

    model: Fit  # The fit whose model it is
    # (n, m): on the scale of the model's response; proportions for a binomial one
    responses: np.ndarray | StreamedResponses
    beta: np.ndarray  # (m, p)
    par: np.ndarray  # (m, k): covariance parameters, on the user's scale
    # tuple of ndarray (m, s_t, s_t): templates of the user's columns, one array a term
    lams: tuple[np.ndarray, ...]
    sigma: np.ndarray  # (m,)
    extra: np.ndarray | None  # (m, E): auxiliary parameters, for a generalized model
    objective: np.ndarray  # (m,): REML criterion, or -2 log L
    converged: np.ndarray  # (m,) of bool
    singular: np.ndarray  # (m,) of bool
    failures: dict[int, str]  # Position and message of each response that could not be fitted

    def __post_init__(self) -> None:
        arrays: list[Any] = [
            self.responses,
            self.beta,
            self.par,
            *self.lams,
            self.sigma,
            self.objective,
        ]
        arrays += [self.converged, self.singular, self.extra]
        for array in arrays:
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.objective)

    def __repr__(self) -> str:
        return f"<ManyFits: {len(self)} fits of {self.model.formula.text}>"

    @property
    def covariance_scale(self) -> np.ndarray:
        """What ``lam lam'`` is relative to (m,): sigma squared, or 1."""
        scale = self.sigma**2 if self.model.is_linear else 1.0
        return np.where(np.isnan(self.sigma), np.nan, scale)

    @cached_property
    def components(self) -> np.ndarray:
        """Standard deviations and correlations (m, c), as `components.components` lists them."""
        parts = components(self.model.terms)
        at = zip(zip(*self.lams, strict=True), self.covariance_scale, strict=True)
        with np.errstate(invalid="ignore"):  # of fits that failed
            out = np.array([component_values(parts, lams, scale) for lams, scale in at])
        return out.reshape(len(self), len(parts))

    def to_frame(self) -> pd.DataFrame:
        """Return one row a response: standard deviations, correlations, sigma, fixed effects.

        A generalized model has its shape or the like in the place of sigma, or nothing; names
        are those of `components.parameter_values`.
        """
        columns = dict(
            zip([c.name for c in components(self.model.terms)], self.components.T, strict=True)
        )
        if self.extra is not None and not self.model.family.has_dispersion:
            columns |= dict(zip(scale_parameters(self.model), self.extra.T, strict=True))
        elif scale_parameters(self.model):
            columns["sigma"] = self.sigma
        columns |= dict(zip(self.model.fixed_names, self.beta.T, strict=True))
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self)))

    def fit(self, i: int) -> Fit:
        """Return the whole fit to response i, searched for from its estimates."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"there are {len(self)} responses; position {i} is not one of them")
        model, i = self.model, int(i) % len(self)
        own: dict[str, Any] = {}
        if i not in self.failures:
            extra = None if self.extra is None else joined(self.extra[i].tolist())
            own = {"par": self.par[i], "beta": self.beta[i], "extra": extra}
        return refitted(model, self.responses[:, i], model.warm_start(**own))


def refit_many(
    fit: Fit,
    Y: np.ndarray | StreamedResponses,
    *,
    n_jobs: int = 1,
    progress: bool | None = None,
    start: str | np.ndarray = "estimates",
) -> ManyFits:
    """Fit the model of ``fit`` to every column of Y (n, m), proportions for a binomial model.

    Linear models share what does not depend on the response; small ones are searched for all
    responses at once (`estimation.batch_search`), larger ones one by one with one factor. A column
    that cannot be fitted is a failure of its own, and its estimates are NaN. Searches start from
    the estimates, or from other covariance parameters (k,) on the user's scale. Responses of rows
    in an engine are drawn as the rows are read.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> model = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> y = model.getME("y")
    >>> fits = refit_many(model._fit, np.column_stack([y, 2 * y, y - 1000]))
    >>> fits.to_frame().round(2)
       sd_(Intercept)|Batch  sigma  (Intercept)
    0                  42.0  49.51       1527.5
    1                  84.0  99.02       3055.0
    2                  42.0  49.51        527.5
    """
    par = _start(fit, start)
    if isinstance(Y, StreamedResponses):
        return _joined(fit, Y, _refit_drawn(fit, Y, par, n_jobs, progress))
    Y = checked_responses(fit, Y)
    fitter = _fitter(fit, par)
    at_once = fitter.at_once if isinstance(fitter, BatchFitter) else 1 + (Y.shape[1] - 1) // PARTS
    parts = _parts(Y, at_once)
    found = in_parallel(fitter.estimates, parts, n_jobs=n_jobs, progress=progress, label="refit")
    return _joined(fit, Y, found)


def _refit_drawn(
    fit: Fit, Y: StreamedResponses, start: dict[str, Any], n_jobs: int, progress: bool | None
) -> list[Any]:
    """Fit the model to responses of rows in an engine: linear ones by their cross-products."""
    go = partial(in_parallel, n_jobs=n_jobs, progress=progress, label="refit")
    if not _by_products(fit):
        check_processes(fit, n_jobs)
        return go(RefitFitter(fit, start).estimates, _parts(Y, 1 + (Y.shape[1] - 1) // PARTS))
    found = []
    fitter = OneByOne(fit, fit.problem, interior(fit, fit.problem.scaled_par(start["par"])))
    for block in _parts(Y, columns_at_once(fit)):
        sums = summed_responses(fit, block)
        found += go(fitter.of_sums, sums.parts(1 + (len(sums) - 1) // PARTS))
    return found


def check_processes(fit: Fit, n_jobs: int) -> None:
    """Refuse several processes that would read rows which only this one can."""
    frame: Any = fit.frame
    if n_jobs != 1 and not frame.in_memory and not frame.relation.is_path:
        raise ArgumentError(
            f"n_jobs is {n_jobs}, but other processes cannot read a table that this one holds in "
            f"{frame.relation.engine}; take n_jobs=1, or fit the model to the path of its files"
        )


def _parts(Y: Any, size: int) -> list[Any]:
    """Return so many responses at a time."""
    return [Y[:, i : i + size] for i in range(0, Y.shape[1], size)]


def _by_products(fit: Fit) -> bool:
    """Tell whether cross-products are all that a fit needs of a response."""
    return fit.is_linear and fit.control.optimizer == "newton"


def checked_responses(fit: Fit, Y: Any) -> np.ndarray:
    """Return responses (n, m) as numbers, with a row for each of the fit's."""
    try:
        values = np.array(Y, dtype=float)
    except (TypeError, ValueError):
        raise DataError("the new responses are not numeric; expected numbers") from None
    if values.ndim != 2 or len(values) != fit.frame.n or not values.shape[1]:
        raise DataError(
            f"the new responses have shape {values.shape}; expected ({fit.frame.n}, m): one row "
            "for each row that the fit used, and a column a response"
        )
    return values


def frame_with(fit: Fit, y: np.ndarray | StreamedResponses) -> ModelFrame:
    """Return the frame of a fit with another response (n,), proportions for a binomial one."""
    if isinstance(y, StreamedResponses):
        frame: Any = fit.frame
        return drawn_frame(frame, _Drawing(fit, y))
    if isinstance(fit.frame.response, Matrix):
        trials = fit.outcome.trials
        assert trials is not None
        counts = y * trials
        whole = np.rint(counts)
        # A proportion of whole numbers gives back whole numbers, whatever rounding made of it.
        counts = np.where(np.abs(counts - whole) <= 1e-9 * np.maximum(trials, 1.0), whole, counts)
        y = np.column_stack([counts, trials - counts])
    return replace(fit.frame, **new_response(fit, y))


@dataclass(frozen=True, eq=False)
class _DrawnReading:
    """One reading of the rows of a fit, with another response."""

    fit: Fit
    rows: ResponseReading

    def with_response(self, frame: ModelFrame) -> ModelFrame:
        """Return the next batch of rows with its response."""
        piece = self.fit.on_batch(frame)
        return frame_with(piece, self.rows.all_of(piece)[:, 0])

    def finish(self) -> None:
        """Refuse rows that came in another order than in other readings."""
        self.rows.finish()


@dataclass(frozen=True, eq=False)
class _Drawing:
    """Begins readings of the rows of a fit with another response; it pickles."""

    fit: Fit
    response: StreamedResponses

    def __call__(self) -> _DrawnReading:
        return _DrawnReading(self.fit, self.response.begin())


def refitted(fit: Fit, y: np.ndarray | StreamedResponses, start: Any = None) -> Fit:
    """Fit the model to another response (n_rows,), quietly and from the estimates."""
    start = fit.warm_start() if start is None else start
    return fit.again(frame=frame_with(fit, y), start=start, control=fit.control.quiet())


@dataclass(frozen=True)
class RefitFitter:
    """Whole fits one by one, as for generalized models; it pickles."""

    fit: Fit
    start: dict[str, Any]  # What every search starts from

    def estimates(self, Y: np.ndarray | StreamedResponses) -> tuple[BatchEstimates, np.ndarray]:
        """Fit the responses Y (n, m); return auxiliary parameters (m, E) too."""
        fit = self.fit
        sizes = tuple(len(lam) for lam in fit.estimates.lams)
        out = BatchEstimates.missing(Y.shape[1], len(fit.kept), len(fit.estimates.par), sizes)
        extra = np.full((Y.shape[1], len(fit.family.auxiliary)), np.nan)
        for j, y in enumerate(Y.T):
            again = attempted(partial(refitted, fit, y, self.start))
            if isinstance(again, str):
                out.failures[j] = again
                continue
            out.put(j, again.estimates, again.convergence.converged, bool(again.vanished))
            extra[j] = separate(again.estimates.extra)
        return out, extra


def _start(fit: Fit, start: str | np.ndarray) -> dict[str, Any]:
    if isinstance(start, str):
        if start != "estimates":
            raise ArgumentError(
                f"start is {start!r}; expected 'estimates' or covariance parameters"
            )
        return fit.warm_start()
    return fit.warm_start(par=checked_parameters(start, fit.par_labels))


def _fitter(fit: Fit, start: dict[str, Any]) -> BatchFitter | OneByOne | RefitFitter:
    if not _by_products(fit):
        return RefitFitter(fit, start)
    begin = interior(fit, fit.problem.scaled_par(start["par"]))
    return batch_fitter(fit, begin) or OneByOne(fit, fit.problem, begin)


def _joined(fit: Fit, Y: np.ndarray | StreamedResponses, found: list[Any]) -> ManyFits:
    """Put the parts together, with the positions of failures counted through."""
    extra = None
    if isinstance(found[0], tuple):
        extra = np.concatenate([part[1] for part in found])
        found = [part[0] for part in found]
    first = np.cumsum([0, *(len(part.objective) for part in found)])
    together = {
        name: np.concatenate([getattr(part, name) for part in found])
        for name in ("beta", "par", "sigma", "objective", "converged", "singular")
    }
    lams = tuple(
        np.concatenate(of_term) for of_term in zip(*(part.lams for part in found), strict=True)
    )
    failures = {
        int(start) + j: message
        for start, part in zip(first, found, strict=False)
        for j, message in part.failures.items()
    }
    return ManyFits(
        model=fit, responses=Y, lams=lams, extra=extra, failures=failures, **together
    )  # fmt: skip
