"""Hypotheses about the terms of a model: types I, II and III, whatever the contrasts.

The terms are spelled out in columns that do not depend on contrasts: one indicator for each level
of a factor, and the products of an interaction, numeric variables as they are. With X = Q R for
the columns that are estimated (Q'Q = I) these columns are Q T, so

    l' b  is estimable      <=>      l = T' c,      and then it is  c' R beta.

Type I and II project a term's columns off those of other terms; type III is the rule of SAS: the
estimable functions of a term and of those that contain it, orthogonal to the ones of the latter.

Which rows stand for a hypothesis changes no F, but Satterthwaite's denominator depends on it where
it has several (Fai and Cornelius 1996). The rows are lmerTest's, as its ``show_tests`` prints them:
by type III one for each treatment contrast of the term, with a one there and zeros at the others;
by type II the same for the term's own columns; by type I, and by type II for a term that others
contain, each column after the ones before it, with a one at its own (Doolittle's rows).

Sources: SAS/STAT User's Guide, The Four Types of Estimable Functions; S. R. Searle (1971), Linear
Models; J. Fox (2016), Applied Regression Analysis and Generalized Linear Models, section 8.2 (type
II and marginality); A. Kuznetsova, P. B. Brockhoff and R. H. B. Christensen (2017), Journal of
Statistical Software 82(13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from mixef import checks
from mixef.errors import FitError
from mixef.estimation.fit import Fit
from mixef.inference.over_rows import row_triangle
from mixef.linalg.standardize import independent_columns
from mixef.terms.algebra import TermSet
from mixef.terms.contrasts import indicator_matrix
from mixef.terms.fixed import Coding, DesignSpec

INTERCEPT = "(Intercept)"
TYPES = ("I", "II", "III")
# What is left of a unit column, or of a singular value beside the largest, that counts as zero.
ZERO = 1e-7
# Columns that lie in the span of X up to rounding; a design that does not is far outside.
OUTSIDE = 1e-6


def check_type(type: Any) -> str:
    """Return "I", "II" or "III" of a type of tests, which may be a number or in lower case."""
    if isinstance(type, int | np.integer) and not isinstance(type, bool):
        type = str(type)
    return checks.option(type, "type", TYPES, {"1": "I", "2": "II", "3": "III"})


@dataclass(frozen=True, eq=False)
class TermColumns:
    """The terms of a fit in columns that do not depend on contrasts."""

    labels: tuple[str, ...]  # The terms, the intercept not among them
    numeric: tuple[frozenset[str], ...]  # Numeric variables and factors of each term
    factors: tuple[frozenset[str], ...]
    # (Q,) of int: term of each column: 0 for the intercept, then the position in `labels` plus 1
    assign: np.ndarray
    # (Q,) of bool: which columns treatment contrasts would have: no first level of a factor in
    # contrasts
    treatment: np.ndarray
    T: np.ndarray  # (p, Q): the columns in an orthonormal basis of the estimated ones
    R: np.ndarray  # (p, p): from coefficients to that basis: ``X beta = Q R beta``

    @cached_property
    def variables(self) -> list[frozenset[str]]:
        """Variables of each term."""
        return [a | b for a, b in zip(self.numeric, self.factors, strict=True)]

    def of(self, terms: Sequence[int]) -> np.ndarray:
        """Return which columns (Q,) belong to terms by position; the intercept's to none."""
        return np.isin(self.assign, np.asarray(terms, dtype=int) + 1)

    def above(self, term: int) -> list[int]:
        """Return the terms whose variables include all of one term's, and more."""
        own = self.variables[term]
        return [t for t, other in enumerate(self.variables) if own < other]

    def containing(self, term: int) -> list[int]:
        """Return the terms that contain one by SAS's rule: its numeric variables, more factors."""
        numeric, factors = self.numeric[term], self.factors[term]
        pairs = enumerate(zip(self.numeric, self.factors, strict=True))
        return [t for t, (x, f) in pairs if x == numeric and factors < f]


def term_columns(fit: Fit) -> TermColumns:
    """Spell out the terms of a fit in columns that do not depend on contrasts.

    Where these columns do not span what the model's own do (a factor with fewer contrasts than
    levels less one), every term is taken by its own columns.
    """
    made = _spelled_out(fit, [tuple(map(_by_level, term)) for term in fit.design.spec.terms])
    if made is None:
        made = _spelled_out(fit, fit.design.spec.terms, as_they_are=True)
        assert made is not None
    return made


def _by_level(coding: Coding) -> Coding:
    """Return the coding of a factor by one indicator a level."""
    if coding.matrix is None:
        return coding
    levels = len(coding.levels)
    whole = np.column_stack([np.ones(levels), coding.matrix])
    if np.linalg.matrix_rank(whole) < levels:
        return coding
    matrix, suffixes = indicator_matrix(coding.levels)
    return replace(coding, matrix=matrix, suffixes=suffixes)


def _spelled_out(fit, codings, as_they_are=False) -> TermColumns | None:
    """Return the columns C of codings; None where their span is not that of X.

    The triangular factor of ``[X C]`` has R, T, and what is left of C outside of the span.
    """
    spec = replace(fit.design.spec, terms=tuple(codings))
    assign = fit.design.assign if as_they_are else spec.assign

    def both(rows: Fit) -> np.ndarray:
        own = rows.design.matrix if as_they_are else spec.build(rows.frame.variables, rows.frame.n)
        return np.hstack([rows.X, own])

    p = len(fit.kept)
    triangle = row_triangle(fit, both)
    R, T = triangle[:p, :p], triangle[:p, p:]
    sizes = np.sqrt(np.einsum("ij,ij->j", triangle[:, p:], triangle[:, p:]))
    if not as_they_are:
        outside = np.sqrt(np.einsum("ij,ij->j", triangle[p:, p:], triangle[p:, p:]))
        unit = T / np.where(sizes > 0, sizes, 1.0)
        spans = T.shape[1] and np.linalg.matrix_rank(unit, tol=ZERO) == len(R)
        if (outside > OUTSIDE * sizes).any() or (len(R) and not spans):
            return None
    # Terms that contain each other share their numeric variables, so that one scale for all
    # columns of a set of these keeps the units of the predictors out of the rank decisions.
    numeric = [
        frozenset(c.node.text for c in term if as_they_are or not _has_levels(c))
        for term in codings
    ]
    factors = [
        frozenset(c.node.text for c in term) - x for term, x in zip(codings, numeric, strict=True)
    ]
    scale = {
        x: max(float(sizes[np.isin(assign, _numbered(numeric, x))].max(initial=0.0)), 1e-300)
        for x in set(numeric)
        if x
    }
    by_term = np.array([1.0, *(scale.get(x, 1.0) for x in numeric)])
    return TermColumns(
        spec.term_labels,
        tuple(numeric),
        tuple(factors),
        assign,
        np.ones(len(assign), bool) if as_they_are else _treatment(fit.design.spec, spec),
        T / by_term[assign],
        R,
    )


def _treatment(own: DesignSpec, by_level: DesignSpec) -> np.ndarray:
    """Return which columns of terms by level (Q,) treatment contrasts would have, too."""
    parts = [np.ones(int(own.intercept), bool)]
    for coded, levels in zip(own.terms, by_level.terms, strict=True):
        part = np.ones(1, bool)
        for a, b in zip(coded, levels, strict=True):
            keep = np.arange(len(b.suffixes)) >= len(b.suffixes) - len(a.suffixes)
            part = np.outer(keep, part).ravel()
        parts.append(part)
    return np.concatenate(parts)


def _has_levels(coding: Coding) -> bool:
    return coding.matrix is not None and len(coding.suffixes) == len(coding.levels)


def _numbered(sets: list[frozenset[str]], wanted: frozenset[str]) -> list[int]:
    return [t + 1 for t, own in enumerate(sets) if own == wanted]


def term_hypotheses(
    fit: Fit, type: Any = "III", by_precision: bool = False
) -> dict[str, np.ndarray]:
    """Return the hypothesis matrix L (m, p) of every term, of full rank, by type I, II or III.

    Without ``by_precision``, types I and II adjust a term for others by ``X'X``, as SAS does; with
    it, by the inverse of the estimated covariance of beta, as in a sequence of fits with the
    covariance parameters held. L has no rows where the term has nothing to estimate beside the
    others. The intercept is a term only where there is no other.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("angle ~ recipe + temp + (1 | recipe:replicate)", load_dataset("cake"))._fit
    >>> {term: L.shape for term, L in term_hypotheses(fit, "II").items()}
    {'recipe': (2, 4), 'temp': (1, 4)}
    """
    name = check_type(type)
    columns = term_columns(fit)
    if not columns.labels:
        return {INTERCEPT: np.eye(1)} if len(fit.kept) else {}
    if len(columns.labels) == 1:
        name = "I"  # all types are one, and lmerTest takes these rows
    terms = range(len(columns.labels))
    if name == "III":
        return {columns.labels[t]: _type_three(columns, t) for t in terms}
    root = _precision_root(fit) if by_precision else columns.R
    G = columns.T if root is columns.R else root @ solve_triangular(columns.R, columns.T)
    kept = fit.design.assign[fit.kept]
    out = {}
    for t in terms:
        above = set(columns.above(t)) if name == "II" else set(terms[t:])
        others = [s for s in terms if s != t and s not in above]
        rest = columns.of(others) | (columns.assign == 0)
        L = _added(G[:, rest], G[:, columns.of([t])]) @ root
        one_by_one = name == "I" or bool(above)
        out[columns.labels[t]] = _in_rows_of(L, L[:, kept == t + 1], one_by_one)
    return out


def term_after_others(fit: Fit, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the hypothesis matrix L (m, p) of single terms after all others of the model.

    For terms that no other contains these are what dropping the term tests.
    """
    columns, kept = term_columns(fit), fit.design.assign[fit.kept]
    out = {}
    for label in labels:
        t = columns.labels.index(label)
        own = columns.of([t])
        L = _added(columns.T[:, ~own], columns.T[:, own]) @ columns.R
        out[label] = _in_rows_of(L, L[:, kept == t + 1], len(columns.labels) == 1)
    return out


def _in_rows_of(L: np.ndarray, own: np.ndarray, one_by_one: bool = False) -> np.ndarray:
    """Return the rows of a hypothesis L (m, p) that lmerTest would write it in.

    The first m independent columns of ``own`` (m, k), what L says of the term's own columns, name
    the rows: one for each after the ones before it (`one_by_one`; the rows of L are then
    orthonormal by the inverse of ``X'X``), or one for each with the others zero.
    """
    m = len(L)
    own = own[:, independent_columns(own)[:m]] if m else own
    if own.shape[1] < m or not m:
        return L  # the term has too few columns of its own to name the rows
    if not one_by_one:
        return np.linalg.solve(own, L)
    Q, U = np.linalg.qr(own)
    return (Q.T @ L) / U.diagonal()[:, None]


def droppable(fit: Fit) -> list[str]:
    """Return the terms that no other term's variables include: those that may be dropped."""
    return uncontained(fit.frame.fixed_terms)


def uncontained(terms: TermSet) -> list[str]:
    """Return the labels of the terms whose variables no other term has with more."""
    sets = [{node.text for node in term} for term in terms.terms]
    return [
        label
        for label, own in zip(terms.labels, sets, strict=True)
        if not any(own < other for other in sets)
    ]


def _precision_root(fit: Fit) -> np.ndarray:
    """Return B (p, p) with ``B'B`` the inverse of the covariance of beta."""
    V = fit.model_vcov
    sd = np.sqrt(V.diagonal())
    try:
        with np.errstate(invalid="ignore", divide="ignore"):
            C = np.linalg.cholesky(V / np.outer(sd, sd))
    except np.linalg.LinAlgError:
        C = np.full(V.shape, np.nan)
    if not np.isfinite(C).all():
        raise FitError(
            "the covariance matrix of the fixed effects is not positive definite, so terms cannot "
            "be tested one after the other; simplify the model, or use type='III'"
        )
    return solve_triangular(C, np.diag(1.0 / sd), lower=True)


def _added(rest: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis, as rows (m, p), of what columns add to the span of others."""
    Q = _span(rest)
    sizes = np.sqrt(np.einsum("ij,ij->j", own, own))
    own = own[:, sizes > 0] / sizes[sizes > 0]
    for _ in range(2):  # a second pass makes up for the first one's cancellation
        own = own - Q @ (Q.T @ own)
    U, S, _ = np.linalg.svd(own, full_matrices=False)
    return U[:, S > ZERO].T


def _span(columns: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (p, r) of the span of columns."""
    sizes = np.sqrt(np.einsum("ij,ij->j", columns, columns))
    U, S, _ = np.linalg.svd(columns[:, sizes > 0] / sizes[sizes > 0], full_matrices=False)
    return U[:, S > ZERO]


def _type_three(columns: TermColumns, term: int) -> np.ndarray:
    """Return L (m, p) of a term: orthogonal to the estimable functions of those containing it."""
    own, within = columns.of([term]), columns.of(columns.containing(term))
    mine = _orthogonal(columns.T[:, ~(own | within)])
    theirs = _orthogonal(columns.T[:, ~within])
    coefficients = columns.T.T @ mine
    if theirs.shape[1]:
        products = (columns.T.T @ theirs).T @ coefficients
        mine = mine @ _orthogonal(_unit(products.T))
    named = columns.of([term]) & columns.treatment
    return _in_rows_of(mine.T @ columns.R, mine.T @ columns.T[:, named])


def _orthogonal(columns: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (p, p - r) of what is orthogonal to columns (p, k)."""
    sizes = np.sqrt(np.einsum("ij,ij->j", columns, columns))
    U, S, _ = np.linalg.svd(columns[:, sizes > 0] / sizes[sizes > 0], full_matrices=True)
    return U[:, int((S > ZERO).sum()) :]


def _unit(columns: np.ndarray) -> np.ndarray:
    """Return columns of length one; those of rounding errors only, zeros."""
    sizes = np.sqrt(np.einsum("ij,ij->j", columns, columns))
    keep = sizes > ZERO * sizes.max(initial=0.0)
    return columns[:, keep] / sizes[keep]
