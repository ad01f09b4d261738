"""Judging the end of a search by the exact gradient and the curvature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixef.estimation.search.optimize import SearchResult, Step, StopReason
from mixef.estimation.search.trust_region import FLAT, Quadratic
from mixef.text.layout import LISTED
from mixef.text.numbers import format_common
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

# A point counts as an optimum when a Newton step promises less than this: half the square of
# 2e-3, the gradient in units of standard errors that the field accepts.
CONVERGED_GAIN = 2e-6


@dataclass(frozen=True, repr=False)
class Convergence(PrintedTable):
    """How a search ended."""

    #: Whether the exact gradient vanishes at a point with the curvature of a minimum.
    converged: bool
    reason: StopReason  # why the search stopped; `message` is its sentence
    n_evaluations: int  # evaluations of the criterion
    labels: tuple[str, ...]  # names of the covariance parameters
    slopes: np.ndarray  # (k,): exact gradient for them, on the user's scale
    expected_gain: float  # what one more Newton step promises to take from the criterion
    #: What is wrong, with the parameter, how far, and what to do; empty for a good end.
    problems: tuple[str, ...]
    flat: tuple[str, ...]  # parameters that the data do not determine
    log: tuple[Step, ...]  # the search's evaluations
    optimizer: str
    #: Which predictors separate the responses of a generalized model, if they do; it is the first
    #: of the problems.
    separation: str = ""
    remarks: tuple[str, ...] = ()  # what is to be known of the approximation, however good the end
    n_passes: int = 0  # over the rows, where they are not in memory

    @property
    def message(self) -> str:
        """Why the search stopped, as a sentence."""
        return self.reason.value

    @property
    def gradient(self) -> pd.Series:
        """Exact gradient by covariance parameter, on the user's scale."""
        return pd.Series(self.slopes, index=list(self.labels), name="gradient")

    def to_table(self) -> Table:
        """Return the exact gradient, with how the search ended above and its problems below."""
        cells = [(text,) for text in format_common(self.slopes, 3)]
        note = "\n".join([*self.problems, *self.remarks]) or None
        return Table(("gradient",), cells, self.labels, title=self._ended, note=note)

    @property
    def _ended(self) -> str:
        state = "converged" if self.converged else "not converged"
        n = self.n_evaluations
        count = f"{n} evaluation" + ("s" if n != 1 else "")
        if self.n_passes:
            count += f" and {self.n_passes} passes over the rows"
        return f"{self.optimizer}: {state} after {count}; {self.message}"

    def __str__(self) -> str:
        return "\n".join([self._ended, *self.problems, *self.remarks])


def judge(
    result: SearchResult,
    labels: Sequence[str],
    user_gradient: np.ndarray,
    optimizer: str,
    remedy: Callable[[tuple[str, ...]], str] = lambda flat: "simplify the random effects",
    void: Sequence[bool] | np.ndarray = (),
) -> Convergence:
    """Judge the end of a search.

    Parameters
    ----------
    labels : sequence of str
        Names of the parameters.
    user_gradient : ndarray (k,)
        Gradient to report.
    remedy : callable, optional
        What to do about parameters that the data do not determine, given their names.
    void : sequence of bool, optional
        Which of the first parameters mean nothing at the end, as correlations of nothing do.
    """
    end, gain = result.foretells, result.expected_gain
    problems = []
    converged = gain < CONVERGED_GAIN or result.reason is StopReason.ERROR
    if not converged:
        worst = int(np.argmax(np.abs(end.step(radius=1.0)[0])))
        problems.append(
            f"Model failed to converge: one Newton step from here would lower the criterion by "
            f"{gain:.2g} (tol = {CONVERGED_GAIN:g}), mostly by changing {labels[worst]} "
            f"(gradient {user_gradient[worst]:.2g}); raise max_evaluations in the control, start "
            "elsewhere (start=), or use the default optimizer"
        )
    means = np.append(~np.array(void, dtype=bool), np.ones(len(labels) - len(void), dtype=bool))
    if not means.all():
        H, unit = result.information[np.ix_(means, means)], end.unit[means]
        end = Quadratic(result.gradient[means], H, unit)
    flat = _flat_parameters(end, [labels[int(a)] for a in np.flatnonzero(means)])
    if flat:
        problems.append(
            f"Model is nearly unidentifiable: the data do not determine {_listed(flat)}; "
            f"{remedy(flat)}"
        )
    return Convergence(
        converged=converged,
        reason=result.reason,
        n_evaluations=result.n_evaluations,
        labels=tuple(labels),
        slopes=user_gradient,
        expected_gain=gain,
        problems=tuple(problems),
        flat=flat,
        log=result.log,
        optimizer=optimizer,
    )


def _flat_parameters(end: Quadratic, labels: Sequence[str]) -> tuple[str, ...]:
    """Name the parameters that make up the directions without curvature."""
    directions = end.vectors[:, np.abs(end.values) <= FLAT]
    if not directions.size:
        return ()
    weight = np.abs(directions).max(axis=1)
    return tuple(label for label, w in zip(labels, weight, strict=True) if w > 0.1)


def _listed(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    if len(names) > LISTED:
        return ", ".join(names[:LISTED]) + f" and {len(names) - LISTED} more one by one"
    return ", ".join(names[:-1]) + f" and {names[-1]} one by one"
