"""The exact restricted likelihood-ratio test of one variance component, in spectral form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import DataError, FormulaError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.criterion_error import End, refuse_uncertain
from mixef.linalg.standardize import orthonormal_columns, root_weighted
from mixef.terms.nodes import unquoted
from mixef.terms.random import RandomTerm
from mixef.text.numbers import format_number, format_pvalue
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

# Eigenvalues below this share of the largest are rounding.
ZERO = 1e-10
# Eigenvalues that differ by less than this share count as one.
ALIKE = 1e-9
# Numbers that a batch of draws may hold.
BATCH = 4_000_000
# The grid of log lambda: ends, beside the smallest and the largest eigenvalue, and spacing.
LOW, HIGH, SPACING = 1e-5, 1e5, 0.35
REFINEMENTS = 40
# Where a refined log lambda moves less than this, the supremum is exact to rounding.
STILL = 1e-7
# A statistic below this is rounding of zero: the criterion has some 1e-13 of relative error.
NOTHING = 1e-8


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What the distribution of the statistic depends on."""

    # (S,): distinct positive eigenvalues of ``Z'P0Z``, ascending; P0 projects X out
    eigenvalues: np.ndarray
    counts: np.ndarray  # (S,) of int: how often each comes
    rest: int  # Dimensions of P0 that Z does not reach

    @property
    def m(self) -> int:
        """Residual degrees of freedom of the null, n - p."""
        return int(self.counts.sum()) + self.rest


@dataclass(frozen=True, eq=False, repr=False)
class ExactTest(PrintedTable):
    """An exact restricted likelihood-ratio test, made by `exact_rlrt`.

    Attributes
    ----------
    term : str
        The random-effects term whose variance is zero under the null.
    statistic : float
        Difference of the REML criteria, null less alternative.
    p_value : float
        ``(1 + k) / (1 + n)`` for k of n draws that are as large as the statistic or larger.
    error : float
        Monte Carlo standard error of the p value.
    n : int
        Draws.
    p_zero : float
        Share of draws that are zero.
    nuisance : tuple of str
        Terms that the null has too; with any of them the distribution is an approximation.
    draws : ndarray (n,)
        Of the statistic under the null.

    Examples
    --------
    >>> from mixef import exact_rlrt, lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> print(str(exact_rlrt(fit, seed=1)).splitlines()[0])
    Exact restricted likelihood-ratio test: the variance of (1 | Batch) is zero
    """

    term: str
    statistic: float
    p_value: float
    error: float
    n: int
    p_zero: float
    nuisance: tuple[str, ...]
    draws: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """Return one row: statistic, p value, its error, and the share of zeros.

        Examples
        --------
        >>> from mixef import exact_rlrt, lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> list(exact_rlrt(fit, n=100, seed=1).to_frame())
        ['statistic', 'p_value', 'p_error', 'p_zero', 'n']
        """
        values = {"statistic": self.statistic, "p_value": self.p_value, "p_error": self.error,
                  "p_zero": self.p_zero, "n": self.n}  # fmt: skip
        return pd.DataFrame(values, index=pd.Index([f"({self.term})"], name="term"))

    def to_table(self) -> Table:
        """Return the printed table: the statistic and its p value."""
        kind = "Exact restricted likelihood-ratio test"
        note = f"p value by {self.n} draws, with a Monte Carlo error of {self.error:.2g}"
        if self.nuisance:
            listed = " and ".join(f"({label})" for label in self.nuisance)
            kind = "Restricted likelihood-ratio test"
            note += f"\nThe distribution is approximate: the null has {listed}"
        cells = (
            format_number(round(self.statistic, 5), 5),
            format_pvalue([self.p_value], 4)[0],
            format_number(self.p_zero, 3),
        )
        return Table(
            columns=("RLRT", "p-value", "P(RLRT = 0)"),
            rows=[cells],
            index=(f"({self.term})",),
            title=f"{kind}: the variance of ({self.term}) is zero",
            note=note,
        )


def exact_rlrt(
    fit: Any,
    term: str | None = None,
    fit_alone: Any = None,
    null: Any = None,
    n: int = 10_000,
    seed: int | np.random.Generator | None = None,
) -> ExactTest:
    """Test whether one variance is zero; see the function of the package."""
    n, rng = checks.count(n, each=2), checks.generator(seed)
    fit = _by_reml(_linear(fit, "fit"))
    t = _tested(fit, term, fit_alone)
    if len(fit.terms[t].columns) != 1:
        raise DataError(
            f"the exact test is of one variance, but ({fit.terms[t].label}) has the "
            f"{len(fit.terms[t].columns)} columns {', '.join(fit.terms[t].columns)}; use a "
            "parametric bootstrap"
        )
    null_end = null_criterion(fit, t, null)
    statistic = max(float(null_end.objective - fit.estimates.objective), 0.0)
    statistic = statistic if statistic > NOTHING else 0.0
    spectrum = spectrum_of(fit.X, fit.terms[t], fit.frame.weights)
    draws = simulate_rlrt(spectrum, n, rng)
    label, se = fit.terms[t].label, np.hypot(null_end.objective_se, fit.estimates.objective_se)
    refuse_uncertain(
        f"the model without ({label})",
        "the whole one",
        statistic,
        float(se),
        lambda value: float(np.mean(draws >= value)),
    )
    p_value = (1.0 + np.count_nonzero(draws >= statistic)) / (n + 1.0)
    return ExactTest(
        term=fit.terms[t].label,
        statistic=statistic,
        p_value=float(p_value),
        error=float(np.sqrt(p_value * (1.0 - p_value) / n)),
        n=n,
        p_zero=float(np.mean(draws == 0.0)),
        nuisance=tuple(other.label for i, other in enumerate(fit.terms) if i != t),
        draws=draws,
    )


def _linear(fit: Any, name: str) -> Fit:
    if not isinstance(fit, Fit):
        raise checks.refusal(name, fit, "a model that lmer fitted")
    if not fit.is_linear:
        raise DataError(
            f"{name} is a generalized linear mixed model, for which there is no exact test; "
            "use a parametric bootstrap"
        )
    return fit


def _by_reml(fit: Fit) -> Fit:
    return fit if fit.REML else fit.again(REML=True)


def _tested(fit: Fit, term: str | None, fit_alone: Any) -> int:
    """Return the position of the term to test."""
    if fit_alone is not None:
        alone = _linear(fit_alone, "fit_alone")
        if len(alone.terms) != 1:
            listed = ", ".join(f"({t.label})" for t in alone.terms)
            raise FormulaError(f"fit_alone has the terms {listed}; expected the tested one alone")
        _same_rows(fit, alone, "fit_alone")
        own = alone.terms[0].label
        if term is not None and find_term(term, fit) != find_term(own, fit):
            raise FormulaError(f"term is {term!r}, but fit_alone has ({own}); give one of the two")
        term = own
    if term is not None:
        return find_term(term, fit)
    if len(fit.terms) > 1:
        listed = ", ".join(f"'({t.label})'" for t in fit.terms)
        raise FormulaError(
            f"the model has {len(fit.terms)} terms; say which to test: term={listed}"
        )
    return 0


def find_term(term: Any, fit: Fit) -> int:
    """Return the position of a random-effects term, by its text or its grouping factor."""
    labels = [t.label for t in fit.terms]

    def squeezed(text: str) -> str:
        text = unquoted("".join(text.split()))
        return text[1:-1] if text.startswith("(") and text.endswith(")") else text

    listed = ", ".join(f"({label})" for label in labels)
    wanted = squeezed(checks.text(term, "term", f"one of the model's terms: {listed}"))
    found = [i for i, label in enumerate(labels) if squeezed(label) == wanted]
    found = found or [i for i, t in enumerate(fit.terms) if squeezed(t.group) == wanted]
    if len(found) != 1:
        raise FormulaError(f"term is {term!r}; expected one of the model's terms: {listed}")
    return found[0]


def _same_rows(fit: Fit, other: Fit, name: str) -> None:
    """Refuse a model on other rows, with another response, weights or fixed effects."""
    pairs = {
        "rows": (fit.frame.rows, other.frame.rows),
        "response": (fit.y, other.y),
        "weights": (_or_ones(fit.frame.weights, fit), _or_ones(other.frame.weights, other)),
        "offset": (_or_zeros(fit), _or_zeros(other)),
        "fixed effects": (fit.X, other.X),
    }
    for what, (own, others) in pairs.items():
        if not np.array_equal(own, others):
            raise DataError(
                f"{name} has other {what} than the model; expected the same rows, response, "
                "weights, offset and fixed effects, and other random effects only"
            )


def _or_ones(weights: np.ndarray | None, fit: Fit) -> np.ndarray:
    return np.ones(fit.frame.n) if weights is None else weights


def _or_zeros(fit: Fit) -> np.ndarray:
    return np.zeros(fit.frame.n) if fit.frame.offset is None else fit.frame.offset


def null_criterion(fit: Fit, t: int, null: Any = None) -> End:
    """Return the REML fit without term t; an ordinary regression if it is the only one."""
    others = tuple(term for i, term in enumerate(fit.terms) if i != t)
    if null is not None:
        null = _linear(null, "null")
        _same_rows(fit, null, "null")
        if sorted(x.label for x in null.terms) != sorted(x.label for x in others):
            listed = ", ".join(f"({x.label})" for x in others) or "no random effects"
            raise FormulaError(f"null has not the terms of the model without the tested: {listed}")
        return End.of(_by_reml(null))
    if others:
        quiet = fit.control.quiet()
        return End.of(fit.again(terms=others, REML=True, control=quiet))
    return End(len(fit.kept), regression_criterion(fit), True)


def regression_criterion(fit: Fit) -> float:
    """Return the REML criterion of the model without random effects."""
    return float(regression_criteria(fit, fit.y[:, None])[0])


def regression_criteria(fit: Fit, Y: np.ndarray) -> np.ndarray:
    """Return the REML criteria (k,) of responses (n, k) without random effects.

    ``log|X'WX| - sum log w + m (1 + log(2 pi rss / m))`` with ``m = n - p``.
    """
    weights, offset = fit.frame.weights, fit.frame.offset
    Y = root_weighted(Y if offset is None else Y - offset[:, None], weights)
    Q, basis = orthonormal_columns(root_weighted(fit.X, weights))
    size, (n, p) = np.sqrt((Y**2).mean(axis=0)), Q.shape
    rest = Y / size
    for _ in range(2):
        rest = rest - Q @ (Q.T @ rest) / n
    m = n - p
    rss = (rest**2).sum(axis=0)
    log_w = 0.0 if weights is None else float(np.log(weights).sum())
    ldX = 2.0 * float(np.log(np.abs(basis.R.diagonal())).sum()) + p * np.log(n)
    return ldX - log_w + m * (1.0 + np.log(2.0 * np.pi * rss / m) + 2.0 * np.log(size))


def spectrum_of(X: np.ndarray, term: RandomTerm, weights: np.ndarray | None) -> Spectrum:
    """Return the eigenvalues of ``Z'P0Z`` for a term with one column.

    ``Z'WZ`` is diagonal, so the matrix (q, q) is made without any of n rows and columns.
    """
    z, codes, q = root_weighted(term.z[:, 0], weights), term.grouping.codes, term.n_levels
    Q = orthonormal_columns(root_weighted(X, weights))[0] / np.sqrt(len(z))
    z = z / (np.sqrt(z @ z / len(z)) or 1.0)
    ZtQ = np.zeros((q, Q.shape[1]))
    for j, column in enumerate(Q.T):
        ZtQ[:, j] = np.bincount(codes, z * column, q)
    ZtPZ = np.diag(np.bincount(codes, z * z, q)) - ZtQ @ ZtQ.T
    values = scipy.linalg.eigvalsh(ZtPZ)
    largest = float(np.bincount(codes, z * z, q).max())
    values = values[values > ZERO * largest]
    rest = len(z) - X.shape[1] - len(values)
    if not len(values) or rest < 1:
        why = (
            "it is a combination of the fixed effects"
            if not len(values)
            else "it leaves no residual degrees of freedom"
        )
        raise DataError(f"the variance of ({term.label}) cannot be tested: {why}")
    first = np.append(True, np.diff(values) > ALIKE * values[1:])
    group = np.cumsum(first) - 1
    counts = np.bincount(group)
    return Spectrum(np.bincount(group, values) / counts, counts, rest)


def simulate_rlrt(spectrum: Spectrum, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the statistic under the null (n,).

    With chi-squares ``c_s`` of the eigenvalues ``mu_s`` and ``c_0`` of the rest, A being their sum
    (Crainiceanu and Ruppert 2004, theorem 1),

        sup over lambda >= 0 of  m log(A / D) - sum k_s log(1 + lambda mu_s)
        D = sum c_s / (1 + lambda mu_s) + c_0
    """
    size = max(1, BATCH // (len(spectrum.eigenvalues) + 200))
    parts = []
    for begin in range(0, n, size):
        count = min(size, n - begin)
        chisq = rng.chisquare(spectrum.counts, size=(count, len(spectrum.counts)))
        parts.append(suprema(spectrum, chisq, rng.chisquare(spectrum.rest, size=count)))
    return np.concatenate(parts)


def suprema(spectrum: Spectrum, chisq: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return the statistic (n,) of draws (n, S) and (n,).

    The best point of a grid of ``log lambda`` is refined by Newton steps inside its neighbours.
    """
    mu, counts, m = spectrum.eigenvalues, spectrum.counts, spectrum.m
    total = chisq.sum(axis=1) + rest
    grid = np.arange(np.log(LOW / mu[-1]), np.log(HIGH / mu[0]) + SPACING, SPACING)
    shrink = 1.0 / (1.0 + np.outer(mu, np.exp(grid)))
    penalty = counts @ np.log(shrink)
    on_grid = m * (np.log(total)[:, None] - np.log(chisq @ shrink + rest[:, None])) + penalty
    best = np.argmax(on_grid, axis=1)
    top = np.take_along_axis(on_grid, best[:, None], axis=1)[:, 0]
    out = np.zeros(len(rest))
    slope = m * (chisq @ mu) / total - counts @ mu
    # Close to zero the statistic is a parabola: a rise that the grid is too coarse to see.
    bend = m * ((chisq @ mu / total) ** 2 - 2.0 * (chisq @ mu**2) / total) + counts @ mu**2
    rising = (slope > 0.0) & (bend < 0.0)
    out[rising] = slope[rising] ** 2 / (-2.0 * bend[rising])
    inside = top > 0.0
    out[inside] = _refined(spectrum, chisq[inside], rest[inside], grid, best[inside], top[inside])
    return out


def _refined(spectrum, chisq, rest, grid, best, top) -> np.ndarray:
    """Climb from the best points of the grid to the maxima between their neighbours."""
    mu, counts, m = spectrum.eigenvalues, spectrum.counts, spectrum.m
    log_total = np.log(chisq.sum(axis=1) + rest)
    at = grid[best].copy()
    low, high = at - SPACING, at + SPACING
    # Beyond the last point the maximum has no neighbour.
    high[best == len(grid) - 1] += 700.0
    values, todo = top.copy(), np.arange(len(at))
    for _ in range(REFINEMENTS):
        a = np.exp(at[todo])[:, None] * mu
        shrink = 1.0 / (1.0 + a)
        c = chisq[todo]
        D = np.einsum("ns,ns->n", c, shrink) + rest[todo]
        first = np.einsum("ns,ns,ns,ns->n", c, a, shrink, shrink, optimize=True)
        second = np.einsum("ns,ns,ns->n", c * a, 1.0 - a, shrink**3, optimize=True)
        slope = m * first / D - (a * shrink) @ counts
        bend = m * (second / D + (first / D) ** 2) - (a * shrink**2) @ counts
        f = m * (log_total[todo] - np.log(D)) + np.log(shrink) @ counts
        values[todo] = np.maximum(values[todo], f)
        up = slope > 0.0
        low[todo] = np.where(up, at[todo], low[todo])
        high[todo] = np.where(up, high[todo], at[todo])
        with np.errstate(divide="ignore", invalid="ignore"):
            new = at[todo] - slope / bend
        middle = 0.5 * (low[todo] + high[todo])
        good = (bend < 0.0) & (new > low[todo]) & (new < high[todo])
        new = np.where(good, new, middle)
        moved = np.abs(new - at[todo]) > STILL
        at[todo] = new
        todo = todo[moved]
        if not len(todo):
            break
    return values
