"""Loops over the pairs of levels of two crossed factors; `mixef.linalg.kernels` compiles them.

Everywhere ``start`` tells where the pairs of each level begin in ``other``, which has the levels of
the other factor, ascending. ``values`` is empty where every pair counts one.
"""

from __future__ import annotations

import numpy as np


def turn_pairs(
    start: np.ndarray,
    other: np.ndarray,
    values: np.ndarray,
    turned_start: np.ndarray,
    turned_other: np.ndarray,
    turned_values: np.ndarray,
) -> None:
    """Write the pairs by levels of the other factor.

    Parameters
    ----------
    turned_start : ndarray of int (l + 1,)
        Zeros; written.
    turned_other, turned_values : ndarray (m,)
        Written.
    """
    for p in range(len(other)):
        turned_start[other[p] + 1] += 1
    for level in range(len(turned_start) - 1):
        turned_start[level + 1] += turned_start[level]
    place = turned_start[:-1].copy()
    for level in range(len(start) - 1):
        for p in range(start[level], start[level + 1]):
            to = place[other[p]]
            place[other[p]] = to + 1
            turned_other[to] = level
            if len(values):
                turned_values[to] = values[p]


def weighted_squares(
    start: np.ndarray,
    other: np.ndarray,
    values: np.ndarray,
    w: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Write ``sum_u a_u^2 w_u`` over the pairs of the levels in [first, last), for w (l', k)."""
    for level in range(first, last):
        for k in range(w.shape[1]):
            total = 0.0
            for p in range(start[level], start[level + 1]):
                square = values[p] * values[p] if len(values) else 1.0
                total += square * w[other[p], k]
            out[level, k] = total


def gather_one(
    start: np.ndarray,
    other: np.ndarray,
    values: np.ndarray,
    V: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Write ``sum_u a_u V_u`` over the pairs of the levels in [first, last), for V (l', 1)."""
    for level in range(first, last):
        total = 0.0
        if len(values):
            for p in range(start[level], start[level + 1]):
                total += values[p] * V[other[p], 0]
        else:
            for p in range(start[level], start[level + 1]):
                total += V[other[p], 0]
        out[level, 0] = total


def gather_eight(
    start: np.ndarray,
    other: np.ndarray,
    values: np.ndarray,
    V: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Do as `gather_one` does for V (l', 8): eight numbers fill a cache line.

    They are written out one by one because the compiler keeps them in registers then.
    """
    for level in range(first, last):
        a = b = c = d = e = f = g = h = 0.0
        if len(values):
            for p in range(start[level], start[level + 1]):
                u, x = other[p], values[p]
                a += x * V[u, 0]
                b += x * V[u, 1]
                c += x * V[u, 2]
                d += x * V[u, 3]
                e += x * V[u, 4]
                f += x * V[u, 5]
                g += x * V[u, 6]
                h += x * V[u, 7]
        else:
            for p in range(start[level], start[level + 1]):
                u = other[p]
                a += V[u, 0]
                b += V[u, 1]
                c += V[u, 2]
                d += V[u, 3]
                e += V[u, 4]
                f += V[u, 5]
                g += V[u, 6]
                h += V[u, 7]
        out[level, 0] = a
        out[level, 1] = b
        out[level, 2] = c
        out[level, 3] = d
        out[level, 4] = e
        out[level, 5] = f
        out[level, 6] = g
        out[level, 7] = h


def gram_squares(
    start: np.ndarray,
    other: np.ndarray,
    values: np.ndarray,
    turned_start: np.ndarray,
    turned_other: np.ndarray,
    turned_values: np.ndarray,
    w: np.ndarray,
    sd: np.ndarray,
    dlog: np.ndarray,
    out: np.ndarray,
    levels: np.ndarray,
) -> None:
    """Sum squares and derivatives of ``N_jk = sd_j sd_k sum_u w_u a_uj a_uk`` over pairs j < k.

    Parameters
    ----------
    start, other, values, turned_start, turned_other, turned_values
        The pairs by the levels k, and by the levels u of the eliminated factor.
    w : ndarray (l_1, 2)
        The weights and their derivative by the first parameter.
    sd : ndarray (l_2,)
    dlog : ndarray (l_2, 2)
        Logarithmic derivatives of ``sd^-2`` by both parameters.
    out : ndarray (3,)
        Added to: the sum of ``N^2``, of ``N dN/da`` and of ``-N^2 (dlog_j + dlog_k) / 2`` for
        the second parameter.
    levels : ndarray of int
        The levels k to go through.
    """
    n = len(sd)
    total, mark = np.zeros((n, 2)), np.full(n, -1)
    every, met = np.arange(n), np.zeros(n, dtype=np.int64)
    for k in levels:
        work = 0
        for p in range(start[k], start[k + 1]):
            u = other[p]
            weight, slope = w[u, 0], w[u, 1]
            if len(values):
                weight *= values[p]
                slope *= values[p]
            q = turned_start[u]
            while turned_other[q] < k:
                j = turned_other[q]
                x = turned_values[q] if len(values) else 1.0
                total[j, 0] += weight * x
                total[j, 1] += slope * x
                q += 1
            work += q - turned_start[u]
        met_by_k, count = every, k
        if work < k:  # few levels were met: find them
            met_by_k, count = met, 0
            for p in range(start[k], start[k + 1]):
                q = turned_start[other[p]]
                while turned_other[q] < k:
                    j = turned_other[q]
                    if mark[j] != k:
                        mark[j] = k
                        met[count] = j
                        count += 1
                    q += 1
        for i in range(count):
            j = met_by_k[i]
            scale = sd[j] * sd[k]
            N = scale * total[j, 0]
            out[0] += N * N
            out[1] += N * (scale * total[j, 1] - 0.5 * N * (dlog[j, 0] + dlog[k, 0]))
            out[2] -= 0.5 * N * N * (dlog[j, 1] + dlog[k, 1])
            total[j, 0] = 0.0
            total[j, 1] = 0.0


def block_squares(
    start: np.ndarray,
    other: np.ndarray,
    values: np.ndarray,
    W: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Write ``sum_u A_u W_u A_u'`` (s, s) of the levels in [first, last), over their pairs.

    Parameters
    ----------
    start, other, values
        The pairs by effects: s rows a level, each with t numbers for every level u that it meets.
    W : ndarray (l', t, t)
    out : ndarray (l, s, s)
    """
    s, t = out.shape[1], W.shape[1]
    for level in range(first, last):
        head = start[level * s]
        count = (start[level * s + 1] - head) // t
        for a in range(s):
            for b in range(a + 1):
                at_a, at_b = start[level * s + a], start[level * s + b]
                total = 0.0
                for k in range(count):
                    u = other[head + k * t] // t
                    for c in range(t):
                        x = values[at_a + k * t + c] if len(values) else 1.0
                        for d in range(t):
                            y = values[at_b + k * t + d] if len(values) else 1.0
                            total += x * W[u, c, d] * y
                out[level, a, b] = total
                out[level, b, a] = total


def cell_forms(
    rows: np.ndarray,
    cols: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    times: np.ndarray,
    x_rows: np.ndarray,
    y_rows: np.ndarray,
    x_cols: np.ndarray,
    y_cols: np.ndarray,
    changes: np.ndarray,
    inverse: np.ndarray,
    share: float,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Add ``x'P y`` to ``out`` for symmetric P and eight columns of x and y, on some pairs.

    Parameters
    ----------
    rows, cols : ndarray of int (m,)
        Levels of the pairs.
    a, b : ndarray of int (c,)
        Row and column of each value of a pair's block.
    times : ndarray (c,)
        Half of how often each is in P.
    x_rows, y_rows, x_cols, y_cols : ndarray (l s, 8)
        Effects of either factor.
    changes : ndarray (K, m c)
        Values of each P.
    inverse : ndarray (m c,)
        Added to: ``share`` of what multiplies the values, summed over columns.
    out : ndarray (K, 8)
    """
    c = len(a)
    s, t = a[c - 1] + 1, b[c - 1] + 1
    for p in range(first, last):
        for e in range(c):
            i, j, cell = rows[p] * s + a[e], cols[p] * t + b[e], p * c + e
            total = 0.0
            for k in range(8):
                form = times[e] * (x_rows[i, k] * y_cols[j, k] + y_rows[i, k] * x_cols[j, k])
                total += form
                for n in range(len(out)):
                    out[n, k] += changes[n, cell] * form
            inverse[cell] += share * total
