"""Least squares and reweighted least squares, group by group, all groups at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.estimation.generalized.response import edges
from mixef.estimation.generalized.separation import separating_direction
from mixef.families.family import Family
from mixef.linalg.standardize import ALIASED, ROUNDING, root_weighted

MAX_STEPS = 100
# The search of a group ends when its deviance changes by less than this share of it, and of what a
# tenth of a row has of the deviance of one mean for all (of one, where there is no dispersion).
ENOUGH, TENTH = 1e-11, 0.1
HALVINGS = 30
# A row whose unit information is below this has its mean at the edge of what is possible; it goes
# there for ever, its responses being separated, if its linear predictor still moves by this.
EDGE, MOVING = 1e-8, 1e-2
# What a row's distance from the space of a group's rows may be, beside its size.
OUTSIDE = 1e-7


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows put in the order of their groups."""

    order: np.ndarray  # (n,) of int: rows, group by group
    codes: np.ndarray  # (n,) of int: group of each sorted row
    # (G,) of int: where each group begins among the sorted rows; no group is empty
    starts: np.ndarray

    @staticmethod
    def of(codes: np.ndarray) -> Groups:
        """Sort the rows of group codes (n,), of which each from 0 up occurs."""
        order = np.argsort(codes, kind="stable")
        ordered = codes[order]
        return Groups(order, ordered, np.searchsorted(ordered, np.arange(ordered[-1] + 1)))

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each group (G,)."""
        return np.diff(np.append(self.starts, len(self.codes)))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum sorted rows (n, ...) by group (G, ...)."""
        return np.add.reduceat(values, self.starts, axis=0)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Put sorted rows (n,) into the order of the data."""
        out = np.empty_like(values)
        out[self.order] = values
        return out


@dataclass(frozen=True, eq=False)
class Triangle:
    """The triangular form ``X_g = Q_g R_g`` of every group's columns."""

    Q: np.ndarray  # (n, p): orthonormal inside each group; zero in the columns that a group drops
    # (G, p, p): upper triangular; a dropped column has 1 on the diagonal, and its row is zero
    # beside it
    R: np.ndarray
    # (G, p) of bool: columns that are no combinations of earlier ones, as R has it
    kept: np.ndarray

    @property
    def null(self) -> np.ndarray:
        """Combinations of columns that are zero in a group (G, p, p): column j for a dropped j."""
        p = self.R.shape[1]
        dropped = ~self.kept
        eye = np.eye(p) * dropped[:, None, :]
        above = self.R * dropped[:, None, :] - eye
        kept_part = self.R * self.kept[:, None, :] + eye
        null: np.ndarray = eye - np.linalg.solve(kept_part, above)
        return null

    def unscaled_covariance(self) -> np.ndarray:
        """Return ``(X_g'X_g)^-1`` over the kept columns (G, p, p), NaN for the others."""
        inverse = np.linalg.inv(self.R * self.kept[:, None, :] + _diagonal(~self.kept))
        inverse = inverse * self.kept[:, :, None] * self.kept[:, None, :]
        covariance: np.ndarray = inverse @ inverse.transpose(0, 2, 1)
        covariance[~(self.kept[:, :, None] & self.kept[:, None, :])] = np.nan
        return covariance

    def coefficients(self, groups: Groups, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients (G, p), zero where dropped, and residuals (n,) of sorted rows y."""
        residual, projected = y, np.zeros((len(groups.starts), self.Q.shape[1]))
        for _ in range(2):  # the second pass makes up for the cancellation of the first
            part = groups.sums(self.Q * residual[:, None])
            projected = projected + part
            residual = residual - np.einsum("np,np->n", self.Q, part[groups.codes])
        R = self.R * self.kept[:, None, :] + _diagonal(~self.kept)
        return np.linalg.solve(R, projected[..., None])[..., 0], residual


def _diagonal(values: np.ndarray) -> np.ndarray:
    """Return diagonal matrices (G, p, p) of rows (G, p)."""
    return values[:, :, None] * np.eye(values.shape[1])


def triangle(groups: Groups, X: np.ndarray, kept: np.ndarray | None = None) -> Triangle:
    """Orthogonalize columns (n, p) of sorted rows inside each group, by default independent ones.

    Gram-Schmidt column by column, each twice, which is orthogonal to rounding (Giraud, Langou and
    Rozloznik, 2005, Computers & Mathematics with Applications 50, 1069-1075). ``kept`` (G, p) tells
    which columns to keep.
    """
    (n, p), G = X.shape, len(groups.starts)
    Q, R = np.zeros((n, p), order="F"), np.zeros((G, p, p))
    known = kept is not None
    kept = np.ones((G, p), dtype=bool) if kept is None else kept
    for j in range(p):
        size = np.sqrt(groups.sums(X[:, j] ** 2))
        unit = np.where(size > 0.0, size, 1.0)
        residual = X[:, j] / unit[groups.codes]
        centred = np.ones(G)
        for again in range(2):
            for columns in (slice(0, min(j, 1)), slice(1, j)):
                part = groups.sums(Q[:, columns] * residual[:, None])
                R[:, columns, j] += part
                residual = residual - np.einsum("np,np->n", Q[:, columns], part[groups.codes])
                if again == 0 and columns.start == 0:
                    centred = np.minimum(np.sqrt(groups.sums(residual**2)), 1.0)
        left = np.sqrt(groups.sums(residual**2))
        if not known:
            kept[:, j] = (size > 0.0) & (left > np.maximum(ALIASED * centred, ROUNDING))
        R[:, j, j] = left
        R[:, :, j] *= unit[:, None]
        scale = np.where(kept[:, j] & (left > 0.0), left, np.inf)
        Q[:, j] = residual / scale[groups.codes]
        R[~kept[:, j], j, j] = 1.0
        R[kept[:, j] & (R[:, j, j] == 0.0), j, j] = 1.0
    return Triangle(Q, R, kept)


@dataclass(frozen=True, eq=False)
class GroupwiseFit:
    """Estimates of every group's regression; rows are sorted by group."""

    coefficients: np.ndarray  # (G, p): zero for a column that the group drops
    kept: np.ndarray  # (G, p) of bool
    null: np.ndarray  # (G, p, p): combinations of columns that are zero in a group
    # (G, p, p): covariance of the coefficients over the dispersion, NaN for dropped ones
    unscaled: np.ndarray
    eta: np.ndarray  # (n,)
    mu: np.ndarray  # (n,)
    squares: np.ndarray  # (G,): weighted sum of squared Pearson residuals
    failed: np.ndarray  # (G,) of bool: the search of the group did not converge
    # (G,) of bool: the responses are separated: a mean is at the edge of what is possible, and a
    # coefficient infinite
    edge: np.ndarray

    def predicted(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the linear predictor of rows X (m, p) of groups (m,), without offset.

        NaN for a missing group (-1), one without estimates, and a row that the rows of its group
        say nothing about.
        """
        at = np.where(codes < 0, 0, codes)
        null = self.null[at]
        apart = np.abs(np.einsum("np,npq->nq", X, null))
        size = np.einsum("np,npq->nq", np.abs(X), np.abs(null))
        unknown = (apart > OUTSIDE * size).any(axis=1) | (codes < 0) | self.failed[at]
        eta = np.einsum("np,np->n", X, self.coefficients[at])
        return np.where(unknown, np.nan, eta)


def least_squares(
    groups: Groups, X: np.ndarray, y: np.ndarray, weights: np.ndarray | None, offset: np.ndarray
) -> GroupwiseFit:
    """Fit a linear regression in each group, from sorted rows."""
    T = triangle(groups, root_weighted(X, weights))
    coefficients, residual = T.coefficients(groups, root_weighted(y - offset, weights))
    root = 1.0 if weights is None else np.sqrt(weights)
    mean = y - residual / root
    nowhere = np.zeros(len(groups.starts), dtype=bool)
    return GroupwiseFit(
        coefficients, T.kept, T.null, T.unscaled_covariance(), mean, mean,
        groups.sums(residual**2), nowhere, nowhere,
    )  # fmt: skip


def reweighted_least_squares(
    groups: Groups,
    family: Family,
    X: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    offset: np.ndarray,
) -> GroupwiseFit:
    """Fit a generalized linear model in each group, from sorted rows.

    Fisher scoring, each group with steps of its own that are halved until its deviance does not
    grow (McCullagh and Nelder 1989, section 2.5).
    """
    with np.errstate(all="ignore"):
        scoring = _Scoring(groups, family, X, y, weights, offset)
        scoring.begin()
        steps = 0
        while scoring.is_open.any() and steps < MAX_STEPS:
            scoring.advance()
            steps += 1
        return scoring.result()


class _Scoring:
    """Fisher scoring of all groups: the coefficients, and which groups are still open."""

    def __init__(
        self,
        groups: Groups,
        family: Family,
        X: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray | None,
        offset: np.ndarray,
    ):
        self._groups, self._family, self._X, self._y, self._offset = groups, family, X, y, offset
        self._prior = np.ones(len(y)) if weights is None else weights
        self._first = triangle(groups, root_weighted(X, weights))
        count = len(groups.starts)
        self._mu = family.initial_mean(y, weights)
        self._eta = family.link.link(self._mu)
        self._beta = np.zeros((count, X.shape[1]))
        self._deviance = np.full(count, np.inf)
        self.is_open = np.ones(count, dtype=bool)
        self._stuck = np.zeros(count, dtype=bool)
        self._least = TENTH
        if family.has_dispersion:  # deviances have its unit
            mean = np.full(len(y), np.average(y, weights=self._prior))
            with np.errstate(all="ignore"):
                rows = family.unit_deviance(y, mean, 1.0)
            spread = float(np.average(rows, weights=self._prior))
            self._least *= spread if 0.0 < spread < np.inf else 1.0

    def begin(self) -> None:
        """Start at a constant mean where that is possible, else at means near the response."""
        groups, prior = self._groups, self._prior
        mean = groups.sums(prior * self._y) / groups.sums(prior)
        constant = self._family.link.link(mean)[groups.codes] - self._offset
        level = self._first.coefficients(groups, np.sqrt(prior) * np.nan_to_num(constant))[0]
        eta = self._predictor(level)
        mu, deviance = self._deviance_at(eta)
        self._move(np.isfinite(deviance), level, eta, mu, deviance)

    def advance(self) -> None:
        """Take one step in every open group."""
        target = np.where(self.is_open[:, None], self._target(), self._beta)
        share = np.ones(len(target))
        for _ in range(HALVINGS):
            beta = self._beta + share[:, None] * (target - self._beta)
            eta = self._predictor(beta)
            mu, deviance = self._deviance_at(eta)
            # The first step starts at means that no coefficients belong to.
            bound = self._deviance + ENOUGH * (np.abs(self._deviance) + self._least)
            worse = self.is_open & ~(deviance <= bound)
            if not worse.any():
                break
            share[worse] *= 0.5
        gain = np.abs(self._deviance - deviance)
        self._move(self.is_open & ~worse, beta, eta, mu, deviance)
        self._stuck |= worse
        self.is_open &= ~(worse | (gain <= ENOUGH * (np.abs(deviance) + self._least)))

    def result(self) -> GroupwiseFit:
        """Return the estimates where the search stands."""
        groups, family, mu = self._groups, self._family, self._mu
        slope, variance = family.link.d_inverse(self._eta), family.variance_at(self._eta, mu)
        information = slope**2 / variance
        root = np.sqrt(self._prior * information)
        T = triangle(groups, self._X * root[:, None], self._first.kept)
        failed = self._stuck | ~np.isfinite(self._deviance) | self.is_open
        moved = np.abs(self._predictor(self._target()) - self._eta)
        edge = groups.sums((~(information > EDGE) & ~(moved < MOVING)).astype(int)) > 0
        edge &= ~failed & (not family.auxiliary)
        edge |= self._separated(failed)
        return GroupwiseFit(
            self._beta, self._first.kept, self._first.null, T.unscaled_covariance(), self._eta, mu,
            groups.sums(self._prior * (self._y - mu) ** 2 / variance), failed, edge,
        )  # fmt: skip

    def _separated(self, failed: np.ndarray) -> np.ndarray:
        """Return which groups (G,) have separated responses, whether their search ended or not.

        Where the coefficients point to the edge in every row they are a separating direction
        themselves; in other groups whose search failed one is looked for.
        """
        groups = self._groups
        side = edges(self._y, self._prior, self._family)
        known = ~np.isnan(side)
        wrong = known & ~(side * (self._eta - self._offset) > 0.0)
        out: np.ndarray = (groups.sums(wrong.astype(int)) == 0) & (
            groups.sums(known.astype(int)) > 0
        )
        for g in np.flatnonzero(failed & ~out):
            rows = slice(groups.starts[g], groups.starts[g] + groups.sizes[g])
            columns = self._X[rows][:, self._first.kept[g]]
            out[g] = separating_direction(columns, side[rows]) is not None
        return out

    def _predictor(self, coefficients: np.ndarray) -> np.ndarray:
        eta: np.ndarray = self._offset + np.einsum(
            "np,np->n", self._X, coefficients[self._groups.codes]
        )
        return eta

    def _target(self) -> np.ndarray:
        """Return the coefficients (G, p) that a full step goes to."""
        link = self._family.link
        slope = link.d_inverse(self._eta)
        variance = self._family.variance_at(self._eta, self._mu)
        root = np.abs(slope) * np.sqrt(self._prior / np.where(variance > 0.0, variance, np.inf))
        still = slope == 0.0
        # 1 - mu keeps its digits where the mean rounds to 1.
        residual = np.where(self._y == 1.0, link.complement(self._eta), self._y - self._mu)
        change = np.where(still, 0.0, residual / np.where(still, 1.0, slope))
        T = triangle(self._groups, self._X * root[:, None], self._first.kept)
        return T.coefficients(self._groups, root * (self._eta - self._offset + change))[0]

    def _deviance_at(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means (n,) and deviances (G,), infinite where a mean is impossible."""
        family = self._family
        mean = family.link.inverse(eta)
        lower, upper = family.mean_range
        reach = family.link.mean_range
        inside = np.isfinite(mean) & (mean >= lower) & (mean <= upper)
        inside &= (mean > lower) | (family.closed and reach[0] == lower)
        inside &= (mean < upper) | (family.closed and reach[1] == upper)
        rows = np.where(inside, self._prior * family.unit_deviance(self._y, mean), np.inf)
        return mean, self._groups.sums(np.where(np.isnan(rows), np.inf, rows))

    def _move(
        self,
        which: np.ndarray,
        beta: np.ndarray,
        eta: np.ndarray,
        mu: np.ndarray,
        deviance: np.ndarray,
    ) -> None:
        """Go to new values in some of the groups."""
        rows = which[self._groups.codes]
        self._beta = np.where(which[:, None], beta, self._beta)
        self._deviance = np.where(which, deviance, self._deviance)
        self._eta, self._mu = np.where(rows, eta, self._eta), np.where(rows, mu, self._mu)
