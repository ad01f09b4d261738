"""Cross-products from sums over groups of rows, where the rows are elsewhere.

The rows of X and of Z are linear in a few features of a row (monomials of its numbers), with
coefficients that only its cell decides (the levels of the factors in the columns). So the sums of
products of features over the rows of each level and cell are all that cross-products need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from mixef.linalg.crossproducts import CrossProducts, Pairs
from mixef.linalg.kernels import compiled
from mixef.linalg.pairs import PairOrder, is_sorted
from mixef.linalg.sources import ScaledChunks, Scan
from mixef.linalg.standardize import independent_columns, stacked

#: Rows of triangular factors that are stacked at a time.
STACKED = 20_000
#: Beside unit features, what is left of one after those before has to be larger: the sums are exact
#: to about 1e-14, and what is left of them is no more exact.
LEAST_LEFT = 1e-2
#: Columns whose rest is between these two may be combinations of others, or not.
UNCLEAR = (1e-12, 1e-5)


class CellSums:
    """Sums of rows that come some at a time, over cells of which most have rows.

    Parameters
    ----------
    n_cells : int
    width : int
        Numbers of a row.

    Examples
    --------
    >>> sums = CellSums(3, 1)
    >>> sums.add(np.array([2, 0, 2]), np.array([[1.0, 5.0, 0.5]]))
    >>> cells, total = sums.total()
    >>> cells.tolist(), total.tolist()
    ([0, 2], [[1.0, 5.0], [2.0, 1.5]])
    """

    def __init__(self, n_cells: int, width: int):
        self._table = np.zeros((n_cells, 1 + width))  # what a row changes is in one place

    def add(self, cells: np.ndarray, values: np.ndarray) -> None:
        """Add rows with cells (k,) and numbers (width, k)."""
        compiled()["add_to_cells"](self._table, cells, values)

    def total(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells (m,) that have rows, in order, how many, and sums (m, 1 + width)."""
        cells = np.flatnonzero(self._table[:, 0])
        return cells, self._table[cells]


@dataclass(frozen=True)
class SumTable:
    """Sums over the rows of every cell, of the levels of one or two grouping factors.

    Each combination of levels and cell occurs once.
    """

    levels: tuple[np.ndarray, ...]  # each int (m,): levels of a grouping factor
    cells: np.ndarray  # int (m,)
    sums: np.ndarray  # (m, K): of weights times monomials
    place: np.ndarray  # int (F, F): which monomial is the product of two features; -1 where none
    #: Each (cells, F, k): columns in features, by cell. The response is behind X.
    columns: tuple[np.ndarray, ...]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.columns[0])

    def by_cell(self) -> np.ndarray:
        """Return the sums over all levels (cells, K)."""
        out = np.zeros((self.n_cells, self.sums.shape[1]))
        for k, column in enumerate(self.sums.T):
            out[:, k] = np.bincount(self.cells, column, self.n_cells)
        return out

    def moments(self) -> np.ndarray:
        """Return the sums of products of features (cells, F, F), of those that were summed."""
        sums = np.column_stack([self.by_cell(), np.zeros(self.n_cells)])
        moments: np.ndarray = sums[:, self.place]
        return moments

    def triangle(self, which: int) -> np.ndarray:
        """Return the triangular factor (min(.., k), k) of weighted columns over all rows."""
        columns = self.columns[which]
        used = np.flatnonzero(columns.any(axis=(0, 2)))
        roots = _roots(self.moments()[:, used[:, None], used])
        top = np.zeros((0, columns.shape[2]))
        step = max(STACKED // max(len(used), 1), 1)
        for start in range(0, self.n_cells, step):
            part = slice(start, start + step)
            rows = roots[part] @ columns[part][:, used]
            top = stacked(top, rows.reshape(-1, columns.shape[2]))
        return top

    def products(
        self, left: np.ndarray, right: np.ndarray
    ) -> Iterator[tuple[np.ndarray | slice, np.ndarray]]:
        """Yield the sums of products of columns (cells, F, s), (cells, F, k), a cell at a time.

        Yields
        ------
        rows : ndarray of int (r,)
            The rows of the table in one cell, or a slice for all.
        products : ndarray (r, s, k)
        """
        first, second = (np.flatnonzero(c.any(axis=(0, 2))) for c in (left, right))
        place = self.place[first[:, None], second]
        assert (place >= 0).all()
        monomials, which = np.unique(place, return_inverse=True)
        which = which.reshape(place.shape)
        order = np.argsort(self.cells, kind="stable") if self.n_cells > 1 else None
        ends = np.bincount(self.cells, minlength=self.n_cells).cumsum()
        size = left.shape[2] * right.shape[2]
        for cell, end in enumerate(ends.tolist()):
            rows = slice(None) if order is None else order[(ends[cell - 1] if cell else 0) : end]
            weights = np.zeros((len(monomials), left.shape[2], right.shape[2]))
            for a, b in np.ndindex(*place.shape):
                weights[which[a, b]] += np.multiply.outer(
                    left[cell, first[a]], right[cell, second[b]]
                )
            sums = self.sums if order is None else self.sums[rows]
            sums = sums if len(monomials) == sums.shape[1] else sums[:, monomials]
            yield rows, (sums @ weights.reshape(-1, size)).reshape(len(sums), *weights.shape[1:])


@dataclass(frozen=True)
class TableSums:
    """All that a linear model needs of its rows, summed by an engine."""

    n: int
    sum_log_w: float
    sum_w: float
    sum_w2: float  # of squared weights
    n_levels: tuple[int, ...]  # of the grouping factors, blocks in order
    members: Sequence[list[int]]  # the terms of each grouping factor
    #: One a grouping factor; its columns are ``[X y]`` and then z of each of its terms.
    own: tuple[SumTable, ...]
    #: For two grouping factors; the columns are those of their terms side by side.
    pairs: Mapping[tuple[int, int], SumTable]
    largest: np.ndarray  # (K,): absolute values of the columns of `Scan`, weights left out
    largest_weight: float | None

    def scan(self) -> Scan | None:
        """Return what a pass over the rows would tell; None where sums have too few digits."""
        if not all(map(_well_conditioned, self.own)):
            return None
        table = self.own[0]
        tops = [table.triangle(0)]
        by_term = {
            t: self.own[i].triangle(1 + k)
            for i, of_group in enumerate(self.members)
            for k, t in enumerate(of_group)
        }
        tops += [by_term[t] for t in sorted(by_term)]
        sums = [self._sums(table, 0)]
        squares = [(top**2).sum(axis=0) / self.sum_w for top in tops]
        sums += [np.zeros(len(s)) for s in squares[1:]]
        # The response stands before X there.
        sums[0], squares[0] = np.roll(sums[0], 1), np.roll(squares[0], 1)
        # What is known of factors are bounds, also where no row has a combination of levels.
        nothing = np.concatenate(squares) == 0.0
        largest, p1 = np.where(nothing, 0.0, self.largest), len(squares[0])
        if self.largest_weight is not None:
            sums.insert(1, np.array([self.sum_w]))
            squares.insert(1, np.array([self.sum_w2 / self.n]))
            largest = np.insert(largest, p1, self.largest_weight)
        known = Scan(
            self.n, self.sum_log_w, tops, np.concatenate(sums), np.concatenate(squares), largest
        )
        return known if _is_clear(tops[0][:, :-1]) else None

    def _sums(self, table: SumTable, which: int) -> np.ndarray:
        """Return n times the weighted means of columns."""
        first = table.moments()[:, 0]
        columns = table.columns[which]
        used = np.flatnonzero(columns.any(axis=(0, 2)))
        total: np.ndarray = np.einsum("cf,cfk->k", first[:, used], columns[:, used])
        return total * (self.n / self.sum_w)

    def products(self, kept: np.ndarray, rows: ScaledChunks) -> CrossProducts:
        """Return the cross-products of scaled columns.

        Parameters
        ----------
        kept : ndarray of int (p,)
            Columns of X that are estimated.
        rows : ScaledChunks
            The scaled rows, whose scales are wanted.
        """
        layout = rows.layout
        k = len(kept) + 1
        ZtXy = np.zeros((layout.q, k))
        diagonal = []
        for i, table in enumerate(self.own):
            z, columns = self._scaled_z(table, rows, i), scaled_columns(table, rows, kept)
            wide = np.concatenate([z, columns], axis=2)
            s, out = z.shape[2], np.zeros((self.n_levels[i], z.shape[2], z.shape[2] + k))
            for part, values in table.products(z, wide):
                out[table.levels[0][part]] += values
            diagonal.append(0.5 * (out[:, :, :s] + out[:, :, :s].transpose(0, 2, 1)))
            ZtXy[layout.slice(i)] = out[:, :, s:].reshape(-1, k)
        gram = np.zeros((k, k))
        table = self.own[0]
        columns = scaled_columns(table, rows, kept)
        for cell, moments in enumerate(table.moments()):
            gram += columns[cell].T @ moments @ columns[cell]
        gram = 0.5 * (gram + gram.T)
        pairs = {(i, j): self._pairs(rows, i, j) for i, j in self.pairs}
        return CrossProducts(
            layout,
            tuple(diagonal),
            pairs,
            np.ascontiguousarray(ZtXy[:, :-1]),
            np.ascontiguousarray(ZtXy[:, -1]),
            gram[:-1, :-1],
            gram[:-1, -1],
            float(gram[-1, -1]),
            self.n,
        )

    def _scaled_z(self, table: SumTable, rows: ScaledChunks, i: int) -> np.ndarray:
        """Return the scaled columns of a block (cells, F, s)."""
        z: np.ndarray = np.concatenate(table.columns[1:], axis=2) @ rows.z_back[i]
        return z

    def _pairs(self, rows: ScaledChunks, i: int, j: int) -> Pairs:
        table = self.pairs[i, j]
        left, right = (c @ rows.z_back[b] for c, b in zip(table.columns, (i, j), strict=True))
        if table.n_cells == 1:
            _, blocks = next(table.products(left, right))
        else:
            blocks = np.empty((len(table.cells), left.shape[2], right.shape[2]))
            for part, values in table.products(left, right):
                blocks[part] = values
        first, second = table.levels
        if is_sorted(first, second):
            return Pairs(first, second, blocks)
        order = PairOrder.of(first, second, (self.n_levels[i], self.n_levels[j]))
        blocks = np.take(blocks, order.order, axis=0)
        if len(order.starts) < len(blocks):  # a pair of levels is in several cells
            blocks = np.add.reduceat(blocks, order.starts, axis=0)
        return Pairs(order.rows, order.cols, blocks)


def scaled_columns(table: SumTable, rows: ScaledChunks, kept: np.ndarray) -> np.ndarray:
    """Return the scaled columns of X, and the scaled response, in features (cells, F, p + 1)."""
    own = table.columns[0]
    n_cells, n_features, _ = own.shape
    X = own[:, :, kept].reshape(n_cells * n_features, len(kept))
    y = own[:, :, -1].ravel()
    Q = solve_triangular(rows.x_basis.R, X.T, trans=1).T if len(kept) else X
    residual = (y - Q @ rows.y_scale.beta0) / rows.y_scale.scale
    return np.column_stack([Q, residual]).reshape(n_cells, n_features, -1)


def _roots(moments: np.ndarray) -> np.ndarray:
    """Return roots R (cells, F, F) of positive semidefinite matrices ``S = R'R``."""
    size = np.sqrt(np.maximum(np.einsum("cff->cf", moments), 0.0))
    unit = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(moments / (unit[:, :, None] * unit[:, None, :]))
    half = np.sqrt(np.maximum(values, 0.0))[:, :, None] * vectors.transpose(0, 2, 1)
    roots: np.ndarray = half * unit[:, None, :]
    return roots


def _well_conditioned(table: SumTable) -> bool:
    """Tell whether features are far from being combinations of each other, over all rows."""
    used = np.flatnonzero(table.place.diagonal() >= 0)
    moments = table.moments().sum(axis=0)[used[:, None], used]
    size = np.sqrt(moments.diagonal())
    varies = size > 0
    unit = moments[np.ix_(varies, varies)] / (size[varies][:, None] * size[varies])
    try:
        return bool(np.linalg.cholesky(unit).diagonal().min(initial=1.0) > LEAST_LEFT)
    except np.linalg.LinAlgError:
        return False


def _is_clear(top: np.ndarray) -> bool:
    """Tell whether every column is a combination of earlier ones, or far from it."""
    low, high = (independent_columns(top, tolerance) for tolerance in UNCLEAR)
    return np.array_equal(low, high)
