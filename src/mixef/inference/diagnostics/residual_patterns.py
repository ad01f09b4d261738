"""Tests of simulated residuals against predictors, groups, time and space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from mixef.errors import DataError
from mixef.inference.diagnostics.draws import CELLS, Draws, by_column, rank_p_value
from mixef.inference.diagnostics.residual_tests import (
    ResidualTest,
    how,
    one_row,
    refuse_no_rows,
)
from mixef.inference.tails import f_tail
from mixef.terms.splines import natural_basis
from mixef.text.printed import Printed
from mixef.text.tables import Table

# Columns of the spline, beside the constant.
SPLINE = 4
# Places whose distances are all taken; their number goes into the work squared.
MOST_PLACES = 20_000


def quantiles(
    draws: Draws, x: np.ndarray, name: str, taus: np.ndarray, reference: str
) -> ResidualTest:
    """Test whether quantiles of the residuals change with a predictor (n,).

    Under the model a share tau of the residuals is below tau at every value of the predictor. With
    Q (n, K) the orthonormalized columns of a constant and a natural spline in the predictor's rank,
    and ``s = Q'[1(u < tau) - tau]``, ``s's / (tau (1 - tau))`` is chi-square with K degrees of
    freedom: the score test, for all of its coefficients, of the regression spline for the quantile
    (R. Koenker and J. A. F. Machado, 1999, Journal of the American Statistical Association 94).
    """
    reference = draws.reference(reference)
    refuse_no_rows(draws, 2)
    Q = _rank_spline(x[draws.complete], name)
    u = draws.residuals(reference)

    def score(u: np.ndarray) -> np.ndarray:
        return np.stack([
            np.square(Q.T @ ((u < tau) - tau)).sum(axis=0) / (tau * (1.0 - tau)) for tau in taus
        ])  # fmt: skip

    statistics = by_column(u, score, 3)
    tails = scipy.special.chdtrc(Q.shape[1], statistics)
    p = tails[:, 0]
    if reference == "simulation":
        p = np.array([rank_p_value(row) for row in statistics])
        joint = rank_p_value(-tails.min(axis=0))
    else:
        joint = _joint(p)
    shares = [(u[:, 0] < tau).mean() for tau in taus]
    frame = pd.DataFrame(
        {"share_below": shares, "statistic": statistics[:, 0], "df": Q.shape[1], "p_value": p},
        index=pd.Index(taus, name="quantile"),
    )
    return ResidualTest(
        f"Quantiles of the residuals against {name}", float(statistics[:, 0].max()), joint,
        reference, frame,
        f"{how(draws, reference, 'chi-square')}; of all together {joint:.3g}",
    )  # fmt: skip


def _rank_spline(x: np.ndarray, name: str) -> np.ndarray:
    """Return orthonormal columns (n, K) of a spline in the ranks of x, as many as it has room."""
    distinct = len(np.unique(x))
    if distinct < 2:
        raise DataError(
            f"{name} has one value in all rows, so residuals cannot change with it; give another "
            "predictor="
        )
    ranks = scipy.stats.rankdata(x) / len(x)
    columns = np.column_stack([np.ones(len(x)), ranks])
    if distinct > SPLINE + 1:
        # knots by the distinct ranks, which ties leave apart
        knots = np.quantile(np.unique(ranks), np.linspace(0.0, 1.0, SPLINE + 1)[1:-1])
        basis = natural_basis(ranks, None, knots, None, False, {})
        columns = np.column_stack([np.ones(len(x)), basis])
    elif distinct > 2:
        columns = np.vander(ranks - ranks.mean(), distinct, increasing=True)
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, size > 1e-8 * size[0]]


def _joint(p: np.ndarray) -> float:
    """Return the smallest of p values adjusted by Benjamini and Hochberg."""
    return float((np.sort(p) * len(p) / np.arange(1, len(p) + 1)).min())


@dataclass(frozen=True, eq=False, repr=False)
class GroupTests(Printed):
    """Tests of simulated residuals by group.

    Attributes
    ----------
    uniformity : ResidualTest
        Kolmogorov and Smirnov's in every group; ``p_adjusted`` is for all of them together.
    homogeneity : ResidualTest
        Levene's test of equal variances, from the groups' medians.
    """

    uniformity: ResidualTest
    homogeneity: ResidualTest

    @property
    def p_value(self) -> float:
        """Of both together, by Bonferroni's rule."""
        return min(1.0, 2.0 * min(self.uniformity.p_value, self.homogeneity.p_value))

    def to_frame(self) -> pd.DataFrame:
        """Return one row a group: n, statistic, p_value, p_adjusted."""
        return self.uniformity.to_frame()

    def tables(self) -> list[Table]:
        """Return the two tests, one below the other."""
        return [self.uniformity.to_table(), self.homogeneity.to_table()]


def groups(
    draws: Draws, codes: np.ndarray, levels: list[str], name: str, reference: str
) -> GroupTests:
    """Test uniformity in every group, and whether variances are alike, with codes (n,)."""
    reference = draws.reference(reference)
    refuse_no_rows(draws, 2)
    used, codes = np.unique(codes[draws.complete], return_inverse=True)
    if len(used) < 2:
        raise DataError(f"{name} has one level in all rows; expected two or more groups")
    u, sizes = draws.residuals(reference), np.bincount(codes)
    D = by_column(u, lambda part: _kolmogorov_by_group(part, codes, sizes), 6)
    if reference == "simulation":
        p = np.array([rank_p_value(row) for row in D])
        # On a scale for groups of any size (Stephens 1970); the largest is Westfall and Young's.
        root = np.sqrt(sizes)[:, None]
        D_ = D * (root + 0.12 + 0.11 / root)
        most = D_.max(axis=0)[1:]
        adjusted = np.array([rank_p_value(np.append(own, most)) for own in D_[:, 0]])
    else:
        p = scipy.stats.kstwo.sf(D[:, 0], sizes)
        adjusted = _holm(p)
    frame = pd.DataFrame(
        {"n": sizes, "statistic": D[:, 0], "p_value": p, "p_adjusted": adjusted},
        index=pd.Index([levels[k] for k in used], name=name),
    )
    rule = "Westfall and Young" if reference == "simulation" else "Holm"
    within = ResidualTest(
        f"Uniformity of the residuals within {name} (Kolmogorov-Smirnov)", float(D[:, 0].max()),
        float(adjusted.min()), reference, frame,
        f"{how(draws, reference, 'Kolmogorov')}; adjusted by {rule}",
    )  # fmt: skip
    return GroupTests(within, _levene(draws, u, codes, sizes, name, reference))


def _kolmogorov_by_group(u: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the distances from uniform (G, k) of the groups of columns (n, k)."""
    ordered = np.sort(u + 2.0 * codes[:, None], axis=0)  # groups stay apart
    of_row = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum(sizes) - sizes
    ordered -= 2.0 * of_row[:, None]
    size = sizes[of_row][:, None]
    step = (np.arange(1, len(u) + 1) - first[of_row])[:, None] / size
    above = np.maximum.reduceat(step - ordered, first, axis=0)
    return np.maximum(above, np.maximum.reduceat(ordered - step + 1.0 / size, first, axis=0))


def _holm(p: np.ndarray) -> np.ndarray:
    """Return p values adjusted by Holm's rule, as R's ``p.adjust``."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    out = np.empty(len(p))
    out[order] = np.minimum(steps, 1.0)
    return out


def _levene(
    draws: Draws, u: np.ndarray, codes: np.ndarray, sizes: np.ndarray, name: str, reference: str
) -> ResidualTest:
    """Test equal variances by distances from the groups' medians (Brown and Forsythe 1974)."""
    G, n = len(sizes), len(codes)
    first = np.cumsum(sizes) - sizes
    middle = first + (sizes - 1) // 2, first + sizes // 2
    total = np.array([np.bincount(codes, minlength=G)]).T

    def F(u: np.ndarray) -> np.ndarray:
        ordered = np.sort(u + 2.0 * codes[:, None], axis=0)
        medians = 0.5 * (ordered[middle[0]] + ordered[middle[1]]) - 2.0 * np.arange(G)[:, None]
        far = np.abs(u - medians[codes])
        order = np.argsort(codes, kind="stable")
        means = np.add.reduceat(far[order], first, axis=0) / total
        between = (total * (means - far.mean(axis=0)) ** 2).sum(axis=0)
        within = ((far - means[codes]) ** 2).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return between / (G - 1) / (within / (n - G))

    if n <= G:
        raise DataError(
            f"{name} has as many levels as rows ({G}), one row each; expected groups of rows"
        )
    statistics = by_column(u, F, 6)
    p = float(f_tail(statistics[0], G - 1, n - G))
    if reference == "simulation":
        p = rank_p_value(statistics)
    frame = one_row("Levene", statistic=statistics[0], num_df=G - 1, den_df=n - G, p_value=p)
    return ResidualTest(
        f"Equal variances of the residuals over {name} (Levene)", float(statistics[0]), p,
        reference, frame, how(draws, reference, "F"),
    )  # fmt: skip


def temporal(
    draws: Draws, time: np.ndarray, codes: np.ndarray | None, name: str, reference: str
) -> ResidualTest:
    """Test neighbours in time for correlation, by Durbin and Watson.

    With codes (n,) of groups, neighbours are those of one group, around its own mean (A. Bhargava,
    L. Franzini and W. Narendranathan, 1982, Review of Economic Studies 49). Mean and variance under
    independence are those of normal residuals (J. Durbin and G. S. Watson, 1950, Biometrika 37).
    """
    reference = draws.reference(reference)
    refuse_no_rows(draws, 3)
    rows = draws.complete
    group = np.zeros(len(rows), dtype=np.intp) if codes is None else codes[rows]
    group = np.unique(group, return_inverse=True)[1]
    order = np.lexsort((time[rows], group))
    group, at = group[order], time[rows][order]
    same = group[1:] == group[:-1]
    if (same & (at[1:] == at[:-1])).any():
        inside = "" if codes is None else " in one group"
        raise DataError(
            f"{name} has several rows at the same time{inside}; give the groups that the series "
            "are of as group=, or one residual a time by recalculate(group=...)"
        )
    sizes = np.bincount(group)
    free, n_pairs = len(rows) - len(sizes), int(same.sum())
    if n_pairs < 2:
        raise DataError(f"{name}: no group has neighbours in time; expected series of rows")

    def DW(u: np.ndarray) -> np.ndarray:
        e = u[order]
        first = np.cumsum(sizes) - sizes
        e = e - (np.add.reduceat(e, first, axis=0) / sizes[:, None])[group]
        return np.square(np.diff(e, axis=0)[same]).sum(axis=0) / np.square(e).sum(axis=0)

    statistics = by_column(draws.residuals(reference), DW, 4)
    if reference == "simulation":
        p = rank_p_value(statistics, "two-sided")
    else:
        squares = float((6.0 * sizes[sizes > 1] - 8.0).sum())
        variance = 2.0 * (free * squares - (2.0 * n_pairs) ** 2) / (free**2 * (free + 2.0))
        p = float(2.0 * scipy.special.ndtr(-abs(statistics[0] - 2.0) / np.sqrt(variance)))
    frame = one_row(
        "Durbin-Watson", statistic=statistics[0], expected=float(statistics[1:].mean())
        if reference == "simulation" else 2.0, p_value=p,
    )  # fmt: skip
    return ResidualTest(
        f"Autocorrelation of the residuals along {name} (Durbin-Watson)", float(statistics[0]), p,
        reference, frame, how(draws, reference, "the normal distribution"),
    )  # fmt: skip


def spatial(
    draws: Draws, places: np.ndarray, name: str, alternative: str, reference: str
) -> ResidualTest:
    """Test neighbours in space (n, d) for correlation, by Moran's I.

    Weights are inverse distances over the sum of their row. Mean and variance under independence
    are those of random permutations (A. D. Cliff and J. K. Ord, 1981, Spatial Processes, chapter
    2).
    """
    reference = draws.reference(reference)
    refuse_no_rows(draws, 4)
    places = places[draws.complete]
    n = len(places)
    if n > MOST_PLACES:
        raise DataError(
            f"there are {n} places, and the test takes the distances of all pairs of up to "
            f"{MOST_PLACES}; put neighbours together by recalculate(group=...)"
        )
    if len(np.unique(places, axis=0)) < n:
        raise DataError(
            f"{name} have several rows at the same place, whose distance is zero; make one "
            "residual a place by recalculate(group=...)"
        )
    e = draws.residuals(reference)
    e = e - e.mean(axis=0)
    across, by_column_sum, S1 = np.zeros(e.shape[1]), np.zeros(n), 0.0
    size = max(CELLS // n, 1)
    inverse_sums = np.empty(n)
    for start in range(0, n, size):
        inverse_sums[start : start + size] = _inverse_distances(places, start, size).sum(axis=1)
    for start in range(0, n, size):
        part = slice(start, start + size)
        W = _inverse_distances(places, start, size)
        across += np.einsum("ik,ik->k", e[part], (W / inverse_sums[part, None]) @ e)
        both = W / inverse_sums[part, None] + W / inverse_sums
        S1 += 0.5 * float((both**2).sum())
        by_column_sum += (W / inverse_sums[part, None]).sum(axis=0)
    square = np.square(e).sum(axis=0)
    I = across / square  # weights add up to n
    if reference == "simulation":
        p, expected = rank_p_value(I, alternative), float(I[1:].mean())
    else:
        expected = -1.0 / (n - 1)
        S2 = float(((1.0 + by_column_sum) ** 2).sum())
        kurtosis = float(n * (e[:, 0] ** 4).sum() / square[0] ** 2)
        a = n * ((n * n - 3 * n + 3) * S1 - n * S2 + 3.0 * n * n)
        b = kurtosis * (n * (n - 1) * S1 - 2 * n * S2 + 6.0 * n * n)
        variance = (a - b) / ((n - 1) * (n - 2) * (n - 3) * n * n) - expected**2
        z = (I[0] - expected) / np.sqrt(variance)
        tails = {"greater": scipy.special.ndtr(-z), "less": scipy.special.ndtr(z)}
        p = float(tails.get(alternative, 2.0 * scipy.special.ndtr(-abs(z))))
    frame = one_row("Moran", statistic=I[0], expected=expected, p_value=p)
    return ResidualTest(
        f"Autocorrelation of the residuals over {name} (Moran's I, {alternative})", float(I[0]), p,
        reference, frame, how(draws, reference, "the normal distribution"),
    )  # fmt: skip


def _inverse_distances(places: np.ndarray, start: int, size: int) -> np.ndarray:
    """Return the inverse distances of some places from all, zero from themselves."""
    own = places[start : start + size]
    D = scipy.spatial.distance.cdist(own, places)
    D[np.arange(len(own)), start + np.arange(len(own))] = np.inf
    return 1.0 / D
