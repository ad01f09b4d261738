"""How ``log|M|`` moves with the weights of the rows, estimated with the vectors of its value.

With the larger term eliminated, ``log|M| = log|M_11| + log|C C'| + log|I + E|``. The derivative of
the first two is exact. For the last, with ``f'(E) = -E (I + E)^-1`` and N the derivative of
``C B C'`` between ``C^-1`` and ``C^-T``, whose own blocks are n,

    tr(f'(E) dE) = tr(N f'(E)) - tr((n B + B n) f'(E)) / 2,

where the second trace is ``-tr(n E) = 0``, and takes most of the variance away. One vector sees
``z'N y`` of the first, ``y = f'(E) z``, which is a sum over the rows of ``dW_r x_r(z) x_r(y)``
with x of `Scaled.lifted` (eq-beyond-iterative-weights in docs/theory).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mixef.linalg.factor import WeightSlopes
from mixef.linalg.iterative.graph import WIDTH, by_width
from mixef.linalg.iterative.lanczos import derivative_images
from mixef.linalg.iterative.logdet import Estimate
from mixef.linalg.iterative.probes import signs
from mixef.linalg.iterative.scaled import Scaled
from mixef.linalg.reweighted import ReweightedProducts

Joined = Callable[[np.ndarray, np.ndarray, tuple[int, ...]], np.ndarray]


class WeightedRows:
    """The rows of a remainder ``B = I + E``, and changes of their weights.

    Parameters
    ----------
    scaled : Scaled
    graph : Graph or BlockGraph
        Of ``scaled``.
    groups : ReweightedProducts
        The rows, at the weights that ``scaled`` has.
    changes : ndarray (n, K)
    joined : callable
        Returns the effects of both parts in the order of the layout.

    Attributes
    ----------
    leverages : ndarray (n,)
        What is exact of the leverages: those that E = 0 would give.
    """

    def __init__(
        self,
        scaled: Scaled,
        graph: Any,
        groups: ReweightedProducts,
        changes: np.ndarray,
        joined: Joined,
    ):
        self.scaled, self.groups, self.changes, self._joined = scaled, groups, changes, joined
        first, *rest = graph.roles
        self._by_row = np.ascontiguousarray(changes.T)
        self._levels = [
            positions[:: groups.layout.widths[i]] // groups.layout.widths[i]
            for i, positions in zip(graph.roles, graph.positions, strict=True)
        ]
        Wz = _times(self._of_rows(first, 0, scaled.first), groups.columns(first))
        self.leverages = _dots(Wz, groups.columns(first))
        moved = self._sums(first, 0, Wz)  # W dP W, level by level
        self._own = []
        for k, i in enumerate(rest):
            H = self._of_rows(i, k + 1, scaled.roots[k])
            met = _times(groups.pair_rows(first, i).transpose(0, 2, 1), Wz)
            left = groups.columns(i) - met
            for sign, v in ((1.0, left), (-1.0, met)):
                Hv = _times(H.transpose(0, 2, 1), v)
                self.leverages += sign * _dots(Hv, Hv)
            Q = scaled.roots[k] @ scaled.roots[k].transpose(0, 2, 1)
            back = self._of_rows(first, 0, scaled.squares_of_first(k, Q))
            self.leverages += _dots(_times(back, Wz), Wz)
            own = self._sums(i, k + 1, left) - self._sums(i, k + 1, met)
            own += np.array([scaled.squares_of(k, D) for D in moved]).reshape(own.shape)
            H = scaled.roots[k]
            self._own.append(H.transpose(0, 2, 1) @ own @ H)  # (K, l, s, s)

    def _of_rows(self, i: int, role: int, blocks: np.ndarray) -> np.ndarray:
        """Return every row's block (n, s, s), of those in the graph's order."""
        by_level = np.empty_like(blocks)
        by_level[self._levels[role]] = blocks
        return self.groups.level_rows(i, by_level)

    def _sums(self, i: int, role: int, v: np.ndarray) -> np.ndarray:
        """Return ``sum_r dW_r v_r v_r'`` (K, l, s, s) by level, in the graph's order."""
        s, levels = v.shape[1], self._levels[role]
        out = np.empty((len(self._by_row), len(levels), s, s))
        for a in range(s):
            for b in range(a + 1):
                sums = self.groups.level_sums(i, self._by_row * (v[:, a] * v[:, b]))
                out[:, :, a, b] = out[:, :, b, a] = sums[:, levels]
        return out

    def seen(self, V: np.ndarray, steps: int, single: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return what a block V (size, 8) sees: of the directions (8, K), of the rows (n, 8)."""
        EV, y = derivative_images(self.scaled, V, steps, single)
        by_row = self._on_rows(V)
        by_row *= self._on_rows(y)
        forms = self._by_row @ by_row
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
        return forms.T, by_row

    def _on_rows(self, V: np.ndarray) -> np.ndarray:
        one, two = self.scaled.lifted(V)
        shape = self.groups.layout.q, V.shape[1]
        return self.groups.Z(self._joined(one, two, shape))


def weight_slopes(rows: WeightedRows, found: Estimate | None) -> WeightSlopes:
    """Return the derivatives for the weights, with the vectors of an estimate of ``log|M|``.

    Parameters
    ----------
    found : Estimate, optional
        None where E is zero.
    """
    K = rows.changes.shape[1]
    leverages, samples = rows.leverages.copy(), np.empty((0, K))
    total = rows.changes.T @ leverages
    if found is None:
        return WeightSlopes(total, samples, leverages)
    effort, Q = found.effort, found.Q
    for block in by_width(Q):
        forms, by_row = rows.seen(block, effort.steps, single=False)
        total += forms.sum(axis=0)
        leverages += by_row.sum(axis=1)
    n = len(found.probes)
    for number in range(n // WIDTH):
        z = signs(len(Q), effort.seed, number)
        forms, by_row = rows.seen(z - Q @ (Q.T @ z), effort.steps, single=True)
        samples = np.concatenate([samples, forms])
        leverages += by_row.sum(axis=1) / n
    if n:
        total = total + samples.mean(axis=0)
    return WeightSlopes(total, samples, leverages)


def _times(blocks: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the products (n, a) of blocks (n, a, b) and vectors (n, b)."""
    if blocks.shape[1:] == (1, 1):
        scaled: np.ndarray = blocks[:, :, 0] * v
        return scaled
    product: np.ndarray = np.einsum("nab,nb->na", blocks, v)
    return product


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the inner products (n,) of rows."""
    dots: np.ndarray = np.einsum("na,na->n", u, v)
    return dots
