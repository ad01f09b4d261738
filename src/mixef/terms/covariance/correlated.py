"""Structures whose correlations all follow from one, rho.

The root is ``diag(sds) C(phi)``, with ``C C'`` the correlations at an angle phi that makes C
smooth beyond both bounds of rho. A standard deviation for all columns may turn its sign; one of
several may not, for its correlations would turn theirs: it is the square of its coordinate.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from mixef.terms.covariance.base import Changes, Held, Part
from mixef.terms.covariance.diagonal import Diagonal
from mixef.terms.covariance.roots import psd_cholesky

# A large change of the angle, and the share of a range that counts as away from its ends.
ANGLE, INSIDE = 0.5, 0.05
# A relative standard deviation of this or less is zero.
VANISHED = 1e-8
# Where slopes at a bound, which are limits, are taken.
BESIDE = 1e-7


class OneCorrelation(Diagonal):
    """Columns with standard deviations of their own, or one, and one correlation.

    x holds relative standard deviations (their roots where there are several), then phi.
    """

    correlations = "one"
    fewer_effects = False
    #: What the correlation is called.
    named: str
    #: So far apart two columns may be that have it as their correlation.
    reach: int

    @abstractmethod
    def C(self, phi: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the root of the correlations (s, s), and its two derivatives for phi."""

    @abstractmethod
    def R(self, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the correlations (s, s), and their two derivatives for rho."""

    @abstractmethod
    def rho(self, phi: float) -> tuple[float, float, float]:
        """Return the correlation and its two derivatives."""

    @abstractmethod
    def phi(self, rho: float) -> float:
        """Return the angle of a correlation, or of the nearest bound."""

    @abstractmethod
    def folded(self, phi: float) -> float:
        """Return the angle with the same correlation in the range that rho takes once."""

    @property
    @abstractmethod
    def angles(self) -> tuple[float, float]:
        """The range of the angle, where rho goes from its least to its largest value."""

    @property
    def correlation_bounds(self) -> tuple[float, float]:
        return self.rho(self.angles[0])[0], self.rho(self.angles[1])[0]

    @property
    def n_par(self) -> int:
        return self.n_sds + 1

    def _scales(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return every column's standard deviation (s,), and its derivatives (m, s)."""
        own, columns = x[:-1], self._columns
        if self.hom:
            return own @ columns, columns
        return own**2, 2.0 * own[:, None] * columns

    def lam(self, x: np.ndarray) -> np.ndarray:
        lam: np.ndarray = self._scales(x)[0][:, None] * self.C(x[-1])[0]
        return lam

    def d_lam(self, x: np.ndarray) -> np.ndarray:
        (sds, slopes), (C, C1, _) = self._scales(x), self.C(x[-1])
        return np.concatenate([slopes[:, :, None] * C, (sds[:, None] * C1)[None]])

    def d2_lam(self, x: np.ndarray) -> np.ndarray:
        (sds, slopes), (C, C1, C2) = self._scales(x), self.C(x[-1])
        out = np.zeros((self.n_par, self.n_par, self.size, self.size))
        out[-1, -1] = sds[:, None] * C2
        out[-1, :-1] = out[:-1, -1] = slopes[:, :, None] * C1
        if not self.hom:
            index = np.arange(self.size)
            out[index, index, index] = 2.0 * C
        return out

    def sds(self, x: np.ndarray) -> np.ndarray:
        """Return the standard deviations (m,)."""
        return np.abs(x[:-1]) if self.hom else x[:-1] ** 2

    def from_sds(self, sds: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return canonical coordinates with other standard deviations (m,) and the angle of x."""
        return np.append(sds if self.hom else np.sqrt(sds), self.folded(x[-1]))

    def canonical(self, x: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the coordinates in their ranges, at a bound where they are near it.

        The angle is there where the template has diagonal entries up to ``floor``.
        """
        sds = self.sds(x)
        out = self.from_sds(np.where(sds > floor, sds, 0.0), x)
        largest = sds.max(initial=0.0)
        for end in self.angles if floor > 0.0 else ():
            if largest * abs(np.sin(out[-1] - end)) <= floor < largest:
                out[-1] = end
        return out

    def coordinates(self, half: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the coordinates of the standard deviations, and of the first correlation."""
        sds, x = np.sqrt((half**2).sum(axis=1)), np.zeros(self.n_par)
        x[-1] = self.phi(self._correlation(half @ half.T, sds))
        return self.canonical(self.from_sds(sds[: self.n_sds], x), floor)

    def _correlation(self, cov: np.ndarray, sds: np.ndarray) -> float:
        """Return rho of a covariance of this structure: of the columns that show it best."""
        # A lag that is even does not tell the sign of an autoregression.
        for lag in sorted(range(1, self.size), key=lambda lag: (lag % 2 == 0, lag)):
            both = sds[lag:] * sds[:-lag]
            best = int(np.argmax(both))
            if both[best] > 0:
                return self.of_lag(float(cov[best + lag, best] / both[best]), lag)
        return 0.0

    def of_lag(self, correlation: float, lag: int) -> float:
        """Return rho, given the correlation of two columns so far apart."""
        return correlation

    def template(self, x: np.ndarray) -> np.ndarray:
        return psd_cholesky(self.lam(x)) + 0.0

    def natural_units(self, x: np.ndarray, floor: float) -> np.ndarray:
        """Return the standard deviations (their roots), and a large angle."""
        return np.append(self.from_sds(np.maximum(self.sds(x), floor), x)[:-1], ANGLE)

    def void(self, x: np.ndarray) -> np.ndarray:
        """Tell whether the correlation is one of nothing: of fewer than two columns."""
        out = np.zeros(self.n_par, dtype=bool)
        out[-1] = (np.abs(self._scales(x)[0]) > VANISHED).sum() < 2
        return out

    def start(self) -> np.ndarray:
        return np.append(np.ones(self.n_sds), self.phi(0.0))

    def near(self, sd: np.ndarray, cov: np.ndarray) -> np.ndarray:
        """Return where to start, with the correlation of moment estimates where that is inside."""
        size = np.sqrt(np.maximum(cov.diagonal(), 0.0))
        rho = self.mean_correlation(cov, size)
        sds = sd if not self.hom else np.sqrt((sd**2).mean(keepdims=True))
        return self.inside(self.from_sds(sds, np.array([self.phi(rho)])), 0.0)

    def mean_correlation(self, cov: np.ndarray, sds: np.ndarray) -> float:
        """Return the correlation of a covariance that need not be of this structure."""
        shown = np.tril(self.R(0.0)[1]) != 0
        size = np.outer(sds, sds)[shown].sum()
        return float(cov[shown].sum() / size) if size > 0 else 0.0

    def inside(self, x: np.ndarray, share: float) -> np.ndarray:
        """Return coordinates off their bounds, standard deviations at ``share`` or above."""
        out = super().inside(x, share)
        low, high = self.angles
        gap = INSIDE * (high - low)
        out[-1] = min(max(out[-1], low + gap), high - gap)
        return out

    def others(self, x: np.ndarray) -> list[np.ndarray]:
        """Return correlations of either sign, with standard deviations that are alike.

        Several standard deviations may each end at zero or not, and where all do, the correlation
        at x tells nothing. With one for all there is one optimum inside.
        """
        void = bool(self.void(x)[-1])
        if self.hom and not void:
            return []
        size = 1.0 if void else np.sqrt((self.sds(x) ** 2).mean())
        middle = [0.5 * (self.phi(0.0) + end) for end in self.angles]
        return [self.from_sds(np.full(self.n_sds, size), np.array([phi])) for phi in middle]

    def at_bounds(
        self, x: np.ndarray, columns: Sequence[str], tolerance: float
    ) -> list[tuple[str, str]]:
        """Name the variances that vanish, or the bound that the correlation is at."""
        gone = np.flatnonzero(self.sds(x) < tolerance)
        if gone.size:
            return [
                (f"the variance{'' if self.hom else ' of ' + columns[int(i)]}", "zero")
                for i in gone
            ]
        rho = self.rho(x[-1])[0]
        at = [end for end in self.correlation_bounds if abs(rho - end) < tolerance]
        return [("the correlation", f"at its bound, {end:.4g}") for end in at]

    def par(self, x: np.ndarray) -> np.ndarray:
        """Return the standard deviations, then rho."""
        return np.append(self.sds(x), self.rho(x[-1])[0])

    def from_par(self, par: np.ndarray) -> np.ndarray:
        return self.from_sds(np.abs(par[:-1]), np.array([self.phi(par[-1])]))

    def par_slopes(self, x: np.ndarray) -> np.ndarray:
        return np.append(np.ones(1) if self.hom else 2.0 * x[:-1], self.rho(x[-1])[1])

    @property
    def lower(self) -> np.ndarray:
        return np.append(np.zeros(self.n_sds), self.correlation_bounds[0])

    @property
    def upper(self) -> np.ndarray:
        return np.append(np.full(self.n_sds, np.inf), self.correlation_bounds[1])

    def labels(self, group: str, columns: Sequence[str]) -> list[str]:
        return [*super().labels(group, columns), f"{group}.rho"]

    def parts(self, columns: Sequence[str]) -> list[Part]:
        return [*super().parts(columns), Part("cor", 1, 0, self.named, self.reach)]

    def root_of(self, sds: np.ndarray, correlations: np.ndarray) -> np.ndarray:
        low, high = self.correlation_bounds
        rho = float(correlations[0])
        if not low - BESIDE <= rho <= high + BESIDE:
            raise ValueError(
                f"has the correlation {rho:g}, which {self} cannot have: "
                f"expected one from {low:.4g} to {high:.4g}"
            )
        return self.template(self.from_par(np.append(sds, rho)))

    def held(self, kind: str, row: int) -> Held:
        if kind == "cor":
            return Held(self.n_sds, self._angle_at, lambda phi: float(np.arcsin(self.rho(phi)[0])))
        return super().held(kind, row) if self.hom else Held(row, _root, np.square)

    def beside(self, row: int, col: int) -> tuple[int, ...]:
        return (0,) if self.hom else (0, 1)[: 2 * (self.size == 2)]

    def _angle_at(self, v: float) -> tuple[float, float, float]:
        """Return the angle of the correlation ``sin(v)``, and its derivatives for v."""
        low, high = (np.arcsin(rho) for rho in self.correlation_bounds)
        v = min(max(v, low + BESIDE), high - BESIDE)
        phi = self.phi(np.sin(v))
        _, slope, curvature = self.rho(phi)
        by_v = np.cos(v) / slope
        return phi, by_v, (-np.sin(v) - curvature * by_v**2) / slope

    def changes(self, x: np.ndarray) -> Changes:
        """Return the changes with rho and, one for all, the variance or standard deviations."""
        rho, sds = self.rho(x[-1])[0], self.sds(x)
        R, R1, R2 = self.R(rho)
        index, n = np.arange(self.n_sds), self.n_par
        if self.hom:
            scale, by_sd = sds[0] ** 2, np.ones((1, self.size, self.size))
        else:
            scale = np.outer(sds, sds)
            by_sd = np.zeros((n - 1, self.size, self.size))
            by_sd[index, index] += sds
            by_sd[index, :, index] += sds
        first = np.concatenate([by_sd * R, (scale * R1)[None]])
        second = np.zeros((n, n, self.size, self.size))
        second[-1, -1] = scale * R2
        second[-1, :-1] = second[:-1, -1] = by_sd * R1
        if not self.hom:
            for i in index:
                second[i, index, i, index] += R[i]
                second[i, index, index, i] += R[i]
        return Changes(first, second)


def _root(v: float) -> tuple[float, float, float]:
    """Return the root of a standard deviation, with its derivatives."""
    root = np.sqrt(max(v, BESIDE**2))
    return root, 0.5 / root, -0.25 / root**3
