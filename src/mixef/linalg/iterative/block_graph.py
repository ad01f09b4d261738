"""Which effects of any number of crossed terms occur together, and products with those blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from mixef.linalg.crossproducts import CrossProducts, Pairs
from mixef.linalg.iterative.graph import Side, by_frequency, named, pairs_of
from mixef.linalg.layout import Layout


class BlockPlaces:
    """Where the values of each side of a `BlockGraph` stand among those of its pairs, found once.

    Parameters
    ----------
    layout : Layout
    pairs : dict of (i, j) to Pairs
        Of which the values are not read.
    ranks : sequence of ndarray of int (l_i,)
        Of the levels, by frequency.
    """

    def __init__(
        self,
        layout: Layout,
        pairs: dict[tuple[int, int], Pairs],
        ranks: Sequence[np.ndarray],
    ):
        self._layout, self._pairs, self._ranks = layout, pairs, ranks

    @cached_property
    def sides(self) -> dict[tuple[int, int], np.ndarray]:
        """Places of the values of the sides of any two terms."""
        out = {}
        for (i, j), pair in self._pairs.items():
            # From two on: `_side` leaves out ones.
            numbers = np.arange(2.0, 2.0 + pair.blocks.size).reshape(pair.blocks.shape)
            numbered = replace(pair, blocks=numbers)
            both = _sides(numbered, self._layout, i, j, self._ranks[i], self._ranks[j])
            for key, side in zip(((i, j), (j, i)), both, strict=True):
                out[key] = (side.values - 2.0).astype(np.uint32)
        return out


@dataclass(frozen=True)
class BlockGraph:
    """The blocks ``Z_i'WZ_j`` of a layout, one term with the most levels set apart as the first.

    Levels of each term stand in order of falling frequency, with the columns of a level side by
    side.
    """

    layout: Layout
    sides: dict[tuple[int, int], Side]  # for all i, j that are not equal: by the effects of i
    roles: tuple[int, ...]  # blocks of the layout: that which is eliminated, then the others
    positions: tuple[np.ndarray, ...]  # by role: where in its block each effect stands
    names: str
    places: BlockPlaces  # where the values of the sides come from

    def reloaded(self, products: CrossProducts) -> BlockGraph:
        """Return the graph of the same pairs with the values that they have now."""
        if not all(
            key in products.pairs and products.pairs[key].blocks.size == len(self.sides[key].other)
            for key in _keys(self.layout)
        ):
            return block_graph_of(products)
        sides = {}
        for (i, j), places in self.places.sides.items():
            values = products.pairs[min(i, j), max(i, j)].blocks.ravel()
            sides[i, j] = replace(self.sides[i, j], values=values[places])
        return replace(self, sides=sides)

    @property
    def n_pairs(self) -> int:
        """How many numbers a product with E reads, to and fro, over two."""
        return sum(len(side.other) for side in self.sides.values()) // 2

    def products(
        self, diagonals: Sequence[np.ndarray], V1: np.ndarray, V2: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ``Z'WZ v`` for the two parts of v, in the graph's order."""
        ends = np.cumsum([len(order) for order in self.positions[1:]])[:-1]
        parts = dict(zip(self.roles, [V1, *np.split(V2, ends)], strict=True))
        out = []
        for i, D in zip(self.roles, diagonals, strict=True):
            total = (D @ parts[i].reshape(len(D), D.shape[1], -1)).reshape(parts[i].shape)
            for j in self.roles:
                if j != i:
                    total = total + self.sides[i, j].gather(parts[j])
            out.append(total)
        return out[0], np.concatenate(out[1:])


def block_graph_of(products: CrossProducts) -> BlockGraph:
    """Return the graph of the pairs of levels of all terms."""
    layout = products.layout
    first = int(np.argmax(layout.n_levels))
    roles = (first, *(i for i in range(len(layout)) if i != first))
    pairs = {key: pairs_of(products, *key) for key in _keys(layout)}
    orders, ranks = [], []
    for i in range(len(layout)):
        codes = [pair.rows if key[0] == i else pair.cols for key, pair in pairs.items() if i in key]
        order, rank = by_frequency(np.concatenate(codes), layout.n_levels[i])
        orders.append(order)
        ranks.append(rank)
    sides = {}
    for (i, j), pair in pairs.items():
        sides[i, j], sides[j, i] = _sides(pair, layout, i, j, ranks[i], ranks[j])
    positions = tuple(_effects(orders[i], layout.widths[i]).ravel() for i in roles)
    places = BlockPlaces(layout, pairs, ranks)
    return BlockGraph(layout, sides, roles, positions, named(layout), places)


def _keys(layout: Layout) -> list[tuple[int, int]]:
    return [(i, j) for i in range(len(layout)) for j in range(i + 1, len(layout))]


def _effects(levels: np.ndarray, width: int) -> np.ndarray:
    """Return the effects (m, s) of levels (m,)."""
    effects: np.ndarray = levels[:, None] * width + np.arange(width)
    return effects


def _sides(
    pair: Pairs, layout: Layout, i: int, j: int, rank_i: np.ndarray, rank_j: np.ndarray
) -> tuple[Side, Side]:
    """Return the pairs by the effects of either term; those that come twice are added up."""
    shape = pair.blocks.shape
    rows = np.broadcast_to(_effects(rank_i[pair.rows], layout.widths[i])[:, :, None], shape)
    cols = np.broadcast_to(_effects(rank_j[pair.cols], layout.widths[j])[:, None, :], shape)
    sizes = tuple(layout.n_levels[t] * layout.widths[t] for t in (i, j))
    places = (rows.ravel(), cols.ravel())
    matrix = sparse.csr_array(sparse.coo_array((pair.blocks.ravel(), places), shape=sizes))
    return _side(matrix), _side(sparse.csr_array(matrix.T))


def _side(matrix: sparse.csr_array) -> Side:
    matrix.sort_indices()
    ones = bool((matrix.data == 1.0).all())
    values = np.empty(0) if ones else matrix.data
    return Side(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), values)
