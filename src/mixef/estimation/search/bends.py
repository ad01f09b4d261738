"""What derivatives foretell along valleys that are straight in covariances, and bend in roots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from mixef.terms.parametrization import Parametrization

# Changes of covariances that are known up to this share of the largest count.
KNOWN = 1e-12


class CovarianceQuadratic:
    """A criterion near a point, as a quadratic function of covariances and other parameters.

    Data determine sums of covariances. Where they determine one well and its parts badly, the
    criterion has a valley that is straight in the covariances, and bends in the entries of their
    roots: a quadratic function of these holds for short steps alone. This one has the same gradient
    and Hessian at the point, and is known everywhere: for ``E = lam lam' - lam0 lam0'`` it is

        tr(K E) + g'd + (eta, d)' M (eta, d) / 2

    with the changes eta of parameters that make E to first order, and d of those that are no
    covariances' (eq-beyond-bends in docs/theory).

    Parameters
    ----------
    parametrization : Parametrization
    point : ndarray (K,)
        Parameters of the covariances (k,), then others.
    K : sequence of ndarray (s_i, s_i)
        The criterion's derivative for ``lam lam'``, one a block.
    g, H : ndarray (K,), (K, K)
        Gradient and information at the point.
    unit : ndarray (K,)
        Natural units of the parameters.
    """

    def __init__(
        self,
        parametrization: Parametrization,
        point: np.ndarray,
        K: Sequence[np.ndarray],
        g: np.ndarray,
        H: np.ndarray,
        unit: np.ndarray,
    ):
        self._parametrization, self._point, self._K = parametrization, point, K
        self._g, self._H, self._unit, self._k = g, H, unit, parametrization.n_par

    @cached_property
    def _base(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Covariances and M at the point, and the matrix (k, entries) that makes eta of E.

        That is by least squares, for parameters in their natural units.
        """
        P, k, par = self._parametrization, self._k, self._point[: self._k]
        lams, (dlams, dsigmas) = P.lams(par), P.derivatives(par)
        M = self._H.copy()
        M[:k, :k] -= P.chain(par, dlams, lams, self._K)[1]
        own = self._unit[:k, None]
        inverse = own * np.linalg.pinv(_flat(dsigmas) * own, KNOWN).T
        return [lam @ lam.T for lam in lams], M, inverse

    def value(self, point: np.ndarray) -> float:
        """Return the change of the criterion, and remember where."""
        k, (sigmas, M, inverse) = self._k, self._base
        self._at, self._lams = point, self._parametrization.lams(point[:k])
        pairs = zip(self._lams, sigmas, strict=True)
        E = np.concatenate([(lam @ lam.T - sigma).ravel() for lam, sigma in pairs])
        change = np.concatenate([inverse @ E, (point - self._point)[k:]])
        self._pull = M @ change
        slope = float(np.concatenate([K.ravel() for K in self._K]) @ E)
        return slope + float(self._g[k:] @ change[k:]) + 0.5 * float(change @ self._pull)

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient (K,) and Hessian (K, K) at the last value."""
        P, k, par = self._parametrization, self._k, self._at[: self._k]
        dlams, dsigmas = P.derivatives(par)
        _, M, inverse = self._base
        slopes, begin = [], 0
        by_entry = inverse.T @ self._pull[:k]
        for K in self._K:
            own = by_entry[begin : begin + K.size].reshape(K.shape)
            slopes.append(K + 0.5 * (own + own.T))
            begin += K.size
        gradient, J = self._g + self._pull, np.eye(len(self._at))
        gradient[:k], curvature = P.chain(par, dlams, self._lams, slopes)
        J[:k, :k] = inverse @ _flat(dsigmas).T
        H = J.T @ M @ J
        H[:k, :k] += curvature
        return gradient, H

    def scale(self, point: np.ndarray) -> np.ndarray:
        """Return the natural units of the parameters."""
        return self._unit

    def rounding(self) -> float:
        """Return nothing: no value is large."""
        return 0.0


def _flat(by_block: Sequence[np.ndarray]) -> np.ndarray:
    """Lay matrices (k, s_i, s_i) of blocks out as rows (k, entries)."""
    return np.concatenate([D.reshape(len(D), -1) for D in by_block], axis=1)
