"""The sparse Cholesky factor of a model at any theta, with its effects in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.estimation.spec import checked_parameters, theta_labels
from mixef.inference.residuals import working_weights
from mixef.linalg.choose import fill_reducing_order
from mixef.linalg.simplicial import Pattern, SparseCholesky
from mixef.terms.covariance import make_covariance, roots_of_theta
from mixef.terms.nodes import by_known_names
from mixef.terms.random import RandomTerm
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

SYSTEMS = ("A", "L", "Lt", "P", "Pt")


@dataclass(frozen=True, eq=False, repr=False)
class FactorAt(PrintedTable):
    """The factor L of ``A = Lambda'Z'WZ Lambda + I`` with ``A[P][:, P] = L L'``, at one theta.

    Made by the method ``factor_at`` of a model, or of `model_matrices`. What is zero for a theta
    alone (a template with a zero) is stored all the same, so that `nnz` is that of the structure.

    Attributes
    ----------
    theta : Series (m,)
        Covariance parameters as the fit has them.
    A : csc_array (q, q)
        The symmetric matrix, effects in the order that was asked for.
    L : csc_array (q, q)
        Lower triangular, rows and columns in the order of P.
    P : ndarray of int (q,)
        Effects of A in the order of their elimination.
    effects : MultiIndex (q,)
        Group, level and column of the rows of A.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
    >>> fit.factor_at([1.2, 2.1])
    Sparse Cholesky factor L of A = Lambda'Z'WZ Lambda + I
    random effects non-zeros of L log|A|
                30            189  80.22
    theta: plate.(Intercept) 1.2, sample.(Intercept) 2.1
    """

    theta: pd.Series
    A: sparse.csc_array
    P: np.ndarray
    effects: pd.MultiIndex
    logdet: float  # log|A|
    _terms: Sequence[RandomTerm]  # in lme4's order, which theta has
    _order: np.ndarray  # (T,): terms in the order of A
    _Zt: sparse.csc_array  # (q, n), rows in the order of A
    _weights: np.ndarray  # (n,): the diagonal of W
    _gram: sparse.csc_array  # Z'WZ
    _pattern: Pattern
    _places: np.ndarray  # int: places of the entries of the lower triangle, column by column
    _cholesky: SparseCholesky

    @property
    def L(self) -> sparse.csc_array:
        """The factor."""
        return sparse.csc_array(self._cholesky.lower())

    @property
    def weights(self) -> np.ndarray:
        """The diagonal of W (n,)."""
        return self._weights.copy()

    @property
    def nnz(self) -> int:
        """Number of entries of L that the structure does not make zero."""
        return int(self._pattern.start[-1])

    def update(self, theta: Any = None, weights: Any = None) -> FactorAt:
        """Return the factor at another theta or W; the analysis of the structure is shared.

        Parameters
        ----------
        theta : array (m,), optional
            Covariance parameters; those it has by default.
        weights : array (n,), optional
            The diagonal of W, none of them negative; the one it has by default.

        Raises
        ------
        DataError, ValueError
            For arrays of another length or with other values.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
        >>> at = fit.factor_at([1.2, 2.1])
        >>> at.update([0.0, 0.0]).logdet
        0.0
        >>> round(at.update(weights=at.weights / 2).logdet, 2)
        62.45
        """
        theta = self.theta if theta is None else theta
        values = checked_parameters(theta, list(self.theta.index), "entries of theta")
        if weights is not None:
            return self._reweighted(self._checked(weights)).update(values)
        structures = [make_covariance("us", False, len(t.columns)) for t in self._terms]
        lams = roots_of_theta(structures, values)
        order = self._order
        Lambda = relative_factor([self._terms[t] for t in order], [lams[t] for t in order])
        A = sparse.csc_array(Lambda.T @ self._gram @ Lambda + sparse.identity(len(self.P)))
        lower = np.zeros(len(self._places))
        stored = sparse.csc_array(sparse.tril(A))
        lower[np.searchsorted(self._places, places_of(stored))] = stored.data
        cholesky = SparseCholesky(self._pattern)
        logdet = cholesky.factor(lower)
        theta = pd.Series(values, self.theta.index, name="theta")
        return replace(self, theta=theta, A=A, logdet=logdet, _cholesky=cholesky)

    def _reweighted(self, weights: np.ndarray) -> FactorAt:
        """Return one with another Z'WZ, not factored yet."""
        gram = sparse.csc_array(self._Zt.multiply(weights) @ self._Zt.T)
        return replace(self, _weights=weights, _gram=gram)

    def _checked(self, weights: Any) -> np.ndarray:
        """Return weights of the rows (n,)."""
        n = self._Zt.shape[1]
        expected = f"finite numbers ({n},), 0 or more"
        values = checks.numbers(weights, "weights", expected)
        if values.shape != (n,) or (values < 0.0).any():
            raise checks.refusal("weights", weights, expected)
        return values

    def solve(self, rhs: Any, system: str = "A") -> np.ndarray:
        """Solve a system for x.

        Parameters
        ----------
        rhs : array (q,) or (q, k)
            The right-hand side.
        system : {"A", "L", "Lt", "P", "Pt"}
            ``A x = rhs``, ``L x = rhs``, ``L'x = rhs``, ``x = rhs[P]`` or ``x[P] = rhs``.

        Raises
        ------
        ValueError
            For a right-hand side that is not finite or has another length, or another system.

        Examples
        --------
        >>> import numpy as np
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
        >>> at = fit.factor_at([1.2, 2.1])
        >>> b = np.arange(30.0)
        >>> in_steps = at.solve(at.solve(at.solve(at.solve(b, "P"), "L"), "Lt"), "Pt")
        >>> bool(np.allclose(at.solve(b), in_steps))
        True
        """
        system = checks.option(system, "system", SYSTEMS)
        b, q = checks.numbers(rhs, "rhs"), len(self.P)
        if b.ndim not in (1, 2) or len(b) != q:
            raise checks.refusal("rhs", rhs, f"finite numbers ({q},) or ({q}, k)")
        if system == "P":
            return b[self.P]
        back = np.empty_like(b)
        back[self.P] = b
        if system == "Pt":
            return back
        solved = self._cholesky.solve_L(b if system == "A" else back) if system != "Lt" else b
        if system == "L":
            return solved
        x = self._cholesky.solve_Lt(solved)
        return x if system == "A" else x[self.P]

    def to_table(self) -> Table:
        """Return the size of the factor, and theta."""
        heads = ("random effects", "non-zeros of L", "log|A|")
        cells = (str(len(self.P)), str(self.nnz), f"{self.logdet:.4g}")
        title = "Sparse Cholesky factor L of A = Lambda'Z'WZ Lambda + I"
        theta = ", ".join(f"{name} {value:.4g}" for name, value in self.theta.items())
        return Table(heads, [cells], title=title, note=f"theta: {theta}")


def factor_at(
    fit: Fit, theta: Any = None, order: Any = None, permute: bool = True, weights: Any = None
) -> FactorAt:
    """Return the sparse Cholesky factor at theta; see the method ``factor_at`` of a model."""
    fit.needs_exact("factor_at")
    of_fit = working_weights(fit) * fit.covariance_scale / fit.estimates.sigma**2
    return factor_of(fit.terms, of_fit, fit.estimates.theta, theta, order, permute, weights)


def factor_of(
    terms: Sequence[RandomTerm],
    own_weights: np.ndarray,
    own_theta: np.ndarray,
    theta: Any = None,
    order: Any = None,
    permute: bool = True,
    weights: Any = None,
) -> FactorAt:
    """Return the sparse Cholesky factor of terms (T,) with their own theta and W, or others."""
    permute, groups = checks.flag(permute, "permute"), list(dict.fromkeys(t.group for t in terms))
    members = groups
    if order is not None:
        given = checks.names(order, "order", f"the grouping factors {', '.join(groups)}")
        members = list(by_known_names(dict.fromkeys(given), groups))
        if sorted(members) != sorted(groups):
            expected = f"each of the grouping factors {', '.join(groups)} once"
            raise checks.refusal("order", order, expected)
    places = np.array([t for name in members for t, term in enumerate(terms) if term.group == name])
    ordered = [terms[t] for t in places]
    Zt = sparse.vstack([term.Zt() for term in ordered], format="csc")
    # What is not zero for some theta: all of the blocks of levels that meet.
    full = relative_factor(ordered, [np.tril(np.ones((len(t.columns),) * 2)) for t in ordered])
    meeting = sparse.csc_array((np.ones(len(Zt.data)), Zt.indices, Zt.indptr), Zt.shape)
    structure = full.T @ (meeting @ meeting.T) @ full
    lower = sparse.csc_matrix(sparse.tril(structure + sparse.identity(structure.shape[0])))
    lower.sort_indices()
    P = fill_reducing_order(lower) if permute else np.arange(lower.shape[0])
    pattern = Pattern(lower, P)
    start = pd.Series(own_theta, theta_labels(terms), name="theta")
    made = FactorAt(
        start, full, P, effects_of(ordered), np.nan, terms, places, Zt, own_weights, full, pattern,
        places_of(lower), SparseCholesky(pattern),
    )  # fmt: skip
    return made._reweighted(own_weights).update(theta, weights)


def relative_factor(terms: Sequence[RandomTerm], lams: Sequence[np.ndarray]) -> sparse.csc_array:
    """Return Lambda (q, q); the lower triangle of each template is stored, zeros included."""
    rows, cols, values, first = [], [], [], 0
    for term, lam in zip(terms, lams, strict=True):
        row, col = np.tril_indices(len(lam))
        at = first + np.arange(term.n_levels)[:, None] * len(lam)
        rows.append((at + row).ravel())
        cols.append((at + col).ravel())
        values.append(np.tile(lam[row, col], term.n_levels))
        first += term.n_effects
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(cols)))
    return sparse.coo_array(entries, shape=(first, first)).tocsc()


def places_of(A: sparse.csc_array) -> np.ndarray:
    """Return a number (nnz,) for each stored entry of a square matrix, ascending by columns."""
    q = A.shape[1]
    columns: np.ndarray = np.repeat(np.arange(q, dtype=np.int64), np.diff(A.indptr))
    return columns * q + A.indices


def effects_of(terms: Sequence[RandomTerm]) -> pd.MultiIndex:
    """Name the random effects (q,) by group, level and column."""
    parts = [
        pd.MultiIndex.from_product([[t.group], t.grouping.index, list(t.columns)]) for t in terms
    ]
    names = ["group", "level", "column"]
    return pd.MultiIndex.from_tuples([key for part in parts for key in part], names=names)
