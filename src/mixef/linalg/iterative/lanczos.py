"""Quadratic forms ``z'f(E) z`` by Lanczos runs of a few steps, on a block of vectors at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.linalg.factor import not_positive_definite
from mixef.linalg.iterative.graph import by_width
from mixef.linalg.iterative.scaled import Scaled

# A step that leaves less than this of a vector has found an invariant space: the run ends.
NOTHING_LEFT = 1e-10
# 1 + e is never below this: S - I is positive semidefinite.
LEAST = 1e-14
# ... where no weight is negative; numbers of four bytes may be off by less than this.
ROUNDED = 1e-4


def first_order(e: np.ndarray) -> np.ndarray:
    """Return ``log(1 + e) - e``: what the exact first moment, zero, leaves."""
    e = np.maximum(e, LEAST - 1.0)
    out: np.ndarray = np.log1p(e) - e
    return out


def second_order(e: np.ndarray) -> np.ndarray:
    """Return ``log(1 + e) - e + e^2 / 2``: what the exact second moment leaves too."""
    out: np.ndarray = first_order(e) + 0.5 * e * e
    return out


@dataclass(frozen=True)
class Forms:
    """Quadratic forms of some vectors z in functions of E, by the order of the moments (1, 2).

    Examples
    --------
    >>> forms = Forms(np.ones((3, 2)), np.ones((3, 2, 2)), np.zeros((3, 2)))
    >>> forms.joined(forms).values.shape
    (6, 2)
    """

    values: np.ndarray  # (k, 2): z'f(E) z
    slopes: np.ndarray  # (k, 2, K): what z sees of T_1, T_2, ...; order 2 where there is one
    cut: np.ndarray  # (k, 2): the same values less those of two steps fewer

    def joined(self, other: Forms) -> Forms:
        """Return the forms of these vectors, then of others."""
        return Forms(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.slopes, other.slopes]),
            np.concatenate([self.cut, other.cut]),
        )


def nothing(scaled: Scaled) -> Forms:
    """Return the forms of no vectors."""
    return Forms(
        np.empty((0, 2)),
        np.empty((0, len(scaled.orders), len(scaled.base_slopes))),
        np.empty((0, 2)),
    )


def forms(scaled: Scaled, Z: np.ndarray, steps: int) -> Forms:
    """Return the forms of the columns of Z (l_2, k), by runs of some steps."""
    out = nothing(scaled)
    for block in by_width(Z):
        out = out.joined(forms_and_images(scaled, block, steps)[0])
    k = Z.shape[1]
    return Forms(out.values[:k], out.slopes[:k], out.cut[:k])


def forms_and_images(
    scaled: Scaled, Z: np.ndarray, steps: int, single: bool = False
) -> tuple[Forms, list[np.ndarray]]:
    """Return the forms of a block Z (l_2, 8), and ``f(E) Z`` by the order of the moments.

    Parameters
    ----------
    single : bool
        As in `Scaled.E_times`.
    """
    basis, T, norm, EZ = run(scaled, Z, steps, single)
    whole, fewer = _spectrum(T, norm), _spectrum(T[:, :-2, :-2], norm)
    values = _sums(whole)
    e, vectors, _ = whole

    def on_basis(function: np.ndarray) -> np.ndarray:
        """Return ``g(E) Z`` for values g(e) (k, m)."""
        at = function * vectors[:, 0] * norm[:, None]
        return _combined(basis, np.einsum("kij,kj->ik", vectors, at))

    # d tr f(E) = tr(f'(E) dE), with f'(E) z on the basis of the run.
    slopes, turned = [], scaled.turned(Z, EZ, single)
    for order in scaled.orders:
        derivative = (-e, e * e)[order - 1] / (1.0 + e)
        slopes.append(scaled.slopes(Z, turned, on_basis(derivative), on_basis(derivative * e)))
    images = [on_basis(f(e)) for f in (first_order, second_order)]
    return Forms(values, np.stack(slopes, axis=1), values - _sums(fewer)), images


def derivative_images(
    scaled: Scaled, Z: np.ndarray, steps: int, single: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``E Z`` and ``f'(E) Z = -E (I + E)^-1 Z`` (l_2, 8), for the first order."""
    basis, T, norm, EZ = run(scaled, Z, steps, single)
    e, vectors, _ = _spectrum(T, norm)
    at = -e / (1.0 + e) * vectors[:, 0] * norm[:, None]
    return EZ, _combined(basis, np.einsum("kij,kj->ik", vectors, at))


def run(
    scaled: Scaled, Z: np.ndarray, steps: int, single: bool
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Run Lanczos from the columns of Z (l_2, k), each by itself.

    Returns
    -------
    basis : list of ndarray (l_2, k)
        The vectors of each step.
    T : ndarray (k, steps, steps)
        Tridiagonal: what E is on the basis.
    norm : ndarray (k,)
        Of the columns of Z.
    EZ : ndarray (l_2, k)
    """
    k = Z.shape[1]
    T = np.zeros((k, steps, steps))
    norm = np.sqrt(np.einsum("jk,jk->k", Z, Z))
    basis = [Z / np.where(norm > 0.0, norm, 1.0)]
    EZ = Z
    for s in range(steps):
        w = scaled.E_times(basis[s], single)
        if s == 0:
            EZ = w * norm
        else:
            w -= T[:, s, s - 1] * basis[s - 1]
        T[:, s, s] = np.einsum("jk,jk->k", basis[s], w)
        if s == steps - 1:
            break
        w -= T[:, s, s] * basis[s]
        length = np.sqrt(np.einsum("jk,jk->k", w, w))
        going = length > NOTHING_LEFT
        T[:, s, s + 1] = T[:, s + 1, s] = np.where(going, length, 0.0)
        w *= np.where(going, 1.0 / np.where(going, length, 1.0), 0.0)
        basis.append(w)
    return basis, T, norm, EZ


def _spectrum(T: np.ndarray, norm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return eigenvalues (k, m), eigenvectors (k, m, m) and the weights (k, m) of a quadrature."""
    e, vectors = np.linalg.eigh(T)
    if e.min(initial=0.0) < -1.0 - ROUNDED:
        raise not_positive_definite()
    return np.maximum(e, LEAST - 1.0), vectors, (norm[:, None] * vectors[:, 0]) ** 2


def _sums(spectrum: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Return both functions (k, 2), integrated by the quadrature."""
    e, _, weights = spectrum
    return np.column_stack([(weights * f(e)).sum(axis=1) for f in (first_order, second_order)])


def _combined(basis: list[np.ndarray], coefficients: np.ndarray) -> np.ndarray:
    """Return the sums (l_2, k) of the vectors of a run, with coefficients (m, k)."""
    out: np.ndarray = basis[0] * coefficients[0]
    for vectors, c in zip(basis[1:], coefficients[1:], strict=True):
        out += c * vectors
    return out
