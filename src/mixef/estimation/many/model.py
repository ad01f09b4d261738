"""A linear model for many responses: its random effects in orthonormal coordinates.

Levels of grouping factors that meet in some row of the data hang together in one component, and
``V = I + Z Lambda Lambda' Z'`` is block diagonal by components. With ``Z_c = E_c R_c`` and
``E_c'E_c = I``, all of V that differs from the identity is a small matrix a component,

    N_c = I + R_c Lambda Lambda' R_c' = I + sum_e s_e B_ce,

linear in the distinct entries ``s_e`` of the terms' ``lam lam'``. The matrices ``B_ce``, the
columns ``E_c'X`` and what the components leave of X are the same for every response.

In a balanced design many components are alike, in ``B_ce`` and in ``E_c'X``. Turned by a rotation
among c of them, X is in the first alone, times the root of c, and the responses of the others count
only by their sums of squares and products: t rows hold these. So one matrix serves for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from mixef.estimation.scaling import ScaledTerms
from mixef.linalg.layout import Layout
from mixef.linalg.rows import GroupDesign
from mixef.terms.parametrization import Parametrization

# An eigenvalue of Z_c'Z_c below this share of the largest is a combination of columns that is zero.
NULL = 1e-12
# Floating-point operations of one evaluation of one response, and numbers that it holds, beyond
# which responses are fitted one by one: BLAS then works on matrices that are large enough.
MOST_OPERATIONS = 4e6
MOST_NUMBERS = 2_000_000
# Numbers of two components that agree to this, beside the largest, are alike.
ALIKE = 12
# Kinds of components beyond which they are not told apart.
MOST_KINDS = 200
# Cells of Z by rows and slots of a component, beyond which it is not formed.
MOST_CELLS = 20_000_000


@dataclass(frozen=True)
class LinearTemplates:
    """Templates that are linear in their parameters, ``lam = sum_a par_a dlam_a``.

    Then the entries of ``lam lam'`` are quadratic, ``s_e = par' T_e par / 2``.
    """

    parametrization: Parametrization
    dlams: list[np.ndarray]  # each (k_t, s_t, s_t): one a term
    T: np.ndarray  # (d, k, k): second derivatives of the distinct entries
    #: list of tuple (term, (s_t, s_t)): where each entry stands in its term's ``lam lam'``: a
    #: matrix of zeros and ones.
    entries: list[tuple[int, np.ndarray]]


def linear_templates(parametrization: Parametrization) -> LinearTemplates | None:
    """Return the templates' derivatives; None where some term's are not linear."""
    dlams, entries, quadratic = [], [], []
    for t, structure in enumerate(parametrization.structures):
        dlam = structure.d_lam(structure.start())
        if structure.d2_lam(structure.start()) is not None:
            return None
        dlams.append(dlam)
        product = np.einsum("aij,bkj->ikab", dlam, dlam)
        product = product + product.transpose(0, 1, 3, 2)
        # Entries of lam lam' that are alike for all parameters (hom) count once.
        distinct: dict[bytes, np.ndarray] = {}
        for i, j in zip(*np.tril_indices(structure.size), strict=True):
            if product[i, j].any():
                where = distinct.setdefault(product[i, j].tobytes(), np.zeros(dlam.shape[1:]))
                where[i, j] = where[j, i] = 1.0
        for where in distinct.values():
            i, j = np.argwhere(where)[0]
            T = np.zeros((parametrization.n_par,) * 2)
            T[parametrization.par_slices[t], parametrization.par_slices[t]] = product[i, j]
            entries.append((t, where))
            quadratic.append(T)
    return LinearTemplates(parametrization, dlams, np.array(quadratic), entries)


@dataclass(frozen=True)
class BatchModel:
    """What the criteria of all responses share."""

    templates: LinearTemplates
    #: (C, d, t, t): ``B_ce``: what each entry of ``lam lam'`` adds to ``N_c``, for every kind of
    #: component.
    maps: np.ndarray
    kind: np.ndarray  # int (number of components,)
    count: np.ndarray  # (C,): components of each kind
    #: csr_array (n, t times the number of components): orthonormal columns, component by component.
    E: scipy.sparse.csr_array
    Q: np.ndarray  # (n, p): columns of X with ``Q'Q = n I``
    X: np.ndarray  # (C, t, p): ``E'Q``, times the root of the count
    residual: np.ndarray  # (n, p): ``Q - E E'Q``

    @property
    def numbers(self) -> int:
        """Numbers that one evaluation of one response holds."""
        rows = 1 if len(self.count) == len(self.kind) else 1 + self.maps.shape[-1]
        return _numbers(self.maps.shape, self.Q.shape[1] + rows)

    def responses(self, Y: np.ndarray) -> BatchResponses:
        """Return what the criteria need of the scaled responses (n, m)."""
        by_component = self.E.T @ Y
        residual = Y - self.E @ by_component
        # Once more for what rounding left: the sum of squares of the rest may be small.
        again = self.E.T @ residual
        residual -= self.E @ again
        by_component += again
        y = by_component.reshape(len(self.kind), -1, Y.shape[1]).transpose(0, 2, 1)
        return BatchResponses(
            self._by_kind(y), residual.T @ self.residual, np.einsum("nm,nm->m", residual, residual)
        )

    def _by_kind(self, y: np.ndarray) -> np.ndarray:
        """Turn responses by component (., m, t) into rows by kind (C, m, J, t)."""
        m, t = y.shape[1:]
        if len(self.count) == len(self.kind):
            return np.ascontiguousarray(y[:, :, None])
        out = np.zeros((len(self.count), m, 1 + t, t))
        for c, count in enumerate(self.count):
            alike = y[self.kind == c]
            mean = alike.mean(axis=0)
            contrasts = (alike - mean).transpose(1, 0, 2)
            squares = np.asarray(np.linalg.qr(contrasts, mode="r"))
            out[c, :, 0] = np.sqrt(count) * mean
            out[c, :, 1 : 1 + squares.shape[1]] = squares
        return out


@dataclass(frozen=True)
class BatchResponses:
    """Many responses in a model's coordinates."""

    #: (C, m, J, t): ``E'y`` by kinds of components; X reaches the first of the J rows only.
    y: np.ndarray
    Xty: np.ndarray  # (m, p): of what the components leave of X and y; likewise yty (m,)
    yty: np.ndarray

    def take(self, which: np.ndarray) -> BatchResponses:
        """Return some of the responses."""
        return BatchResponses(self.y[:, which], self.Xty[which], self.yty[which])


def batch_model(
    terms: ScaledTerms, groups: Sequence[GroupDesign], Q: np.ndarray
) -> BatchModel | None:
    """Return the model in component coordinates; None where that is not worth its cost.

    Parameters
    ----------
    groups : sequence of GroupDesign
        Scaled columns, multiplied by the square root of the weights, one a block.
    Q : ndarray (n, p)
        Weighted columns of X with ``Q'Q = n I``.
    """
    templates = linear_templates(terms.parametrization)
    if templates is None:
        return None
    slots = component_slots(groups)
    n, width, d = len(Q), slots.width, len(templates.T)
    shape = slots.n_components, d, width, width
    operations = slots.n_components * width**3 * (2.0 * d + 4.0)
    numbers = _numbers(shape, Q.shape[1] + 1)
    if operations > MOST_OPERATIONS or numbers > MOST_NUMBERS or n * width > MOST_CELLS:
        return None
    E, R = _orthonormal(slots)
    maps = np.empty((slots.n_components, d, R.shape[1], R.shape[1]))
    for e, (t, where) in enumerate(templates.entries):
        block, cols = terms.parametrization.block_of[t], terms.parametrization.columns[t]
        maps[:, e] = slots.sandwich(R, block, cols, where)
    flat = E.T @ Q
    X = flat.reshape(len(maps), R.shape[1], Q.shape[1])
    kind = kinds([maps, X])
    if (kind.max() + 1) * (1 + R.shape[1]) > len(maps):
        kind = np.arange(len(maps))
    count = np.bincount(kind)
    first = np.unique(kind, return_index=True)[1]
    X = X[first] * np.sqrt(count)[:, None, None]
    return BatchModel(
        templates, maps[first], kind, count.astype(float), E, Q, X, Q - E @ flat
    )  # fmt: skip


def kinds(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Give equal numbers (C,) to components whose arrays (C, ...) agree up to rounding."""
    rounded = [
        np.round(part.reshape(len(part), -1) / max(np.abs(part).max(initial=0.0), 1e-300), ALIKE)
        for part in parts
    ]
    together = np.concatenate(rounded, axis=1) + 0.0  # no negative zeros
    label = np.unique(together, axis=0, return_inverse=True)[1].ravel()
    return label if label.max() < MOST_KINDS else np.arange(len(label))


def _numbers(shape: tuple[int, ...], rows: int) -> int:
    C, d, t, _ = shape
    return C * t * (t * (3 * d + 3) + rows * (2 * d + 2))


@dataclass(frozen=True)
class Slots:
    """Where the random effects of every component stand in an array of components."""

    #: `n_components`, `width`: components C, and the largest number of random effects of one.
    n_components: int
    width: int
    groups: Sequence[GroupDesign]
    component: np.ndarray  # int (n,): component of each row of the data
    #: each int (l_i,): component of each level, one array a block; likewise first, the level's
    #: first slot.
    owner: list[np.ndarray]
    first: list[np.ndarray]

    def z(self) -> np.ndarray:
        """Return the rows of Z by slots of their component (n, width)."""
        out = np.zeros((len(self.component), self.width))
        row = np.arange(len(out))[:, None]
        for g, first in zip(self.groups, self.first, strict=True):
            out[row, first[g.codes][:, None] + np.arange(g.z.shape[1])] = g.z
        return out

    def gram(self, V: np.ndarray) -> np.ndarray:
        """Return ``V_c'V_c`` (C, k, k) for rows V (n, k)."""
        if self.n_components == 1:
            gram: np.ndarray = (V.T @ V)[None]
            return gram
        k = V.shape[1]
        out = np.empty((self.n_components, k, k))
        for a in range(k):
            for b in range(a + 1):
                total = np.bincount(self.component, V[:, a] * V[:, b], self.n_components)
                out[:, a, b] = out[:, b, a] = total
        return out

    def times(self, V: np.ndarray, A: np.ndarray) -> np.ndarray:
        """Multiply the rows V (n, k) of every component by its matrix A (C, k, j)."""
        product: np.ndarray
        if self.n_components == 1:
            product = V @ A[0]
        else:
            product = np.einsum("nk,nkj->nj", V, A[self.component])
        return product

    def sandwich(self, R: np.ndarray, block: int, cols: slice, middle: np.ndarray) -> np.ndarray:
        """Return ``sum_l R_l A R_l'`` (C, r, r) over the levels l of one block.

        Parameters
        ----------
        R : ndarray (C, r, width)
        cols : slice
            The term's columns inside the block.
        middle : ndarray (s_t, s_t)
        """
        owner, first = self.owner[block], self.first[block]
        offset = np.arange(cols.start, cols.stop)
        # (l, s, r): the columns of R that belong to each level.
        columns = R[owner[:, None], :, first[:, None] + offset]
        out = np.zeros((self.n_components, R.shape[1], R.shape[1]))
        if self.n_components == 1:
            half = np.einsum("ij,ljr->lir", middle, columns).reshape(-1, R.shape[1])
            out[0] = columns.reshape(-1, R.shape[1]).T @ half
            return out
        np.add.at(out, owner, columns.transpose(0, 2, 1) @ (middle @ columns))
        return out


def component_slots(groups: Sequence[GroupDesign]) -> Slots:
    """Find the components of levels that meet in rows, and give every random effect a slot."""
    layout = Layout(tuple(g.n_levels for g in groups), tuple(g.z.shape[1] for g in groups))
    starts = np.cumsum([0, *layout.n_levels])
    nodes = [g.codes + start for g, start in zip(groups, starts, strict=False)]
    if len(groups) == 1:
        label, n_components = np.arange(layout.n_levels[0]), layout.n_levels[0]
    else:
        links = np.concatenate([np.column_stack([nodes[0], other]) for other in nodes[1:]])
        links = np.unique(links, axis=0)
        graph = scipy.sparse.csr_array(
            (np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(starts[-1], starts[-1])
        )
        n_components, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
    filled = np.zeros(n_components, dtype=int)
    owner, first = [], []
    for i, (count, width) in enumerate(zip(layout.n_levels, layout.widths, strict=True)):
        of = label[starts[i] : starts[i] + count]
        order = np.argsort(of, kind="stable")
        sizes = np.bincount(of, minlength=n_components)
        rank = np.empty(count, dtype=int)
        rank[order] = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        owner.append(of)
        first.append(filled[of] + rank * width)
        filled = filled + sizes * width
    return Slots(n_components, int(filled.max()), groups, label[nodes[0]], owner, first)


def _orthonormal(slots: Slots) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Return E (n, C r) with orthonormal columns, and R (C, r, width) with ``Z_c = E_c R_c``.

    The second pass, by a Cholesky factor, takes out what the squared condition number cost the
    first one.
    """
    z = slots.z()
    gram = slots.gram(z)
    # Components with one Gram matrix get one basis, which rounding would turn.
    _, first, kind = np.unique(kinds([gram]), return_index=True, return_inverse=True)
    first = first[kind]
    value, vector = np.linalg.eigh(gram[first])
    value, vector = value[:, ::-1], vector[:, :, ::-1]
    live = value > NULL * value[:, :1]
    r = max(int(live.sum(axis=1).max()), 1)  # one, of zeros, where all columns are zero
    live, vector = live[:, :r], vector[:, :, :r]
    root = np.sqrt(np.where(live, value[:, :r], 1.0))
    columns = slots.times(z, vector * (live / root)[:, None, :])
    gram = slots.gram(columns)[first]
    gram[:, np.arange(r), np.arange(r)] += ~live
    L = np.linalg.cholesky(gram)
    columns = slots.times(columns, np.linalg.inv(L).transpose(0, 2, 1))
    R = L.transpose(0, 2, 1) @ ((live * root)[:, :, None] * vector.transpose(0, 2, 1))
    n = len(columns)
    index = slots.component[:, None] * r + np.arange(r)
    start = np.arange(0, n * r + 1, r)
    shape = n, slots.n_components * r
    return scipy.sparse.csr_array((columns.ravel(), index.ravel(), start), shape=shape), R
