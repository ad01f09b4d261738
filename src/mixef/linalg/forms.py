"""Quadratic forms ``v'M^-1 v`` of sparse vectors that touch one level of each grouping factor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixef.errors import ExactFactorNeededError
from mixef.linalg.factor import CHUNK, FEW, MOST_SOLVES, CholeskyFactor, Factor, needs_cholesky

# Without an exact factor, rows beyond this are not looked at for how many of them differ.
LARGEST = 1_000_000


def quadratic_forms(
    factor: Factor, codes: Sequence[np.ndarray], v: Sequence[np.ndarray]
) -> np.ndarray:
    """Return ``v_r'M^-1 v_r`` (m,), where the factor stands.

    Blocks of ``M^-1`` on the pattern of the data come from the selected inverse; those of pairs of
    levels that the data do not have together, from solves for the levels of one factor. Without an
    exact factor there is a solve for each vector.

    Parameters
    ----------
    codes : sequence of ndarray of int (m,)
        Level of each row, one array a grouping factor; -1 for none, where v is not read.
    v : sequence of ndarray (m, s_i)
        The row's vector at that level.
    """
    if not factor.is_exact:
        return _by_solves(factor, codes, v)
    factor = factor.cholesky("quadratic forms")
    layout, total = factor.layout, np.zeros(len(v[0]))
    used = [np.flatnonzero((c >= 0) & part.any(axis=1)) for c, part in zip(codes, v, strict=True)]
    several = sum(len(rows) > 0 for rows in used) > 1
    if several:
        inverse = factor.inverse_pairs()
    for i, rows in enumerate(used):
        if len(rows):
            diagonal = inverse.diagonal[i] if several else factor.inverse_block(i)
            part, blocks = v[i][rows], diagonal[codes[i][rows]]
            total[rows] += np.einsum("ma,mab,mb->m", part, blocks, part)
    for i in range(len(layout)):
        for j in range(i + 1, len(layout)):
            rows = np.intersect1d(used[i], used[j], assume_unique=True)
            if len(rows):
                held = inverse.pairs.get((i, j))
                blocks = _blocks(factor, i, j, codes[i][rows], codes[j][rows], held)
                total[rows] += 2.0 * np.einsum("ma,mab,mb->m", v[i][rows], blocks, v[j][rows])
    return total


def _by_solves(factor: Factor, codes: Sequence[np.ndarray], v: Sequence[np.ndarray]) -> np.ndarray:
    """Return ``v_r'M^-1 v_r`` (m,), by a solve for each vector that differs."""
    layout = factor.layout
    v = [np.where(c[:, None] >= 0, part, 0.0) for c, part in zip(codes, v, strict=True)]
    rows = np.column_stack([*codes, *v])
    if len(rows) > LARGEST:
        raise _too_many(len(rows))
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) > MOST_SOLVES:
        raise _too_many(len(distinct))
    forms = np.empty(len(distinct))
    for first in range(0, len(distinct), FEW):
        some = distinct[first : first + FEW]
        unit, place = np.zeros((layout.q, len(some))), len(codes)
        for i, s in enumerate(layout.widths):
            known = np.flatnonzero(some[:, i] >= 0)
            level = layout.offsets[i] + some[known, i].astype(int) * s
            for a in range(s):
                unit[level + a, known] = some[known, place + a]
            place += s
        forms[first : first + FEW] = np.einsum("qk,qk->k", unit, factor.solve(unit))
    out: np.ndarray = forms[which.ravel()]
    return out


def _too_many(n: int) -> ExactFactorNeededError:
    return needs_cholesky(
        f"the standard errors of predictions for {n:,} combinations of levels",
        f"up to {MOST_SOLVES:,} of them at a time are solved for one by one",
    )


def _blocks(
    factor: CholeskyFactor,
    i: int,
    j: int,
    level_i: np.ndarray,
    level_j: np.ndarray,
    held: np.ndarray | None,
) -> np.ndarray:
    """Return the blocks (m, s_i, s_j) of ``M^-1`` for pairs of levels."""
    layout = factor.layout
    out = np.empty((len(level_i), layout.widths[i], layout.widths[j]))
    seen = np.zeros(len(level_i), dtype=bool)
    if held is not None and len(held):
        pair = factor.products.pairs[i, j]
        n_cols = layout.n_levels[j]
        known = pair.rows.astype(np.int64) * n_cols + pair.cols
        key = level_i.astype(np.int64) * n_cols + level_j
        place = np.minimum(np.searchsorted(known, key), len(known) - 1)
        seen = known[place] == key
        out[seen] = held[place[seen]]
    if seen.all():
        return out
    left, right = level_i[~seen], level_j[~seen]
    if len(np.unique(left)) < len(np.unique(right)):
        out[~seen] = _solved(factor, j, i, right, left).transpose(0, 2, 1)
    else:
        out[~seen] = _solved(factor, i, j, left, right)
    return out


def _solved(
    factor: CholeskyFactor, i: int, j: int, level_i: np.ndarray, level_j: np.ndarray
) -> np.ndarray:
    """Return the blocks (m, s_i, s_j) of ``M^-1``, by solves for the levels of factor j."""
    layout, s = factor.layout, factor.layout.widths[j]
    out = np.empty((len(level_i), layout.widths[i], s))
    levels, which = np.unique(level_j, return_inverse=True)
    step = max(CHUNK // s, 1)
    for start in range(0, len(levels), step):
        chunk = levels[start : start + step]
        column = np.arange(len(chunk) * s)
        unit = np.zeros((layout.q, len(column)))
        unit[(layout.offsets[j] + chunk[:, None] * s + np.arange(s)).ravel(), column] = 1.0
        solved = layout.by_level(i, factor.solve(unit))
        rows = np.flatnonzero((which >= start) & (which < start + len(chunk)))
        columns = (which[rows] - start)[:, None] * s + np.arange(s)
        out[rows] = solved[level_i[rows][:, None], :, columns].transpose(0, 2, 1)
    return out
