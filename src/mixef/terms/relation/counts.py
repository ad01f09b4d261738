"""What a model needs to know of all rows of a table, counted by the engine that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from mixef.late import LateModule
from mixef.terms.exact import EXACT
from mixef.terms.factor import Factor
from mixef.terms.frame import Evaluated
from mixef.terms.needed import group_factors, needed_variables
from mixef.terms.nodes import Name, Node, variable_names
from mixef.terms.parser import parse_argument
from mixef.terms.relation.engines import collected, reading
from mixef.terms.relation.expressions import (
    Expressions,
    NotOnEngineError,
    Numeric,
    is_present,
)
from mixef.terms.relation.polynomials import Polynomial, centre
from mixef.terms.relation.reader import Reader
from mixef.terms.relation.sums import CompleteRows, Groups, Keys, is_there, keys_of
from mixef.terms.relation.survey import Summary, Survey
from mixef.terms.rows import LeftOut
from mixef.terms.values import Matrix

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa
else:
    nw, pa = LateModule("narwhals"), LateModule("pyarrow")

#: The response, offsets taken off, among the texts of other numbers: no expression has this one.
RESPONSE = "(response)"
#: Numbers beyond this in size, or below its inverse, have units whose inverse overflows.
LARGEST = 1e290
_SIZES = ("low", "mean", "high", "var")


@dataclass
class Used:
    """What a model uses of a table's columns, in expressions of the engine."""

    expressions: Expressions
    #: By the names that messages use, what has to be there in a row: nw.Expr of Boolean.
    judged: dict[str, Any] = field(default_factory=dict)
    #: Where a value is missing though nothing that it is made of is: nw.Expr of Boolean.
    made_missing: list[Any] = field(default_factory=list)
    #: By their texts, the numeric variables: the columns of each.
    variables: dict[str, list[Numeric]] = field(default_factory=dict)
    numbers: dict[str, Numeric] = field(default_factory=dict)  # that sums may be taken of
    keys: dict[str, Keys] = field(default_factory=dict)
    weight: Numeric | None = None

    def judge(self, name: str, node: Node, present: Any) -> None:
        """Take in a variable of which it is known where it is there."""
        self.judged[name] = present
        if isinstance(node, Name):
            return
        self.made_missing.append(_made_missing(node, self.expressions.schema, present))

    def factor(self, name: str, node: Node) -> None:
        """Take in a factor, or part of a grouping factor."""
        self.keys[name] = keys = keys_of(node, self.expressions)
        schema = self.expressions.schema
        parts = [
            ~expr.is_null() if keys.is_condition else is_there(expr, schema[column])
            for column, expr in keys.columns.items()
        ]
        self.judge(name, node, reduce(lambda a, b: a & b, parts))

    def numeric(self, name: str, node: Node, columns: list[Numeric]) -> None:
        """Take in a numeric variable."""
        self.variables[name] = columns
        self.judge(name, node, reduce(lambda a, b: a & b, (is_present(c.expr) for c in columns)))

    def one_number(self, name: str, node: Node) -> Numeric:
        """Take in an argument that is one number a row."""
        number = self.expressions.number(node)
        self.judge(name, node, is_present(number.expr))
        return number


def used_columns(reader: Reader, sample: Evaluated) -> Used:
    """Return what a formula uses of the columns of a table.

    Parameters
    ----------
    sample : Evaluated
        Its variables on some rows, for their kinds.
    """
    schema, formula = reader.columns.relation.schema, reader.formula
    used = Used(Expressions(schema, reader.state))
    nodes, groups, offset_nodes = needed_variables(formula, sample.dot_columns)
    for node in groups:
        used.factor(node.text, node)
    for node in nodes:
        if _is_factor(sample.variables[node.text]):
            used.factor(node.text, node)
            continue
        made = used.expressions.value(node)
        columns = made if isinstance(made, list) else [used.expressions.number(node)]
        used.numeric(node.text, node, columns)
        if node is not formula.response:
            texts = {t for c in columns for monomial in c.polynomial.terms for t in monomial}
            used.numbers |= {text: used.expressions.numbers[text] for text in texts}
    given = reader.offset if isinstance(reader.offset, list) else [reader.offset]
    offsets = [_named(text, schema) for text in given if text is not None] + [*offset_nodes]
    taken = [used.one_number(f"offset {k + 1}", node) for k, node in enumerate(offsets)]
    if taken:
        total = reduce(lambda a, b: a + b, (offset.expr for offset in taken))
        used.variables["offset"] = [Numeric(total, Polynomial.of("(offset)"))]
    if reader.weights is not None:
        used.weight = used.one_number("weights", _named(reader.weights, schema))
        used.variables["weights"] = [used.weight]
    response = formula.response
    if response is not None and not isinstance(sample.variables[response.text], Matrix):
        known = used.variables.get(response.text)
        try:
            y = (known[0] if known else used.expressions.number(response)).expr
        except NotOnEngineError:  # labels
            return used
        y = y - total if taken else y
        used.numbers[RESPONSE] = Numeric(y, Polynomial.of(RESPONSE))
    return used


def counted(reader: Reader, first: Any) -> tuple[Survey, CompleteRows] | None:
    """Let the engine count complete rows, and find levels and sizes of numbers.

    None for a table with anything to complain of, or a formula that engines are not asked for:
    then the rows are read.
    """
    if reader.columns.is_folded:
        return None
    sample = reader.read(first).found
    unasked = NotOnEngineError, NotImplementedError  # of narwhals' for some engine
    try:
        with reading(reader.columns.relation.engine, *unasked):
            return _counted(reader, sample)
    except unasked:
        return None


def _counted(reader: Reader, sample: Evaluated) -> tuple[Survey, CompleteRows] | None:
    used = used_columns(reader, sample)
    rows, n = _chosen(reader, used)
    query = _Query(used, rows)
    found = query.first()
    left_out = _left_out(found, query, n)
    if left_out is None:
        return None
    if left_out.missing or left_out.weightless:
        query = query.complete()
        found = query.sizes()
    survey, complete = _sized(found, used, query, reader)
    survey.sample, survey.left_out = sample, left_out
    values = _find_levels(survey, complete, reader, sample)
    return survey, replace(complete, values=values)


class _Query:
    """The columns of a model on an engine, under short names."""

    def __init__(self, used: Used, rows: Any) -> None:
        self.numbers = dict(used.numbers)
        for text, columns in used.variables.items():
            self.numbers |= dict(zip(parts_of(text, columns), columns, strict=True))
        keys = {name: expr for own in used.keys.values() for name, expr in own.columns.items()}
        own: dict[int, str] = {}  # the response is asked for once, by either of its names
        self.number = {
            text: own.setdefault(id(number.expr), f"x{len(own)}")
            for text, number in self.numbers.items()
        }
        self.key = {name: f"k{k}" for k, name in enumerate(keys)}
        self.judged = {name: f"p{k}" for k, name in enumerate(used.judged)}
        self.made = [f"m{k}" for k in range(len(used.made_missing))]
        self.weight = None if used.weight is None else nw.col(self.number["weights"])
        chosen = {self.number[text]: number.expr for text, number in self.numbers.items()}
        chosen |= {self.key[name]: expr for name, expr in keys.items()}
        chosen |= {self.judged[name]: _known(present) for name, present in used.judged.items()}
        chosen |= dict(zip(self.made, used.made_missing, strict=True))
        self.rows = rows.select(**chosen)

    @property
    def is_complete(self) -> Any:
        """Where nothing is missing."""
        return reduce(lambda a, b: a & b, map(nw.col, self.judged.values()))

    def complete(self) -> _Query:
        """Return the rows that count."""
        made = copy(self)
        made.rows = self.rows.filter(self.is_complete)
        if self.weight is not None:
            made.rows = made.rows.filter(self.weight > 0.0)
        return made

    def first(self) -> dict[str, Any]:
        """Count rows and what they miss; find sizes of numbers, right where nothing is missing."""
        w, complete = self.weight, self.is_complete
        wanted = {"complete": _count(complete)}
        wanted |= {name: _count(~nw.col(name)) for name in self.judged.values()}
        wanted |= {name: _count(nw.col(name)) for name in self.made}
        if w is not None:
            wanted |= {
                "zero": _count(complete & (w == 0.0)),
                "negative": _count(complete & (w < 0.0)),
            }
        return self.sizes(wanted)

    def sizes(self, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Find sizes of numbers."""
        wanted: dict[str, Any] = {"n": nw.len(), **(more or {})}
        for name in self.number.values():
            x = nw.col(name)
            wanted |= {f"{name}_low": x.min(), f"{name}_high": x.max(), f"{name}_mean": x.mean()}
            wanted[f"{name}_var"] = x.var()
        if self.weight is not None:
            positive = nw.when(self.weight > 0.0).then(self.weight)
            wanted |= {"log_w": positive.log().sum(), "sum_w": self.weight.sum()}
        return _one_row(self.rows.select(**wanted))


def parts_of(text: str, columns: Sequence[Numeric]) -> list[str]:
    """Return the names of the columns of a numeric variable."""
    return [text] if len(columns) == 1 else [f"{text}{k + 1}" for k in range(len(columns))]


def _chosen(reader: Reader, used: Used) -> tuple[Any, int | None]:
    """Return the rows that `subset` chooses, and how many there are of all; None without one."""
    rows = reader.columns.relation.lazy
    if reader.subset is None:
        return rows, None
    node = parse_argument(reader.subset, used.expressions.schema)
    condition = used.expressions.condition(node)
    made = _made_missing(node, used.expressions.schema, ~condition.is_null())
    found = _one_row(rows.select(made=made).select(rows=nw.len(), made=_count(nw.col("made"))))
    if found["made"]:  # of which the rows are told
        raise NotOnEngineError(node.text)
    return rows.filter(condition), int(found["rows"])


def _left_out(found: Mapping[str, Any], query: _Query, n_all: int | None) -> LeftOut | None:
    """Return which rows are left out; None where there is anything to complain of."""
    n, asked, zero = (int(found.get(name, 0)) for name in ("n", "complete", "zero"))
    if asked == zero or found.get("negative", 0) or any(found[name] for name in query.made):
        return None
    whole = n if n_all is None else n_all
    by_variable = {name: int(found[own]) for name, own in query.judged.items() if found[own]}
    return LeftOut(whole, whole - n, n - asked, by_variable, zero)


def _sized(
    found: Mapping[str, Any], used: Used, query: _Query, reader: Reader
) -> tuple[Survey, CompleteRows]:
    """Return how large the numbers of complete rows are, and these rows."""
    n, w, column = int(found["n"]), query.weight, nw.col
    sizes = {
        text: {what: float(found[f"{name}_{what}"]) for what in _SIZES}
        for text, name in query.number.items()
    }
    for text, size in sizes.items():
        largest = max(abs(size["low"]), abs(size["high"]))
        lost = query.numbers[text].whole and largest >= EXACT  # of whose digits it is told
        extreme = largest > 0.0 and not 1.0 / LARGEST < largest < LARGEST
        if lost or extreme or not np.isfinite([*size.values()]).all():
            raise NotOnEngineError(text)
    survey = Survey(n=n)
    for text, columns in used.variables.items():
        parts = parts_of(text, columns)
        low, mean, high, var = (np.array([sizes[p][what] for p in parts]) for what in _SIZES)
        survey.summaries[text] = Summary(n, mean, var * max(n - 1, 0), low, high)
    centres = {t: centre(*(sizes[t][what] for what in _SIZES[:3])) for t in used.numbers}
    return survey, CompleteRows(
        lazy=query.rows,
        expressions=used.expressions,
        columns=reader.columns,
        keys_of=used.keys,
        numbers={
            text: (column(query.number[text]) - own.origin) * (1.0 / own.unit)
            for text, own in centres.items()
        },
        centres=centres,
        largest={t: max(abs(sizes[t]["low"]), abs(sizes[t]["high"])) for t in used.numbers},
        weight=w,
        keys={name: column(own) for name, own in query.key.items()},
        n=n,
        sum_log_w=0.0 if w is None else float(found["log_w"]),
        sum_w=float(n) if w is None else float(found["sum_w"]),
        sum_w2=float(n) if w is None else _sum_of_squares(n, sizes["weights"]),
        largest_weight=None if w is None else sizes["weights"]["high"],
        values={},
    )


def _sum_of_squares(n: int, size: Mapping[str, float]) -> float:
    return n * size["mean"] ** 2 + (n - 1) * size["var"]


def _find_levels(
    survey: Survey, rows: CompleteRows, reader: Reader, sample: Evaluated
) -> dict[str, Any]:
    """Find the levels of all factors, and which combinations of grouping factors occur.

    Returns the distinct values of each key, those of a single one in the order of its levels.
    """
    found: dict[str, Any] = {}
    nodes, parts, _ = needed_variables(reader.formula, sample.dot_columns)
    kinds = [("variable", node) for node in nodes if _is_factor(sample.variables[node.text])]
    kinds += [("group", node) for node in parts]
    for kind, node in kinds:
        keys = rows.keys_of[node.text]
        groups = None if survey.left_out.total else _of_text(keys, rows)
        if groups is None:
            groups = rows.groups(list(keys.columns), [])
        factor, which = rows.factor(groups, node, kind == "group")
        found |= groups.values
        if len(keys.columns) == 1:
            ((name, codes),) = groups.codes.items()
            order = codes[np.argsort(factor.codes[which])]
            found[name] = found[name].take(pa.array(order))
        if len(np.unique(factor.codes)) < len(factor.codes):
            raise NotOnEngineError(node.text)  # numbers with one label: rows have either
        survey.number((kind, node.text), factor)
    for bar in reader.formula.bars:
        crossed = group_factors(bar.group)
        texts = tuple(node.text for node in crossed)
        if len(texts) == 1:
            continue
        names = dict.fromkeys(n for text in texts for n in rows.keys_of[text].columns)
        groups = rows.groups(list(names), [])
        numbers = []
        for node in crossed:
            factor, which = rows.factor(groups, node)
            numbers.append(survey.number(("group", node.text), factor)[which])
        survey.cross(texts, numbers)
    return found


def _of_text(keys: Keys, rows: CompleteRows) -> Groups | None:
    """Return the groups of all rows by a column of text, whose labels have been asked for.

    None for any other key. An enumeration may declare labels that no row has.
    """
    name = next(iter(keys.columns))
    text = rows.columns.text.get(name)
    if text is None or keys.is_condition or len(keys.columns) > 1:
        return None
    if rows.expressions.schema[name] == nw.Enum:
        return None
    n = len(text.values)
    return Groups({name: np.arange(n)}, {name: text.values}, np.empty((n, 0)))


def _is_factor(value: Any) -> bool:
    return isinstance(value, Factor) or getattr(value, "dtype", None) == np.bool_


def _made_missing(node: Node, schema: Mapping[str, Any], present: Any) -> Any:
    """Return where a value is missing though nothing that it is made of is."""
    read = [_known(is_there(nw.col(n), schema[n])) for n in variable_names(node) if n in schema]
    return reduce(lambda a, b: a & b, read, nw.lit(True)) & ~_known(present)


def _named(text: Any, names: Mapping[str, Any]) -> Node:
    """Return an argument that is a column, or an expression of columns."""
    if not isinstance(text, str):
        raise NotOnEngineError(str(text))
    return parse_argument(text, names)


def _known(condition: Any) -> Any:
    """Return a condition that is false where it is missing."""
    return nw.when(condition).then(nw.lit(True)).otherwise(nw.lit(False))


def _count(condition: Any) -> Any:
    return condition.cast(nw.Int64).sum()


def _one_row(lazy: Any) -> dict[str, Any]:
    """Return a result of one row; a sum of no rows is 0."""
    row: dict[str, Any] = collected(lazy).to_pylist()[0]
    return {name: 0 if value is None else value for name, value in row.items()}
