"""Sums of products over the groups of a table: what an engine is asked for in place of rows.

Numbers are centred and scaled before they are multiplied, by amounts that cost no digit; the sums
of one table add up to those of all rows, so nothing is summed twice in two orders.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from mixef.errors import DataError, table_changed
from mixef.late import LateModule
from mixef.terms.expressions import Scope, State
from mixef.terms.factor import Factor, compress, factor_from_logical
from mixef.terms.nodes import Call, Name, Node, Number, String, variable_names
from mixef.terms.relation.engines import AT_ONCE, BATCH, PROMPT, batches_of, reading, result_of
from mixef.terms.relation.expressions import (
    Condition,
    Expressions,
    NotOnEngineError,
    is_finite,
    is_present,
)
from mixef.terms.relation.polynomials import Centre, Monomial
from mixef.terms.relation.text import TableColumns
from mixef.terms.slopes import function_name
from mixef.terms.values import as_factor

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    nw, pa, pc = LateModule("narwhals"), LateModule("pyarrow"), LateModule("pyarrow.compute")


@dataclass(frozen=True)
class Keys:
    """What rows are grouped by, so that a factor's level is known in every group."""

    columns: Mapping[str, Any]  # nw.Expr by name; a condition goes by its text
    is_condition: bool = False


def keys_of(node: Node, expressions: Expressions) -> Keys:
    """Return what rows are grouped by for a factor.

    Raises
    ------
    NotOnEngineError
        For a factor that an engine does not know, such as intervals of a variable with fractions.
    """
    schema = expressions.schema
    if isinstance(node, Name) and node.name in schema:
        return Keys({node.name: nw.col(node.name)})
    try:
        value = expressions.value(node)
    except NotOnEngineError:
        value = None
    if isinstance(value, Condition):
        return Keys({node.text: value.expr}, is_condition=True)
    names = [name for name in variable_names(node) if name in schema]
    if names and all(_keeps_levels(part) for part in node.walk()):
        plain = isinstance(node, Call) and len(node.args) == 1
        if plain or not any(schema[n].is_float() or schema[n].is_decimal() for n in names):
            return Keys({name: nw.col(name) for name in names})
    raise NotOnEngineError(node.text)


def _keeps_levels(node: Node) -> bool:
    """Tell whether a level in a row follows from those of its parts, and is missing with one."""
    if isinstance(node, Call):
        return function_name(node) in _FACTORS
    return isinstance(node, Name | Number | String)


_FACTORS = (
    "factor", "as.factor", "ordered", "as.ordered", "as.character", "relevel", "interaction", "c",
    "I", "identity",
)  # fmt: skip


@dataclass(frozen=True)
class Groups:
    """The groups of one query, with sums of products over the rows of each."""

    codes: Mapping[str, np.ndarray]  # int (m,) by name: which distinct value of a key each has
    values: Mapping[str, Any]  # the distinct values of each key, as Arrow
    sums: np.ndarray  # (m, K): of weights times each monomial

    def __len__(self) -> int:
        return len(self.sums)

    def factor(
        self, node: Node, keys: Keys, state: State, columns: TableColumns, group: bool
    ) -> tuple[Factor, np.ndarray]:
        """Return the factor that a formula makes of the keys: of each combination, and which.

        Parameters
        ----------
        state : State
            What functions learnt from all rows.
        columns : TableColumns
            Reads the table.
        group : bool
            Whether it is part of a grouping factor, which keeps no contrasts.

        Returns
        -------
        Factor (combinations,)
        ndarray of int (m,)
            The combination of each group.
        """
        names = list(keys.columns)
        codes, cells = joint_codes(
            [self.codes[n] for n in names], [len(self.values[n]) for n in names]
        )
        taken = {
            name: self.values[name].take(pa.array(place))
            for name, place in zip(names, cells, strict=True)
        }
        if keys.is_condition:
            factor = factor_from_logical(np.asarray(taken[names[0]]).astype(bool))
            factor = Factor(factor.codes, factor.level_set) if group else factor
        else:
            own = State(dict(state.transforms), state.outside)  # what is learnt goes with it
            scope = Scope(columns.of(pa.RecordBatch.from_pydict(taken)), own, {})
            factor = scope.group(node) if group else as_factor(scope.variable(node))
        if (factor.codes < 0).any():  # such rows are missing, and no query has left them out
            raise NotOnEngineError(node.text)
        return factor, codes


def joint_codes(
    codes: Sequence[np.ndarray], sizes: Sequence[int]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return codes of the combinations of codes that occur, in order.

    Returns
    -------
    codes : ndarray of int (m,)
        Number of each row's combination.
    cells : list of ndarray of int
        Each (combinations,): the codes that a combination consists of, one array for each.
    """
    if not codes:
        return np.zeros(0, dtype=np.intp), []
    joint, cells = codes[0], [np.arange(sizes[0])]
    for own, size in zip(codes[1:], sizes[1:], strict=True):
        wide = joint.astype(np.int64) * size + own
        joint, used = compress(wide, len(cells[0]) * size)
        cells = [cell[used // size] for cell in cells] + [used % size]
    return joint, cells


@dataclass(frozen=True)
class CompleteRows:
    """The rows of a table that a model uses, with what it makes of their columns."""

    lazy: nw.LazyFrame[Any]
    expressions: Expressions
    columns: TableColumns  # what reads the table
    keys_of: Mapping[str, Keys]  # by the texts of factors, and of the parts of grouping factors
    numbers: Mapping[str, Any]  # nw.Expr by text: centred and scaled
    centres: Mapping[str, Centre]  # by text
    largest: Mapping[str, float]  # by text: absolute values before
    weight: Any | None  # nw.Expr
    keys: Mapping[str, Any]  # nw.Expr by name
    n: int
    sum_log_w: float
    sum_w: float
    sum_w2: float
    largest_weight: float | None
    values: Mapping[str, Any]  # the distinct values of each key, as Arrow, in order of its levels

    @property
    def come_fast(self) -> bool:
        """Whether rows come as fast as the engine sums them."""
        return self.lazy.implementation.value in PROMPT

    @property
    def at_once(self) -> int:
        """How many queries are asked at a time."""
        return 4 if self.lazy.implementation.value in AT_ONCE else 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave nothing in a pickle: a query belongs to its process, and the rows can be read."""
        return _nothing, ()

    def factor(self, groups: Groups, node: Node, group: bool = True) -> tuple[Factor, np.ndarray]:
        """Return a factor of some groups; see `Groups.factor`."""
        keys, state = self.keys_of[node.text], self.expressions.state
        return groups.factor(node, keys, state, self.columns, group)

    def groups(self, names: Collection[str], monomials: Sequence[Monomial]) -> Groups:
        """Return sums of monomials over groups of rows with the same keys.

        Raises
        ------
        DataError
            If the table has changed since it was counted.
        """
        rows, keys, products = self._asked(names, monomials)
        wanted = {"n": nw.len()} | {k: product.sum() for k, product in products.items()}
        with reading(self.columns.relation.engine, NotImplementedError):
            grouped = rows.group_by(*keys).agg(**wanted)
        places = [f"s{k}" for k in range(len(monomials))]
        found = _Collected(keys, len(monomials))
        for batch in result_of(grouped):
            n = np.asarray(batch.column("n"), dtype=float)
            found.add(
                {key: batch.column(key) for key in keys},
                [np.asarray(batch.column(k)) if k in products else n for k in places],
                int(n.sum()),
            )
        if found.n != self.n:
            raise changed(self.n, found.n)
        return found.groups(list(names))

    def is_count(self, monomial: Monomial) -> bool:
        """Tell whether a monomial's sum is the number of rows."""
        return not monomial and self.weight is None

    def numbered(
        self, names: Collection[str], monomials: Sequence[Monomial]
    ) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        """Yield the rows that `groups` sums, some at a time.

        Yields
        ------
        codes : list of ndarray of int (k,)
            The places of each key among its `values`; -1 where it is none of them.
        products : ndarray (K, k)
            Of weights and monomials.

        Raises
        ------
        DataError
            If the table has changed since it was counted.
        """
        rows, keys, products = self._asked(names, monomials)
        with reading(self.columns.relation.engine, NotImplementedError):
            asked = rows.select(*keys, **products)
        known = [self.values[name] for name in names]
        n = 0
        for batch in batches_of(asked.implementation.value, asked.to_native(), BATCH):
            n += len(batch)
            codes = [_places(batch.column(k), v) for k, v in zip(keys, known, strict=True)]
            yield codes, np.array([batch.column(k) for k in products]).reshape(-1, len(batch))
        if n != self.n:
            raise changed(self.n, n)

    def _asked(
        self, names: Collection[str], monomials: Sequence[Monomial]
    ) -> tuple[Any, list[str], dict[str, Any]]:
        """Return rows with keys and numbers under short names: of the keys, and of each product.

        Counts are not among the products.
        """
        texts = sorted({text for monomial in monomials for text in monomial})
        alias = {text: f"u{k}" for k, text in enumerate(texts)}
        by = {f"k{k}": self.keys[name] for k, name in enumerate(names)}
        chosen = by | {alias[text]: self.numbers[text] for text in texts}
        if self.weight is not None:
            chosen["w"] = self.weight
        # What has become missing or infinite since is left out, and so counted.
        tested = [is_finite(nw.col(own)) for own in alias.values()]
        tested += [~nw.col(own).is_null() for own in by]
        with reading(self.columns.relation.engine, NotImplementedError):
            rows = self.lazy.select(**chosen).filter(*tested)
        products = {
            f"s{k}": self._product(monomial, alias)
            for k, monomial in enumerate(monomials)
            if not self.is_count(monomial)
        }
        return rows, list(by), products

    def _product(self, monomial: Monomial, alias: Mapping[str, str]) -> Any:
        """Return the weight times the numbers of a monomial."""
        factors = [] if self.weight is None else [nw.col("w")]
        return reduce(operator.mul, factors + [nw.col(alias[text]) for text in monomial])


def _nothing() -> None:
    """Return what is left of queries in another process."""


class _Collected:
    """Groups that come in batches, each key as the number of its value."""

    def __init__(self, names: Sequence[str], n_sums: int) -> None:
        self.n = 0  # rows in all groups
        self._codes: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self._values: dict[str, Any] = {}
        self._sums: list[list[np.ndarray]] = [[] for _ in range(n_sums)]

    def add(self, keys: Mapping[str, Any], sums: Sequence[np.ndarray], n: int) -> None:
        """Take in a batch."""
        self.n += n
        for name, column in keys.items():
            self._codes[name].append(self._numbers(name, column))
        for own, values in zip(self._sums, sums, strict=True):
            own.append(values.astype(np.float64, copy=False))

    def _numbers(self, name: str, column: Any) -> np.ndarray:
        if pa.types.is_dictionary(column.type):  # which may hold values that no group has
            column = column.dictionary_decode()
        coded = pc.dictionary_encode(column)
        values = coded.dictionary
        known = self._values.get(name, values[:0])
        place = pc.index_in(values, value_set=known)
        new = values.filter(place.is_null())
        if len(new):
            known = self._values[name] = pa.concat_arrays([known, new])
            place = pc.index_in(values, value_set=known)
        table = np.asarray(place, dtype=np.int32)
        numbers: np.ndarray = table[np.asarray(coded.indices)]
        return numbers

    def groups(self, names: Sequence[str]) -> Groups:
        """Return all of them; it is left without any."""
        codes = [np.concatenate(self._codes.pop(own)) for own in list(self._codes)]
        sums = np.empty((len(codes[0]), len(self._sums)), order="F")
        for k, parts in enumerate(self._sums):
            np.concatenate(parts, out=sums[:, k])
            parts.clear()
        values = list(self._values.values())
        return Groups(
            dict(zip(names, codes, strict=True)), dict(zip(names, values, strict=True)), sums
        )


def _places(column: Any, values: Any) -> np.ndarray:
    """Return the places (k,) of a column's entries among values; -1 for others."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    column = column if column.type == values.type else column.cast(values.type)  # of text
    return np.asarray(pc.index_in(column, value_set=values).fill_null(-1))


def is_there(key: Any, dtype: Any) -> Any:
    """Return where what rows are grouped by is not missing."""
    return is_present(key) if dtype.is_float() else ~key.is_null()


def changed(before: int, now: int | None) -> DataError:
    """Return the error for a table that other rows, or levels, were found in than before."""
    found = "levels that it had not had" if now is None else f"{now:,}"
    return table_changed(
        f"there were {before:,} complete rows when they were counted, and {found} when they were "
        "summed"
    )
