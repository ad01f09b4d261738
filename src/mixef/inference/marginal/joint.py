"""Joint tests: of all estimates of a group, and of the factors of a grid and their interactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixef.inference.hypotheses.ddf import f_test
from mixef.inference.marginal.estimability import ROUNDING, estimable_combinations
from mixef.inference.marginal.printed_means import plain_table
from mixef.terms.nodes import variable_names
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table

if TYPE_CHECKING:
    from mixef.inference.marginal.linear_functions import LinearFunctions

# Singular values, beside the largest, of rows that depend on the others.
DEPENDENT = 1e-8
_MEANINGS = {
    "d": "df1 reduced due to linear dependence",
    "e": "df1 reduced due to non-estimability",
}


@dataclass(frozen=True, eq=False, repr=False)
class JointTests(PrintedFrame):
    """F tests of several estimates at once; chi-square tests where ``df2`` is infinite.

    Attributes
    ----------
    frame : DataFrame
        A row a test: what is tested, df1, df2, F.ratio and p.value; Chisq where df2 is infinite.
    """

    frame: pd.DataFrame
    flags: tuple[str, ...]  # of each test, why its df1 is smaller than the number of rows
    lines: tuple[str, ...]  # below the table

    def to_table(self) -> Table:
        """Return the table that is printed."""
        frame, lines = self.frame, list(self.lines)
        if any(self.flags):
            frame = frame.assign(note=list(self.flags))
            lines += [f"{f}: {text}" for f, text in _MEANINGS.items() if f in self.flags]
        return plain_table(frame, lines)


def joint_test(means: LinearFunctions, null: float = 0.0) -> JointTests:
    """Return a test a group, that all of its estimates are the null value."""
    found = [_test(means, means.L[rows], null - means.offset[rows]) for rows in means.groups]
    labels = means.labels.iloc[[rows[0] for rows in means.groups]][list(means.by)]
    return _tests(means, labels.reset_index(drop=True), found, ())


def term_tests(means: LinearFunctions) -> JointTests:
    """Return a test for each factor of the estimates and each interaction, by groups."""
    found, labels = [], []
    subsets = [names for names in _subsets(means.names) if _may_matter(means, names)]
    lines = tuple(note for note in means.notes if not note.startswith("NOTE: Results may"))
    for rows in means.groups:
        own = means.labels.iloc[rows]
        for names in subsets:
            C = _contrasts(own, means.names, names)
            if C is None:
                continue
            L = _rounded(C, means.L[rows])
            test = _test(means, L, -C @ means.offset[rows])
            if test[0][0] or test[1]:
                found.append(test)
                term = {"model term": ":".join(names)}
                labels.append({name: own[name].iloc[0] for name in means.by} | term)
    return _tests(means, pd.DataFrame(labels), found, lines)


def _tests(
    means: LinearFunctions, labels: pd.DataFrame, found: list, lines: tuple[str, ...]
) -> JointTests:
    """Return tests with their labels."""
    numbers = pd.DataFrame([n for n, _ in found], columns=["df1", "df2", "F.ratio", "p.value"])
    frame = pd.concat([labels, numbers.astype({"df1": int})], axis=1)
    if len(frame) and np.isinf(frame["df2"]).all():
        frame.insert(frame.shape[1] - 1, "Chisq", frame["df1"] * frame["F.ratio"])
    note = [means.ddf_note] if means.ddf_note else []
    return JointTests(frame, tuple(flag for _, flag in found), (*lines, *note))


def _test(means: LinearFunctions, L: np.ndarray, rhs: np.ndarray) -> tuple[list[float], str]:
    """Return df1, df2, F and p of ``L beta = rhs``, and why df1 is smaller than L is long."""
    K = estimable_combinations(means.fit, L)
    if not len(K):
        return [0, np.nan, np.nan, np.nan], "e"
    rows = K @ np.where(np.isfinite(L), L, 0.0)
    test = f_test(means.fit, rows[:, means.fit.kept], K @ rhs, means.ddf)
    flag = "e" if len(K) < len(L) else "d" if test.num_df < len(K) else ""
    if not test.num_df:
        flag = ""
    return [test.num_df, test.den_df, test.statistic, test.p_value], flag


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield single names, pairs, and so on."""
    for size in range(1, len(names) + 1):
        yield from combinations(names, size)


def _may_matter(means: LinearFunctions, names: Sequence[str]) -> bool:
    """Whether some term of the model has all of these variables, where all are the model's.

    What others are nested in goes without saying: ``b`` in ``a`` stands for ``a:b``.
    """
    terms = [
        {name for node in term for name in variable_names(node)}
        for term in means.fit.frame.fixed_terms.terms
    ]
    known: set[str] = set().union(*terms)
    if not set(names) <= known:
        return True
    codes = {name: pd.factorize(means.labels[name])[0] for name in names}
    inner = {a for a in names if not any(_is_nested(codes[b], codes[a]) for b in names if b != a)}
    return any(inner <= term for term in terms)


def _rounded(C: np.ndarray, L: np.ndarray) -> np.ndarray:
    """Return ``C L``, with rounding taken for zero; NaN where a row is used that is missing."""
    missing = ~np.isfinite(L).all(axis=1)
    known = np.where(missing[:, None], 0.0, L)
    out = C @ known
    out[np.abs(out) <= ROUNDING * (np.abs(C) @ np.abs(known))] = 0.0
    out[(C[:, missing] != 0.0).any(axis=1)] = np.nan
    return out


def _contrasts(
    labels: pd.DataFrame, names: Sequence[str], wanted: Sequence[str]
) -> np.ndarray | None:
    """Return the contrasts (c, g) of cells that stand for an interaction, or a main effect.

    Where all combinations of levels are there, they are products of differences of successive
    levels of the wanted factors and of means over the others. Under nesting they are all that is
    orthogonal to the cells of fewer factors; None where a factor is not with those it is nested in.
    """
    codes = {name: pd.factorize(labels[name])[0] for name in names}
    sizes = {name: int(code.max()) + 1 for name, code in codes.items()}
    if len(labels) == int(np.prod(list(sizes.values()))):
        C = np.ones((1, 1))
        for name in names:
            k = sizes[name]
            part = np.diff(np.eye(k), axis=0) if name in wanted else np.full((1, k), 1.0 / k)
            C = np.kron(part, C)
        order = _numbered([codes[name] for name in names])
        return C[:, order]
    homes = {a: {b for b in names if b != a and _is_nested(codes[a], codes[b])} for a in names}
    if any(homes[name] - set(wanted) for name in wanted):
        return None
    cell = labels.groupby(list(wanted), sort=False, observed=True).ngroup().to_numpy()
    M = np.eye(cell.max() + 1)[cell].T
    first = M.argmax(axis=1)
    margins = [np.ones((len(M), 1))]
    for name in wanted:
        others = [n for n in wanted if n != name]
        if others and not any(name in homes[n] for n in others):
            part = _numbered([codes[n][first] for n in others])
            part = np.unique(part, return_inverse=True)[1]
            margins.append(np.eye(part.max() + 1)[part])
    U, S, _ = np.linalg.svd(np.hstack(margins))
    null = U[:, int((DEPENDENT * S.max() < S).sum()) :].T
    return null @ (M / M.sum(axis=1, keepdims=True))


def _numbered(codes: Sequence[np.ndarray]) -> np.ndarray:
    """Return one number (g,) for each combination of codes, the first of them fastest."""
    out, size = np.zeros(len(codes[0]), dtype=int), 1
    for code in codes:
        out, size = out + size * code, size * (int(code.max()) + 1)
    return out


def _is_nested(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Whether each level of one factor occurs with one of another, which has fewer levels."""
    pairs = len(np.unique(np.column_stack([inner, outer]), axis=0))
    return pairs == inner.max() + 1 and outer.max() < inner.max()
