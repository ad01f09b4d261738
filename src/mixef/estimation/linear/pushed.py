"""A linear model as sums that an engine takes: push-down, so that no row leaves the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations
from typing import Any

import numpy as np

from mixef.errors import table_changed
from mixef.estimation.chunked import chunks_of
from mixef.estimation.spec import ModelSpec
from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.sources import ScaledChunks, Scan, scan
from mixef.linalg.tables import CellSums, SumTable, TableSums
from mixef.terms.factor import Factor
from mixef.terms.fixed import Coding, DesignSpec
from mixef.terms.grouping import Grouping
from mixef.terms.nodes import Node
from mixef.terms.random import block_structure
from mixef.terms.relation.counts import RESPONSE
from mixef.terms.relation.expressions import Expressions, NotOnEngineError
from mixef.terms.relation.frame import RelationFrame
from mixef.terms.relation.polynomials import (
    Monomial,
    Polynomial,
    centred_coefficients,
    closure,
    times,
)
from mixef.terms.relation.sums import (
    CompleteRows,
    Groups,
    joint_codes,
)
from mixef.terms.values import Matrix

#: More sums in one query, more groups, or more cells of coefficients than these, and reading the
#: rows costs less.
MOST_SUMS = 600
MOST_GROUPS = 20_000_000
MOST_CELLS = 50_000_000
#: So many groups fill an engine's table for more than a processor's cache.
MANY_GROUPS = 1_000_000


@dataclass(frozen=True)
class KnownRows:
    """What is known of the rows of a model before its columns are scaled."""

    scan: Scan
    sums: TableSums | None  # that an engine took; None where the rows are read in batches

    def products(self, kept: np.ndarray) -> Callable[[ScaledChunks], CrossProducts] | None:
        """Return what makes cross-products of scaled rows, with some columns of X, if anything."""
        return None if self.sums is None else partial(self.sums.products, kept)


def known_rows(spec: ModelSpec) -> KnownRows:
    """Look at rows in memory, or ask the engine that holds them, or read them in batches.

    Raises
    ------
    DataError
        For a table that changes while it is read.
    """
    if not spec.frame.in_memory and not spec.frame.is_reduced:
        with suppress(NotOnEngineError):
            sums = PushedModel(spec).sums()
            scanned = sums.scan()
            if scanned is not None:
                return KnownRows(scanned, sums)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused by name
        return KnownRows(scan(chunks_of(spec)()), None)


@dataclass(frozen=True, eq=False)
class PushedModel:
    """A model whose rows an engine holds, in expressions of the engine."""

    spec: ModelSpec

    @cached_property
    def rows(self) -> CompleteRows:
        """The rows that count, which the engine has counted."""
        frame = self.spec.frame
        if not isinstance(frame, RelationFrame) or frame.complete is None:
            raise NotOnEngineError(self.spec.formula.text)
        return frame.complete

    @cached_property
    def designs(self) -> list[DesignSpec]:
        """What builds the columns of X, and of each term."""
        return [self.spec.design.spec, *(term.design.spec for term in self.spec.terms)]

    @cached_property
    def blocks(self) -> list[list[int]]:
        """The terms of each grouping factor."""
        return block_structure(self.spec.terms)[0]

    @cached_property
    def groupings(self) -> list[Grouping]:
        """The grouping factor of each block."""
        return [self.spec.terms[members[0]].grouping for members in self.blocks]

    @cached_property
    def polynomials(self) -> list[list[Polynomial]]:
        """The columns of X and of each term, without the coefficients of their factors."""
        return [_polynomials(design, self.rows.expressions) for design in self.designs]

    @cached_property
    def features(self) -> list[Monomial]:
        """The monomials that all columns are linear in; the response is the last."""
        known = closure(p for polynomials in self.polynomials for p in polynomials)
        return [*known, (RESPONSE,)]

    # ------------------------------------------------------------------ the sums

    def sums(self) -> TableSums:
        """Ask the engine for all sums of the model."""
        used = [_used(self.features, polynomials) for polynomials in self.polynomials]
        last = len(self.features) - 1
        X = [*used[0], last]
        z = [sorted({a for t in members for a in used[1 + t]}) for members in self.blocks]
        wanted = [
            {*_pairs(own, own), *_pairs(own, X), *(_pairs(X, X) if i == 0 else ())}
            for i, own in enumerate(z)
        ]
        self._refuse_large(wanted)
        asked: dict[tuple[int, ...], set[tuple[int, int]]] = {
            (i, j): set(_pairs(z[i], z[j])) for i, j in combinations(range(len(self.blocks)), 2)
        } | {(i,): pairs for i, pairs in enumerate(wanted)}  # what takes longest comes first
        tables = dict(zip(asked, self._tables(asked), strict=True))
        own = tuple(tables[i,] for i in range(len(self.blocks)))
        crossed = {(i, j): tables[i, j] for i, j in combinations(range(len(self.blocks)), 2)}
        weight = self.spec.frame.weights
        return TableSums(
            n=self.rows.n,
            sum_log_w=self.rows.sum_log_w,
            sum_w=self.rows.sum_w,
            sum_w2=self.rows.sum_w2,
            n_levels=tuple(grouping.n_levels for grouping in self.groupings),
            members=self.blocks,
            own=own,
            pairs=crossed,
            largest=self._largest(),
            largest_weight=None if weight is None else self.rows.largest_weight,
        )

    def _tables(self, asked: Mapping[tuple[int, ...], set[tuple[int, int]]]) -> list[SumTable]:
        """Return a table of each set of blocks, with sums of products of pairs of features."""
        if self.rows.at_once == 1:  # from this thread, which may be interrupted
            return list(map(self._table, asked, asked.values()))
        with ThreadPoolExecutor(self.rows.at_once) as pool:
            return list(pool.map(self._table, asked, asked.values()))

    def _refuse_large(self, wanted: Sequence[set[tuple[int, int]]]) -> None:
        """Leave to batches of rows what would make tables about as large as the data."""
        levels = {c.node.text: len(c.levels) for d in self.designs for c in _factors(d)}
        cells = float(np.prod([*levels.values(), 1.0]))
        groups = max(cells * grouping.n_levels for grouping in self.groupings)
        columns = sum(len(polynomials) for polynomials in self.polynomials)
        sums = max(len({self._product(*pair) for pair in pairs}) for pairs in wanted)
        of_coefficients = min(cells, self.spec.frame.n) * len(self.features) * columns
        few = min(groups, self.spec.frame.n) <= MOST_GROUPS and sums <= MOST_SUMS
        if not few or of_coefficients > MOST_CELLS:
            raise NotOnEngineError(self.spec.formula.text)

    def _product(self, a: int, b: int) -> Monomial:
        return times(self.features[a], self.features[b])

    def _table(self, blocks: Sequence[int], pairs: set[tuple[int, int]]) -> SumTable:
        """Return the sums of products of pairs of features, by levels of one block or of two."""
        products = {pair: self._product(*pair) for pair in sorted(pairs)}
        monomials = list(dict.fromkeys(products.values()))
        place = np.full((len(self.features),) * 2, -1)
        for (a, b), monomial in products.items():
            place[a, b] = place[b, a] = monomials.index(monomial)
        terms = [1 + t for i in blocks for t in self.blocks[i]]
        designs = terms if len(blocks) > 1 else [0, *terms]
        factors = {c.node.text: c for d in designs for c in _factors(self.designs[d])}
        groupings = [self.groupings[i] for i in blocks]
        nodes = [c.node for c in factors.values()]
        nodes += [node for grouping in groupings for node in grouping.nodes]
        names = dict.fromkeys(n for node in nodes for n in self.rows.keys_of[node.text].columns)
        groups = self._summed_here(list(names), monomials)
        if groups is None:
            groups = self.rows.groups(list(names), monomials)
        found = {text: self._codes(groups, c.node, c.levels) for text, c in factors.items()}
        codes = {text: own for text, (own, _) in found.items()}
        sizes = [len(c.levels) for c in factors.values()]
        cells, combos = joint_codes(list(codes.values()), sizes)
        if not combos:
            cells = np.zeros(len(groups), dtype=np.int32)
        n_cells = len(combos[0]) if combos else 1
        cell_codes = dict(zip(factors, combos, strict=True))
        known = [self._levels(groups, grouping) for grouping in groupings]
        levels = [own for own, _ in known]
        one_to_one = all(is_own for _, is_own in [*found.values(), *known])
        columns = [self._columns(d, cell_codes, factors, n_cells) for d in designs]
        if len(blocks) > 1:
            ends = np.cumsum([len(self.blocks[i]) for i in blocks]).tolist()
            columns = [np.concatenate(columns[: ends[0]], 2), np.concatenate(columns[ends[0] :], 2)]
        rows = (tuple(levels), cells, groups.sums)
        if not one_to_one:
            rows = _collapsed(*rows)
        return SumTable(*rows, place=place, columns=tuple(columns))

    def _summed_here(self, names: list[str], monomials: Sequence[Monomial]) -> Groups | None:
        """Return what `CompleteRows.groups` does, from rows of keys and numbers alone.

        None unless there are so many groups that an engine's table of them takes longer, and more
        memory, than the rows and a plain array of sums here.
        """
        rows, sizes = self.rows, [len(self.rows.values[name]) for name in names]
        made = [k for k, monomial in enumerate(monomials) if not rows.is_count(monomial)]
        cells = int(np.prod(sizes, dtype=float))
        if not rows.come_fast or not MANY_GROUPS <= cells <= rows.n / (1 + len(made)):
            return None
        sums = CellSums(cells, len(made))
        for codes, products in rows.numbered(names, [monomials[k] for k in made]):
            if any(own.min(initial=0) < 0 for own in codes):  # one to an engine, such as 0 and -0
                return None
            sums.add(np.ravel_multi_index(codes, sizes), products)
        found, totals = sums.total()
        del sums
        places = [own.astype(np.int32) for own in np.unravel_index(found, sizes)]
        columns = [1 + made.index(k) if k in made else 0 for k in range(len(monomials))]
        return Groups(dict(zip(names, places, strict=True)), rows.values, totals[:, columns])

    def _codes(
        self, groups: Groups, node: Node, levels: tuple[str, ...]
    ) -> tuple[np.ndarray, bool]:
        """Return the places (m,) of a factor's levels among those that the model knows.

        With them, whether different keys are different levels.
        """
        factor, which = self.rows.factor(groups, node)
        codes = factor.used_levels().recode(levels)
        if (codes < 0).any():
            raise table_changed(
                f"{node.text} has a level that it did not have when the rows were counted"
            )
        return codes[which], len(np.unique(codes)) == len(codes)

    def _levels(self, groups: Groups, grouping: Grouping) -> tuple[np.ndarray, bool]:
        """Return what `_codes` does of a grouping factor."""
        if len(grouping.nodes) == 1:
            return self._codes(groups, grouping.nodes[0], grouping.level_set.labels)
        parts = grouping.level_set.parts  # type: ignore[attr-defined]
        found = [
            self._codes(groups, node, part.labels)
            for node, part in zip(grouping.nodes, parts, strict=True)
        ]
        codes = [own for own, _ in found]
        sizes = [len(part) for part in parts]
        known = np.ravel_multi_index(tuple(grouping.level_set.values.T), sizes)
        places = np.searchsorted(known, np.ravel_multi_index(tuple(codes), sizes))
        return places.astype(np.int32), all(is_own for _, is_own in found)

    def _columns(
        self,
        which: int,
        codes: Mapping[str, np.ndarray],
        factors: Mapping[str, Coding],
        n_cells: int,
    ) -> np.ndarray:
        """Return the columns of X and y, or of a term, in features by cell (cells, F, k)."""
        design, polynomials = self.designs[which], self.polynomials[which]
        variables: dict[str, Any] = {}
        for coding in (c for codings in design.terms for c in codings):
            text, k = coding.node.text, len(coding.suffixes)
            if coding.matrix is not None:
                variables[text] = Factor(codes[text].astype(np.int32), coding.levels)
            elif k > 1:
                variables[text] = Matrix(np.ones((n_cells, k)), coding.suffixes)
            else:
                variables[text] = np.ones(n_cells)
        by_factors = design.build(variables, n_cells)
        by_numbers = centred_coefficients(polynomials, self.features, self.rows.centres)
        columns: np.ndarray = by_factors[:, None, :] * by_numbers
        if which:
            return columns
        y = centred_coefficients([Polynomial.of(RESPONSE)], self.features, self.rows.centres)
        return np.concatenate([columns, np.broadcast_to(y, (n_cells, *y.shape))], axis=2)

    def _largest(self) -> np.ndarray:
        """Bound the absolute values of the columns of y, of X and of the terms."""
        out = [self.rows.largest[RESPONSE]]
        for design, polynomials in zip(self.designs, self.polynomials, strict=True):
            most = iter(_most(design))
            for polynomial in polynomials:
                parts = (
                    abs(value) * np.prod([self.rows.largest[text] for text in monomial])
                    for monomial, value in polynomial.terms.items()
                )
                out.append(next(most) * float(sum(parts)))
        return np.array(out)


def _factors(design: DesignSpec) -> list[Coding]:
    """Return the codings of a design's factors, one for each factor."""
    codings = [c for codings in design.terms for c in codings if c.matrix is not None]
    return list({c.node.text: c for c in codings}.values())


def _polynomials(design: DesignSpec, expressions: Expressions) -> list[Polynomial]:
    """Return the columns of a design in numbers alone, as `DesignSpec.names` has them."""
    one = Polynomial.constant(1.0)
    out = [one] if design.intercept else []
    for codings in design.terms:
        columns = [one]
        for coding in codings:
            parts = [one] * len(coding.suffixes)
            if coding.matrix is None:
                parts = expressions.polynomials(coding.node)
            if len(parts) != len(coding.suffixes):
                raise NotOnEngineError(coding.node.text)
            columns = [column.product(part) for part in parts for column in columns]
        out += columns
    if not all(np.isfinite(list(p.terms.values())).all() for p in out):
        raise NotOnEngineError(design.term_labels)
    return out


def _most(design: DesignSpec) -> list[float]:
    """Return the largest coefficient in size that factors give to each column."""
    out = [1.0] if design.intercept else []
    for codings in design.terms:
        columns = [1.0]
        for coding in codings:
            own = [1.0] * len(coding.suffixes)
            if coding.matrix is not None:
                own = np.abs(coding.matrix).max(axis=0).tolist()
            columns = [column * part for part in own for column in columns]
        out += columns
    return out


def _used(features: Sequence[Monomial], polynomials: Sequence[Polynomial]) -> list[int]:
    """Return which features some polynomials are linear in once their numbers are centred."""
    place = {monomial: a for a, monomial in enumerate(features)}
    return [place[m] for m in closure(polynomials)] if polynomials else []


def _pairs(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
    return [(min(a, b), max(a, b)) for a in left for b in right]


def _collapsed(
    levels: Sequence[np.ndarray], cells: np.ndarray, sums: np.ndarray
) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """Add up groups that are one to the model, such as numbers with one label."""
    codes = [*levels, cells]
    sizes = [int(c.max(initial=0)) + 1 for c in codes]
    joint, places = joint_codes(codes, sizes)
    if len(places[0]) == len(cells):
        return tuple(levels), cells, sums
    total = np.column_stack([np.bincount(joint, column) for column in sums.T])
    return tuple(places[:-1]), places[-1], total
