"""What a formula's functions learn from all rows before any batch of them can be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mixef.errors import DataError, MixefError
from mixef.late import LateModule
from mixef.terms.expressions import Scope, State, Variable
from mixef.terms.factor import Factor
from mixef.terms.functions import ASKING, LEARNING, LEVELLING
from mixef.terms.needed import dot_columns, needed_variables
from mixef.terms.nodes import Call, Node, variable_names
from mixef.terms.outside import numpy_name
from mixef.terms.relation.reader import Reader, with_rows_behind
from mixef.terms.values import Matrix, as_factor, is_column

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = LateModule("pyarrow")

#: Levels that every batch of rows is told of, at most.
MOST_LEVELS = 30_000


def learn(reader: Reader, first: pa.RecordBatch) -> Reader:
    """Return a reader whose functions know of all rows what they need in every batch.

    Numbers such as the mean of ``scale()`` take the columns that they are of into memory, one
    call after another. Levels take a pass over the table, which keeps one row a level.

    Parameters
    ----------
    first : pa.RecordBatch
        Some rows of the table.

    Raises
    ------
    DataError
        For a function of the caller's whose values depend on other rows, or too many levels.
    """
    calls = _calls(reader)
    for call in calls:
        if _name(call) in LEARNING:
            _learn_numbers(reader, call)
    levelling = [call for call in calls if _needs_levels(call, reader, first)]
    if levelling:
        reader = _with_witnesses(reader, levelling)
    _check_by_row(reader, first)
    # What was found among the caller's names is in the state; a fit keeps nothing else of them.
    return replace(reader, env=None)


def _calls(reader: Reader) -> list[Call]:
    """Return the calls of the formula and of arguments, inner ones first."""
    formula = reader.formula
    nodes = [formula.fixed, *([formula.response] if formula.response else [])]
    nodes += [side for bar in formula.bars for side in (bar.lhs, bar.group)]
    nodes += reader.arguments
    calls = {node.text: node for top in nodes for node in top.walk() if isinstance(node, Call)}
    return sorted(calls.values(), key=lambda call: len(call.text))


def _name(call: Call) -> str:
    """Return the name of a function of ours, whatever package it is called by."""
    name = call.function.rsplit("::", 1)[-1]
    return "ifelse" if numpy_name(name) == "where" else name


def _learn_numbers(reader: Reader, call: Call) -> None:
    names = set(variable_names(call)) & set(reader.columns.relation.names)
    columns = reader.columns.collected(names)
    with np.errstate(all="ignore"):  # NaN and infinities are reported once all rows are read
        Scope(columns, reader.state, reader.env).evaluate(call)


def _needs_levels(call: Call, reader: Reader, first: pa.RecordBatch) -> bool:
    """Tell whether a call's value in a row depends on levels that other rows have.

    It does not for a factor of numbers that is a variable by itself: its levels are put in order
    at the end.
    """
    name = _name(call)
    if name not in LEVELLING:
        return False
    if name not in ("factor", "as.factor") or len(call.args) != 1 or any(call.keywords):
        return True
    columns = reader.columns.of(first.slice(0, 1))
    fixed, groups, _ = needed_variables(reader.formula, dot_columns(reader.formula, columns))
    alone = {node.text for node in (*fixed, *groups)}
    nested = {part.text for node in (*fixed, *groups) for part in node.walk() if part is not node}
    nested |= {part.text for node in reader.arguments for part in node.walk()}
    if call.text not in alone or call.text in nested:
        return True
    try:
        value = Scope(columns, State(), reader.env).value(call.args[0])
    except MixefError:
        return True
    return isinstance(value, Factor | Matrix)


def _with_witnesses(reader: Reader, calls: list[Call]) -> Reader:
    """Return a reader that has a row of every level that the calls and their arguments have."""
    watched = {node.text: node for node in _watched(calls)}
    names = {name for call in calls for name in variable_names(call)}
    relation = reader.columns.relation
    if not names & set(relation.names):
        return reader
    some = replace(reader.columns, relation=relation.select(names))
    witnesses: Any = None
    for is_last in (False, True):
        seen: dict[str, set[str]] = {text: set() for text in watched}
        failed = False
        for batch in some.relation.batches():
            whole = with_rows_behind(batch, witnesses)
            scope = Scope(
                some.of(whole),
                State(dict(reader.state.transforms), reader.state.outside),
                reader.env,
            )
            rows: set[int] = set()
            for text, node in watched.items():
                try:
                    rows |= _rows_of_new_levels(scope, node, seen[text])
                except MixefError:
                    failed = True  # perhaps for want of levels that come later
                    if is_last:
                        raise
            if rows:
                found = batch.take(pa.array(sorted(r for r in rows if r < batch.num_rows)))
                witnesses = found if witnesses is None else with_rows_behind(found, witnesses)
        if not failed:
            break
    known = replace(reader, witnesses=witnesses)
    if witnesses is not None:
        scope = Scope(some.of(witnesses), reader.state, reader.env)
        for call in calls:
            scope.evaluate(call)  # factor() and dummy() keep their levels for new data
    return known


def _watched(calls: list[Call]) -> Iterator[Node]:
    """Yield what has levels that are needed: arguments before the call that takes them."""
    for call in calls:
        if _name(call) in ASKING:
            yield from call.args
        else:
            yield call


def _rows_of_new_levels(scope: Scope, node: Node, seen: set[str]) -> set[int]:
    """Return a row of each level that was not seen before."""
    value = scope.evaluate(node)
    if not is_column(value) or isinstance(value, Matrix) or len(value) != scope.n:
        return set()
    if isinstance(node, Call) and not isinstance(value, Factor):
        return set()  # numbers, whose values are no levels
    factor = as_factor(value)
    first = np.full(factor.n_levels + 1, -1)
    first[factor.codes[::-1]] = np.arange(len(factor))[::-1]
    used = np.flatnonzero(first[:-1] >= 0)
    labels = [factor.levels[k] for k in used.tolist()]
    new = [
        row for row, label in zip(first[used].tolist(), labels, strict=True) if label not in seen
    ]
    seen.update(labels)
    if len(seen) > MOST_LEVELS:
        raise DataError(
            f"{node.text} has more than {MOST_LEVELS:,} levels, which are too many to take along "
            f"with every batch of rows from {scope.columns.engine}: make it a column of the table, "
            "or collect the data"
        )
    return set(new)


def _check_by_row(reader: Reader, batch: pa.RecordBatch) -> None:
    """Refuse a function of the caller's that gives other values where there are other rows."""
    half = batch.num_rows // 2
    whole = reader.read(batch).found
    if half == 0 or not any(map(callable, reader.state.outside.values())):
        return
    part = reader.read(batch.slice(0, half)).found
    for text, value in whole.variables.items():
        own, other = _plain(value)[:half], _plain(part.variables[text])[:half]
        if not np.array_equal(own, other, equal_nan=own.dtype.kind == "f"):
            raise DataError(
                f"{text} calls a function whose values in some rows depend on others, which "
                f"cannot be had of data in {reader.columns.relation.engine}: compute the column "
                "there, or collect the data"
            )


def _plain(value: Variable) -> np.ndarray:
    """Return a variable as numbers, or as labels."""
    if isinstance(value, Factor):
        return value.values()
    return value.array if isinstance(value, Matrix) else value
