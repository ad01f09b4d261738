"""Loops over the non-zeros of a sparse Cholesky factor, held by compressed columns.

They are plain Python; `mixef.linalg.kernels` compiles them. Everywhere ``start`` tells where each
column starts, and a column's rows ascend, its diagonal first.
"""

from __future__ import annotations

import numpy as np


def column_counts(
    start: np.ndarray, cols: np.ndarray, parent: np.ndarray, counts: np.ndarray
) -> None:
    """Count the non-zeros of each column of the Cholesky factor of a symmetric pattern.

    Row subtrees of the elimination tree are walked (J. W. H. Liu, 1990, SIAM Journal on Matrix
    Analysis and Applications 11, 134-172, section 3).

    Parameters
    ----------
    parent : ndarray of int (n,)
        Written: the elimination tree, -1 at a root.
    counts : ndarray of int (n,)
        Written: the number of non-zeros of each column, diagonal included.
    """
    n = len(start) - 1
    parent[:] = -1
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


def filled_rows(
    start: np.ndarray, cols: np.ndarray, parent: np.ndarray, first: np.ndarray, rows: np.ndarray
) -> None:
    """Write the rows of each column of the Cholesky factor of a symmetric pattern.

    Parameters
    ----------
    start, cols, parent
        As those of `column_counts`.
    first : ndarray of int (n + 1,)
        Where each column of the factor starts in ``rows``, from the counts.
    rows : ndarray of int (nnz,)
        Written.
    """
    n = len(start) - 1
    place = first[:-1].copy()
    mark = np.full(n, -1, dtype=np.int64)
    for i in range(n):
        rows[place[i]] = i
        place[i] += 1
        mark[i] = i
        for p in range(start[i], start[i + 1]):
            k = cols[p]
            while mark[k] != i:
                rows[place[k]] = i
                place[k] += 1
                mark[k] = i
                k = parent[k]


def cholesky_columns(start: np.ndarray, rows: np.ndarray, L: np.ndarray) -> bool:
    """Factor in place, column after column; False where the matrix is not positive definite.

    Each column takes up what the columns before it, which have an entry in its row, subtract
    from it (the left-looking method).

    Parameters
    ----------
    L : ndarray (nnz,)
        The lower triangle of the matrix on the pattern of its factor; overwritten by the factor.
    """
    n = len(start) - 1
    # The columns whose next row below what they have given is j: a list from head[j] on.
    head = np.full(n, -1, dtype=np.int64)
    following = np.full(n, -1, dtype=np.int64)
    place = np.zeros(n, dtype=np.int64)
    total = np.zeros(n)
    for j in range(n):
        first, stop = start[j], start[j + 1]
        for p in range(first, stop):
            total[rows[p]] = L[p]
        k = head[j]
        while k >= 0:
            after = following[k]
            here = place[k]
            factor = L[here]
            for p in range(here, start[k + 1]):
                total[rows[p]] -= L[p] * factor
            if here + 1 < start[k + 1]:
                place[k] = here + 1
                row = rows[here + 1]
                following[k] = head[row]
                head[row] = k
            k = after
        if not total[j] > 0.0:
            return False
        pivot = np.sqrt(total[j])
        L[first] = pivot
        for p in range(first + 1, stop):
            L[p] = total[rows[p]] / pivot
        if first + 1 < stop:
            place[j] = first + 1
            row = rows[first + 1]
            following[j] = head[row]
            head[row] = j
    return True


def solve_columns(start: np.ndarray, rows: np.ndarray, L: np.ndarray, x: np.ndarray) -> None:
    """Solve ``L x = b`` in place, for x (n, k) that holds b."""
    for j in range(len(start) - 1):
        pivot = L[start[j]]
        for c in range(x.shape[1]):
            x[j, c] /= pivot
        for p in range(start[j] + 1, start[j + 1]):
            i, factor = rows[p], L[p]
            for c in range(x.shape[1]):
                x[i, c] -= factor * x[j, c]


def solve_columns_transposed(
    start: np.ndarray, rows: np.ndarray, L: np.ndarray, x: np.ndarray
) -> None:
    """Solve ``L' x = b`` in place, for x (n, k) that holds b."""
    for j in range(len(start) - 2, -1, -1):
        for p in range(start[j] + 1, start[j + 1]):
            i, factor = rows[p], L[p]
            for c in range(x.shape[1]):
                x[j, c] -= factor * x[i, c]
        pivot = L[start[j]]
        for c in range(x.shape[1]):
            x[j, c] /= pivot


def selected_inverse(start: np.ndarray, rows: np.ndarray, L: np.ndarray, C: np.ndarray) -> None:
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


def boundary_forms(
    factor: tuple[np.ndarray, ...],
    C: np.ndarray,
    by_row: tuple[np.ndarray, ...],
    rhs: tuple[np.ndarray, ...],
    first: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add ``x_1'x_1 + R'C_JJ R`` (s, s) of every level to ``out``; see `boundary`.

    Parameters
    ----------
    factor : tuple
        Compressed columns (start, rows, L) as those of `selected_inverse`.
    C : ndarray like L
        The inverse on the pattern of L.
    by_row : tuple of ndarray of int
        Compressed rows of that pattern: start, and columns in ascending order.
    rhs : tuple
        Compressed columns (start, rows, values) of the right-hand sides, s for each level.
    first : ndarray of int (l,)
        The level's column of L that is eliminated first.
    out : ndarray (s, s)
    """
    start, rows, L = factor
    row_start, cols = by_row
    rhs_start, rhs_rows, values = rhs
    s = len(out)
    R = np.zeros((len(start) - 1, s))
    x = np.empty(s)
    for level in range(len(first)):
        own = first[level]
        for a in range(s):
            for p in range(rhs_start[level * s + a], rhs_start[level * s + a + 1]):
                R[rhs_rows[p], a] = values[p]
        for q in range(row_start[own], row_start[own + 1] - 1):
            k = cols[q]
            size = 0.0
            for a in range(s):
                x[a] = R[k, a] / L[start[k]]
                R[k, a] = 0.0
                size += abs(x[a])
            if size == 0.0:
                continue
            for a in range(s):
                for b in range(s):
                    out[a, b] += x[a] * x[b]
            for p in range(start[k] + 1, start[k + 1]):
                for a in range(s):
                    R[rows[p], a] -= L[p] * x[a]
        for j in range(start[own], start[own + 1]):
            col = rows[j]
            # R is zero outside of J.
            for a in range(s):
                x[a] = 0.5 * C[start[col]] * R[col, a]
            for p in range(start[col] + 1, start[col + 1]):
                for a in range(s):
                    x[a] += C[p] * R[rows[p], a]
            for a in range(s):
                for b in range(s):
                    out[a, b] += x[a] * R[col, b] + x[b] * R[col, a]
        for j in range(start[own], start[own + 1]):
            for a in range(s):
                R[rows[j], a] = 0.0


def find_pairs(
    start: np.ndarray,
    cols: np.ndarray,
    row: np.ndarray,
    col: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write where every pair of a row and a column stands among those that occur, -1 for none.

    Parameters
    ----------
    start : ndarray of int (l + 1,)
        Where each row's columns start in ``cols``; ascending inside a row.
    cols : ndarray of int (m,)
    row, col, out : ndarray of int (n,)
    """
    for r in range(len(row)):
        low, high = start[row[r]], start[row[r] + 1]
        while high - low > 1:
            middle = (low + high) // 2
            if cols[middle] <= col[r]:
                low = middle
            else:
                high = middle
        out[r] = low if low < high and cols[low] == col[r] else -1
