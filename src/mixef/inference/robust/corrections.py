"""Small-sample corrections of cluster-robust covariances.

With the parts of a cluster j of the working model (`WorkingModel`), ``V_j`` the block of V, and
``S_j = V_j - X_j X_j'`` the covariance of its residuals e_j under the model, the covariance is

    sum_j G_j'A_j e_j e_j'A_j'G_j

    CR0   A_j = I                                  CR1   times J / (J - 1)
    CR3   A_j = (I - X_j G_j')^-1                  CR1p  times J / (J - p)
    CR2   A_j = D'(D S_j D')^{+1/2} D,  D'D = V_j  CR1S  times J (n - 1) / ((J - 1) (n - p))

in the names of J. E. Pustejovsky and E. Tipton (2018), Small-sample methods for cluster-robust
variance estimation and hypothesis testing in fixed effects models, Journal of Business and
Economic Statistics 36, 672-683, and of R's clubSandwich. CR2 is R. M. Bell's and D. F. McCaffrey's
(2002, Survey Methodology 28, 169-181): it is unbiased where the model is right. A_j is symmetric
with ``A_j S_j A_j = V_j``, the geometric mean of V_j and ``S_j^-1`` (`roots`). Where all residuals
of a cluster have one variance, it is the unit matrix beside the columns of X_j and Z_j, and the
rest is no larger than their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mixef.errors import ArgumentError, MemoryNeededError
from mixef.inference.robust.roots import WHOLE, geometric_mean, integrated
from mixef.inference.robust.working import WorkingModel
from mixef.linalg.factor import fits
from mixef.memory import available

# Cells of the matrices that are worked on at a time.
CELLS = 4_000_000
# Matrices of a cluster that are there at once.
COPIES = 8
# Rows of a cluster from which on an integral is faster than a root, if its columns of Z are so many
# times fewer.
MANY, FEWER = 400, 8


def _by_coefficients(J: int, n: int, p: int) -> float:
    """Return CR1p's."""
    if p >= J:
        raise ArgumentError(
            f"CR1p divides by the clusters beyond the coefficients, but there are {J} clusters for "
            f"{p} coefficients; use 'CR1' or 'CR2'"
        )
    return J / (J - p)


#: From the name of a covariance to what it is beside CR0, for J clusters, n rows, p coefficients.
FACTORS: dict[str, Callable[[int, int, int], float]] = {
    "CR0": lambda J, n, p: 1.0,
    "CR1": lambda J, n, p: J / (J - 1),
    "CR1p": _by_coefficients,
    "CR1S": lambda J, n, p: J * (n - 1) / ((J - 1) * (n - p)),
}


def unbiased(model: WorkingModel) -> np.ndarray:
    """CR2: ``A_j S_j A_j = V_j``."""
    H = np.empty_like(model.G)
    for rows in _batches(model):
        X, G, D = model.X[rows], model.G[rows], model.variance[rows]
        n, p = X.shape[1:]
        if np.ptp(D, axis=1).max() > 0.0:
            H[rows] = _of_uneven(model, rows)
            continue
        Z = _columns(model, rows, n - p - 1)
        if Z is None:
            H[rows] = geometric_mean(_blocks_of_V(model, rows), X) @ G
            continue
        Q = np.linalg.qr(np.concatenate([X, Z], axis=2))[0]
        Qt = Q.transpose(0, 2, 1)
        QtZ, QtG = Qt @ Z, Qt @ G
        V = QtZ @ QtZ.transpose(0, 2, 1) + D[:, :1, None] * np.eye(Q.shape[2])
        H[rows] = G + Q @ (geometric_mean(V, Qt @ X) @ QtG - QtG)
    return H


def _of_uneven(model: WorkingModel, rows: np.ndarray) -> np.ndarray:
    """Return ``A_j G_j`` (b, n_j, p) of clusters whose residuals have different variances."""
    X, G, n = model.X[rows], model.G[rows], rows.shape[1]
    Z = _columns(model, rows, n // FEWER) if n >= MANY else None
    found = None if Z is None else integrated(model.variance[rows], Z, X, G)
    return geometric_mean(_blocks_of_V(model, rows), X) @ G if found is None else found


def leave_one_out(model: WorkingModel) -> np.ndarray:
    """CR3: ``A_j'G_j = G_j (I - X_j'G_j)^-1``, near to what leaving out the cluster gives."""
    H = np.empty_like(model.G)
    for rows in _batches(model):
        X, G = model.X[rows], model.G[rows]
        left_out = inverse_rest(X.transpose(0, 2, 1) @ G, model.levels, model.codes[rows[:, 0]])
        H[rows] = G @ left_out
    return H


def inverse_rest(XtG: np.ndarray, levels: Sequence[str], clusters: np.ndarray) -> np.ndarray:
    """Return ``(I - X_j'G_j)^-1`` (b, p, p).

    Parameters
    ----------
    XtG : ndarray (b, p, p)
    levels : sequence of str
        The labels of all clusters.
    clusters : ndarray of int (b,)
        Which of them these are.

    Raises
    ------
    ArgumentError
        Where a cluster determines a coefficient by itself.
    """
    rest = np.eye(XtG.shape[1]) - XtG
    least = np.linalg.svd(rest, compute_uv=False).min(axis=1, initial=1.0)
    if least.min() < WHOLE:
        level = levels[clusters[least.argmin()]]
        raise ArgumentError(
            f"CR3 leaves out a cluster at a time, but cluster {level} determines a coefficient "
            "by itself, as where a predictor varies in that cluster only; use 'CR2'"
        )
    inverse: np.ndarray = np.linalg.inv(rest)
    return inverse


ADJUSTED: dict[str, Callable[[WorkingModel], np.ndarray]] = {
    "CR2": unbiased,
    "CR3": leave_one_out,
}
TYPES = (*FACTORS, *ADJUSTED)


def corrected_rows(type: str, model: WorkingModel) -> np.ndarray:
    """Return the rows ``A_j'G_j`` (n, p) of all clusters, for the name of a covariance."""
    if type in ADJUSTED:
        return ADJUSTED[type](model)
    n, p = model.X.shape
    return model.G * np.sqrt(FACTORS[type](model.n_clusters, n, p))


def _batches(model: WorkingModel) -> Iterator[np.ndarray]:
    """Yield the rows (b, n_j) of clusters of one size, as many as there is room for."""
    order = np.argsort(model.counts, kind="stable")
    sizes, first = np.unique(model.counts[order], return_index=True)
    for size, members in zip(sizes.tolist(), np.split(order, first[1:]), strict=True):
        step = max(CELLS // size**2, 1)
        for start in range(0, len(members), step):
            yield model.starts[members[start : start + step], None] + np.arange(size)


def _columns(model: WorkingModel, rows: np.ndarray, most: int) -> np.ndarray | None:
    """Return the columns (b, n_j, k) of Z that clusters have, and zeros; None beyond ``most``."""
    local = []
    for g in model.groups:
        codes = g.codes[rows]
        order = np.argsort(codes, axis=1, kind="stable")
        new = np.diff(np.take_along_axis(codes, order, 1), axis=1, prepend=-1) != 0
        number = np.empty_like(order)
        np.put_along_axis(number, order, np.cumsum(new, axis=1) - 1, 1)
        local.append(number)
    widths = [
        (int(number.max()) + 1) * g.z.shape[1]
        for number, g in zip(local, model.groups, strict=True)
    ]
    if sum(widths) > most:
        return None
    require_room(len(rows), rows.shape[1], model.X.shape[1] + sum(widths))
    Z, first = np.zeros((*rows.shape, sum(widths))), 0
    for number, g, width in zip(local, model.groups, widths, strict=True):
        s = g.z.shape[1]
        place = first + number[..., None] * s + np.arange(s)
        np.put_along_axis(Z, place, g.z[rows], axis=2)
        first += width
    return Z


def _blocks_of_V(model: WorkingModel, rows: np.ndarray) -> np.ndarray:
    """Return ``V_j`` (b, n_j, n_j)."""
    b, n = rows.shape
    require_room(b, n, n)
    V = np.zeros((b, n, n))
    V[:, np.arange(n), np.arange(n)] = model.variance[rows]
    for g in model.groups:
        z, codes = g.z[rows], g.codes[rows]
        V += (z @ z.transpose(0, 2, 1)) * (codes[:, :, None] == codes[:, None, :])
    return V


def require_room(b: int, n: int, r: int) -> None:
    """Refuse roots of b matrices (r, r), of clusters of n rows, beyond the memory that is there.

    Raises
    ------
    MemoryNeededError
    """
    needed = 8.0 * COPIES * b * n * r
    if not fits(needed):
        raise MemoryNeededError(
            f"CR2 needs about {needed / 1e9:.3g} GB for the root of a matrix of {r:,} rows, of a "
            f"cluster with {n:,} rows, and {available() / 1e9:.3g} GB are available; use 'CR1' or "
            "'CR3', which take no roots, or smaller clusters"
        )
