"""How ``log|M|`` moves with the weights of the rows, estimated with the vectors of its value.

With the larger term eliminated, ``log|M| = log|M_11| + log|C C'| + log|I + E|``. The derivative of
the first two is exact. For the last, with ``f'(E) = -E (I + E)^-1`` and N the derivative of
``C B C'`` between ``C^-1`` and ``C^-T``, whose own blocks are n,

    tr(f'(E) dE) = tr(N f'(E)) - tr((n B + B n) f'(E)) / 2,

where the second trace is ``-tr(n E) = 0``, and takes most of the variance away. One vector sees
``z'N y`` of the first, ``y = f'(E) z``, which is ``x(z)'(Z'dW Z) x(y)`` with x of `Scaled.lifted`
(eq-beyond-iterative-weights in docs/theory): a sum over the pairs of levels that occur, wherever
the rows are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mixef.linalg.crossproducts import Pairs, SymmetricBlocks
from mixef.linalg.factor import WeightSlopes
from mixef.linalg.iterative.graph import THREADS, WIDTH, WORTH_THREADS, by_width, in_threads
from mixef.linalg.iterative.lanczos import derivative_images
from mixef.linalg.iterative.logdet import Estimate
from mixef.linalg.iterative.probes import signs
from mixef.linalg.iterative.scaled import Scaled
from mixef.linalg.kernels import compiled
from mixef.linalg.patterned import Cells, PatternedProducts

Joined = Callable[[np.ndarray, np.ndarray, tuple[int, ...]], np.ndarray]


class WeightChanges:
    """A remainder ``B = I + E``, and changes of the weights of the rows.

    Parameters
    ----------
    scaled : Scaled
    graph : Graph or BlockGraph
        Of ``scaled``.
    groups : PatternedProducts
        ``Z'WZ``, at the weights that ``scaled`` has.
    changes : ndarray (K, v)
        Values of ``Z'dW Z``, one row a direction.
    joined : callable
        Returns the effects of both parts in the order of the layout.

    Attributes
    ----------
    inverse : ndarray (v,)
        Values of ``Lambda M^-1 Lambda'``, each times how often it occurs: those that E = 0 would
        give.
    """

    def __init__(
        self,
        scaled: Scaled,
        graph: Any,
        groups: PatternedProducts[Any],
        changes: np.ndarray,
        joined: Joined,
    ):
        self.scaled, self.groups, self.changes, self._joined = scaled, groups, changes, joined
        layout, pairs = groups.layout, groups.products.pairs
        first, *rest = graph.roles
        self._levels = [
            positions[:: layout.widths[i]] // layout.widths[i]
            for i, positions in zip(graph.roles, graph.positions, strict=True)
        ]
        blocks = [groups.blocks(values) for values in changes]
        W = self._in_layout(0, scaled.first)
        moved = [W @ change.diagonal[first] @ W for change in blocks]
        diagonal = [W] * len(layout)
        between = {key: np.zeros(pair.blocks.shape) for key, pair in pairs.items()}
        self._own = []
        for k, i in enumerate(rest):
            H = scaled.roots[k]
            of_first, of_i, A = _facing(pairs[_key(first, i)], first > i)
            WA, Q = W[of_first] @ A, H @ H.transpose(0, 2, 1)
            back = self._in_layout(0, scaled.squares_of_first(k, Q))
            diagonal[first] = diagonal[first] + W @ back @ W
            diagonal[i] = self._in_layout(k + 1, Q)
            cross = -WA @ diagonal[i][of_i]
            between[_key(first, i)] = _turned(cross, first > i)
            own = np.empty((len(changes), *H.shape))
            for n, change, of_weights in zip(own, blocks, moved, strict=True):
                dA = _turned(change.pairs[_key(first, i)], first > i)
                met = _level_sums(of_i, dA.transpose(0, 2, 1) @ WA, layout.n_levels[i])
                whole = change.diagonal[i] - met - met.transpose(0, 2, 1)
                squares = scaled.squares_of(k, of_weights[self._levels[0]])
                n[:] = whole[self._levels[k + 1]] + squares
            self._own.append(H.transpose(0, 2, 1) @ own @ H)  # (K, l, s, s)
        self.inverse = groups.multiplied(SymmetricBlocks(diagonal, between))

    def _in_layout(self, role: int, blocks: np.ndarray) -> np.ndarray:
        """Return the blocks (l, s, s) of levels in the graph's order in that of the layout."""
        out = np.empty_like(blocks)
        out[self._levels[role]] = blocks
        return out

    def seen(self, V: np.ndarray, steps: int, single: bool, share: float) -> np.ndarray:
        """Return what a block V (size, 8) sees of the directions (8, K).

        ``share`` of what it sees of the inverse is added to that.
        """
        EV, y = derivative_images(self.scaled, V, steps, single)
        forms = self._on_pattern(self._effects(V), self._effects(y), share)
        BV, start = V + EV, 0
        for n in self._own:
            l, s = n.shape[1:3]
            v, Ev, Bv, z = (
                part[start : start + l * s].reshape(l, s, -1) for part in (V, EV, BV, y)
            )
            for a in range(s):
                for b in range(s):
                    forms += n[:, :, a, b] @ (0.5 * (v[:, a] * Ev[:, b] - Bv[:, a] * z[:, b]))
            start += l * s
        return forms.T

    def _effects(self, V: np.ndarray) -> np.ndarray:
        one, two = self.scaled.lifted(V)
        return self._joined(one, two, (self.groups.layout.q, V.shape[1]))

    def _on_pattern(self, x: np.ndarray, y: np.ndarray, share: float) -> np.ndarray:
        """Return ``x'(Z'dW Z)y`` (K, 8) column by column, and take in what the inverse has of it.

        Parameters
        ----------
        x, y : ndarray (q, 8)
        """
        total = np.zeros((len(self.changes), WIDTH))
        for cells in self.groups.cells:
            total += self._on_cells(cells, x, y, share)
        return total

    def _on_cells(self, cells: Cells, x: np.ndarray, y: np.ndarray, share: float) -> np.ndarray:
        layout, kernel, n = self.groups.layout, compiled()["cell_forms"], cells.count
        rows, cols = np.arange(n), np.arange(n, dtype=np.int32)  # as those of pairs are
        if cells.i != cells.j:
            pair = self.groups.products.pairs[cells.i, cells.j]
            rows, cols = pair.rows, pair.cols
        sides = [v[layout.slice(i)] for i in (cells.i, cells.j) for v in (x, y)]
        own = slice(cells.first, cells.stop)
        values = self.changes[:, own], self.inverse[own]
        times = 0.5 * cells.multiplicities
        parts = THREADS if n * WIDTH >= WORTH_THREADS else 1
        bounds = np.linspace(0, n, parts + 1).astype(int)
        sums = np.zeros((parts, len(self.changes), WIDTH))

        def part(k: int, _: int) -> None:
            ends = bounds[k], bounds[k + 1]
            kernel(rows, cols, cells.a, cells.b, times, *sides, *values, share, sums[k], *ends)

        in_threads(part, list(range(parts + 1)))
        total: np.ndarray = sums.sum(axis=0)
        return total


def weight_slopes(rows: WeightChanges, found: Estimate | None) -> WeightSlopes:
    """Return the derivatives for the weights, with the vectors of an estimate of ``log|M|``.

    Parameters
    ----------
    found : Estimate, optional
        None where E is zero.
    """
    samples = np.empty((0, len(rows.changes)))
    total = rows.changes @ rows.inverse
    if found is None:
        return WeightSlopes(total, samples, rows.inverse)
    effort, Q = found.effort, found.Q
    for block in by_width(Q):
        total += rows.seen(block, effort.steps, single=False, share=1.0).sum(axis=0)
    n = len(found.probes)
    for number in range(n // WIDTH):
        z = signs(len(Q), effort.seed, number)
        forms = rows.seen(z - Q @ (Q.T @ z), effort.steps, single=True, share=1.0 / n)
        samples = np.concatenate([samples, forms])
    if n:
        total = total + samples.mean(axis=0)
    return WeightSlopes(total, samples, rows.inverse)


def _key(i: int, j: int) -> tuple[int, int]:
    return min(i, j), max(i, j)


def _turned(blocks: np.ndarray, turns: bool) -> np.ndarray:
    return blocks.transpose(0, 2, 1) if turns else blocks


def _facing(pair: Pairs, turns: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return levels and blocks of pairs, or those of the other factor first."""
    levels = (pair.cols, pair.rows) if turns else (pair.rows, pair.cols)
    return *levels, _turned(pair.blocks, turns)


def _level_sums(levels: np.ndarray, blocks: np.ndarray, n_levels: int) -> np.ndarray:
    """Return the sums (l, s, s) of blocks (m, s, s) over the pairs of every level."""
    s = blocks.shape[1]
    sums = [np.bincount(levels, column, n_levels) for column in blocks.reshape(-1, s * s).T]
    return np.stack(sums, axis=1).reshape(n_levels, s, s)
