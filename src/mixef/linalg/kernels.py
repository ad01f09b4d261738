"""The few loops over non-zeros that NumPy and SciPy lack, compiled at first use."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from pickle import UnpicklingError
from typing import Any

import numpy as np

from mixef.late import load
from mixef.linalg.iterative.loops import (
    block_squares,
    cell_forms,
    gather_eight,
    gather_one,
    gram_squares,
    turn_pairs,
    weighted_squares,
)
from mixef.linalg.minimum_degree import minimum_degree
from mixef.linalg.sparse_loops import (
    boundary_forms,
    cholesky_columns,
    column_counts,
    filled_rows,
    find_pairs,
    selected_inverse,
    solve_columns,
    solve_columns_transposed,
)

# What numba's files of compiled code raise on a full disk, and where they are damaged.
UNKEPT = (OSError, EOFError, UnpicklingError)


@cache
def compiled() -> dict[str, Callable[..., Any]]:
    """Compile the kernels (numba, cached on disk) and return them by name."""
    kernels = (
        subtract_gram,
        quadratic_forms,
        products_and_forms,
        minimum_degree,
        column_counts,
        filled_rows,
        find_pairs,
        cholesky_columns,
        solve_columns,
        solve_columns_transposed,
        selected_inverse,
        boundary_forms,
        turn_pairs,
        weighted_squares,
        gather_one,
        gather_eight,
        gram_squares,
        block_squares,
        cell_forms,
        add_to_cells,
    )
    return {kernel.__name__: jit(kernel) for kernel in kernels}


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call, or read what an earlier process compiled."""
    numba = load("numba")
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "reassoc", "nsz"}}
    try:
        fast = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder where the compiled code could be kept
        fast = numba.njit(**options)(function)

    @wraps(function)
    def run(*arguments: Any) -> Any:
        nonlocal fast
        try:
            return fast(*arguments)
        except UNKEPT:  # no kernel raises these: compiled code was not to be read or written
            fast = numba.njit(**options)(function)
            return fast(*arguments)

    return run


def subtract_gram(
    start: np.ndarray, cols: np.ndarray, U: np.ndarray, S: np.ndarray, first: int, last: int
) -> None:
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


def add_to_cells(table: np.ndarray, cells: np.ndarray, values: np.ndarray) -> None:
    """Count rows with cells (k,) in a table's first column, and add values (s, k) to the others."""
    for r in range(len(cells)):
        cell = cells[r]
        table[cell, 0] += 1.0
        for a in range(len(values)):
            table[cell, 1 + a] += values[a, r]


def quadratic_forms(
    start: np.ndarray,
    cols: np.ndarray,
    N: np.ndarray,
    C: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
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


def products_and_forms(
    start: np.ndarray,
    cols: np.ndarray,
    N: np.ndarray,
    C: np.ndarray,
    P: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
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
