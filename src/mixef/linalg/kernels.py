"""The few loops over non-zeros that NumPy and SciPy lack, compiled at first use."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def compiled():
    """Compile the kernels (numba, cached on disk) and return them by name."""
    import numba

    def jit(function):
        options = {"nogil": True, "fastmath": {"contract", "reassoc", "nsz"}}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder where the compiled code could be kept
            return numba.njit(**options)(function)

    kernels = (subtract_gram, quadratic_forms, products_and_forms, selected_inverse, column_counts)
    return {kernel.__name__: jit(kernel) for kernel in kernels}


def subtract_gram(start, cols, U, S, first, last):
    """Subtract ``U'U`` from the lower triangle of S, for its columns in [first, last).

    Parameters
    ----------
    start : ndarray of int (l + 1,)
        Where each level's columns start in ``cols``; ascending inside a level.
    cols : ndarray of int (m,)
    U : ndarray (s, m)
        A level's s rows of U share its columns.
    S : ndarray (k, k)
        Fortran order; changed in place.
    """
    s = U.shape[0]
    for level in range(len(start) - 1):
        stop = start[level + 1]
        for p in range(start[level], stop):
            col = cols[p]
            if col < first or col >= last:
                continue
            for a in range(s):
                u = U[a, p]
                for r in range(p, stop):
                    S[cols[r], col] -= U[a, r] * u


def quadratic_forms(start, cols, N, C, out, first, last):
    """Write ``N_l C N_l'`` (s, s) of the levels in [first, last) to ``out``.

    C is symmetric and read from its lower triangle; the other arguments are those of
    `subtract_gram`.
    """
    s = N.shape[0]
    for level in range(first, last):
        stop = start[level + 1]
        for a in range(s):
            for b in range(s):
                out[level, a, b] = 0.0
        for p in range(start[level], stop):
            col = cols[p]
            diagonal = C[col, col]
            for a in range(s):
                below = 0.0
                for r in range(p + 1, stop):
                    below += C[cols[r], col] * N[a, r]
                for b in range(s):
                    out[level, a, b] += (0.5 * diagonal * N[a, p] + below) * N[b, p]
        for a in range(s):
            for b in range(a + 1):
                both = out[level, a, b] + out[level, b, a]
                out[level, a, b] = both
                out[level, b, a] = both


def products_and_forms(start, cols, N, C, P, out, first, last):
    """Add ``N_l C`` on each level's own columns to P, and write ``N_l C N_l'`` to ``out``.

    Parameters
    ----------
    P : ndarray (s, m)
        Zeros; for the levels in [first, last) they are filled.
    start, cols, N, C, out
        As those of `quadratic_forms`.
    """
    s = N.shape[0]
    for level in range(first, last):
        head, stop = start[level], start[level + 1]
        for p in range(head, stop):
            col = cols[p]
            diagonal = C[col, col]
            for a in range(s):
                own = N[a, p]
                below = 0.0
                for r in range(p + 1, stop):
                    c = C[cols[r], col]
                    below += c * N[a, r]
                    P[a, r] += c * own
                P[a, p] += diagonal * own + below
        for a in range(s):
            for b in range(a + 1):
                form = 0.0
                for p in range(head, stop):
                    form += P[a, p] * N[b, p]
                out[level, a, b] = form
                out[level, b, a] = form


def selected_inverse(start, rows, L, C):
    """Write the entries of ``(L L')^-1`` on the pattern of L (Takahashi's recurrence).

    Parameters
    ----------
    start, rows, L : compressed columns of the lower triangular factor
        Rows ascending, so that a column starts with its diagonal.
    C : ndarray like L
        Written: the inverse's entries on the same pattern.

    References
    ----------
    A. M. Erisman and W. F. Tinney (1975), Communications of the ACM 18, 177-179.
    """
    n = len(start) - 1
    total = np.zeros(n)
    where = np.full(n, -1, dtype=np.int64)
    for j in range(n - 1, -1, -1):
        head, stop = start[j], start[j + 1]
        pivot = L[head]
        for p in range(head + 1, stop):
            where[rows[p]] = p
            total[rows[p]] = 0.0
        # total_i = sum_k C_ik L_kj over the rows i, k below the diagonal of column j
        for p in range(head + 1, stop):
            k = rows[p]
            ratio = L[p]
            total[k] += C[start[k]] * ratio
            for r in range(start[k] + 1, start[k + 1]):
                i = rows[r]
                if where[i] >= 0:
                    total[i] += C[r] * ratio
                    total[k] += C[r] * L[where[i]]
        diagonal = 1.0 / pivot
        for p in range(head + 1, stop):
            C[p] = -total[rows[p]] / pivot
            diagonal -= C[p] * L[p]
            where[rows[p]] = -1
        C[head] = diagonal / pivot


def column_counts(start, cols, counts):
    """Count the non-zeros of each column of the Cholesky factor of a symmetric pattern.

    Row subtrees of the elimination tree are walked (J. W. H. Liu, 1990, SIAM Journal on Matrix
    Analysis and Applications 11, 134-172, section 3).

    Parameters
    ----------
    start, cols : compressed rows of the strictly lower triangle
    counts : ndarray of int (n,)
        Written: the number of non-zeros of each column, diagonal included.
    """
    n = len(start) - 1
    parent = np.full(n, -1, dtype=np.int64)
    ancestor = np.full(n, -1, dtype=np.int64)
    for i in range(n):
        for p in range(start[i], start[i + 1]):
            k = cols[p]
            while k != -1 and k < i:
                following = ancestor[k]
                ancestor[k] = i
                if following == -1:
                    parent[k] = i
                k = following
    mark = np.full(n, -1, dtype=np.int64)
    for i in range(n):
        counts[i] = 1
        mark[i] = i
        for p in range(start[i], start[i + 1]):
            k = cols[p]
            while mark[k] != i:
                counts[k] += 1
                mark[k] = i
                k = parent[k]
