"""The model frame: variables of a formula over the rows that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import DataError
from mixef.terms.algebra import TermSet, expand_terms
from mixef.terms.columns import Columns, in_rows
from mixef.terms.exact import Exact, Times
from mixef.terms.expressions import Scope, State, Variable, as_variable
from mixef.terms.factor import Factor, cross
from mixef.terms.formula import BarTerm, Formula, warn_of_absent
from mixef.terms.needed import dot_columns, names_in, needed_variables, with_absent
from mixef.terms.nodes import Node
from mixef.terms.parser import parse_argument
from mixef.terms.rows import (
    NOTHING_LEFT_OUT,
    LeftOut,
    absent_values,
    considered_rows,
    kept_rows,
    left_out,
    numbers,
    per_row,
    refuse_infinite,
    without_zero_weights,
)
from mixef.terms.values import Matrix, taken

NA_ACTIONS = ("omit", "exclude", "fail")


@dataclass(frozen=True, eq=False)
class ModelFrame:
    """Variables of a formula, evaluated, over the rows that are kept."""

    in_memory: ClassVar[bool] = True  # whether the rows are here, or come in batches
    told: ClassVar[set[str] | None] = None  # of batches, what one of them has warned of

    formula: Formula
    #: (n,) or (n, 2): the response as numbers; a two-level factor is 0/1. None for any other
    #: factor, and for a formula without response.
    y: np.ndarray | None
    response: Variable | Exact | None  # the response as it was evaluated
    weights: np.ndarray | None  # (n,)
    offset: np.ndarray | None  # (n,)
    n: int  # rows kept
    chosen: np.ndarray | None  # int (n,): their positions in the input; None for all of them
    n_input: int  # rows of the input
    #: Positions that `subset` chose; None for all. ``na_action="exclude"`` pads to these.
    considered: np.ndarray | None
    na_action: str  # {"omit", "exclude", "fail"}
    dot_columns: tuple[str, ...] | None  # what ``.`` in the formula stands for
    state: State  # what evaluation learnt; a spec passes it on to new data
    offset_nodes: tuple[Node, ...] = ()
    source_index: pd.Index | None = None
    #: By their text, what fixed effects and columns of random effects are made of.
    variables: dict[str, Variable] = field(default_factory=dict, repr=False)
    #: By their text, the variables that grouping factors cross, whole numbers exactly.
    groups: dict[str, Factor] = field(default_factory=dict, repr=False)
    left_out: LeftOut = NOTHING_LEFT_OUT  # how many rows are not kept, and why

    def variable(self, node: Node | str) -> Variable:
        """Return an evaluated variable of the formula, by node or text.

        Raises
        ------
        KeyError
            If the formula does not hold it.
        """
        text = node if isinstance(node, str) else node.text
        return self.variables[text] if text in self.variables else self.groups[text]

    @cached_property
    def fixed_terms(self) -> TermSet:
        """Expanded terms of the fixed part."""
        return expand_terms(self.formula.fixed, self.dot_columns)

    @property
    def is_reduced(self) -> bool:
        """Whether rows elsewhere stay out for variables that the formula no longer has."""
        return False

    def stand_in(self, p: int) -> Any:
        """Return what stands for a matrix of p columns whose rows are elsewhere, or None."""
        return None

    def group(self, nodes: Sequence[Node]) -> Factor:
        """Return the factor that crosses some of the grouping variables."""
        factors = [self.groups[node.text] for node in nodes]
        return factors[0] if len(factors) == 1 else cross(factors)

    def data_columns(self, data: Any) -> Columns | None:
        """Return the columns of the data that the frame is of; None for arrays in reach."""
        return None if data is None else Columns(data)

    def batches(self) -> Iterator[ModelFrame]:
        """Yield the rows, some at a time where they are not in memory."""
        yield self

    def bar_terms(self, bar: BarTerm) -> TermSet:
        """Return the expanded terms of a bar term's left side."""
        return expand_terms(bar.lhs, self.dot_columns)

    @cached_property
    def rows(self) -> np.ndarray:
        """Positions of the kept rows in the input, int (n,)."""
        return np.arange(self.n_input) if self.chosen is None else self.chosen

    @cached_property
    def index(self) -> pd.Index:
        """Labels of the kept rows: the pandas index of the input, or positions."""
        return self._labels(self.rows)

    @cached_property
    def padded_index(self) -> pd.Index:
        """Labels of the rows that `pad` returns."""
        return self._labels(self.padded_rows)

    @cached_property
    def padded_rows(self) -> np.ndarray:
        """Positions in the input of the rows that `pad` returns."""
        if self.na_action != "exclude":
            return self.rows
        return np.arange(self.n_input) if self.considered is None else self.considered

    def pad(self, values: np.ndarray) -> np.ndarray:
        """Return values (n, ...) with NaN at dropped rows if ``na_action="exclude"``."""
        if len(self.padded_rows) == self.n:
            return values
        place = np.full(self.n_input, -1)
        place[self.padded_rows] = np.arange(len(self.padded_rows))
        out = np.full((len(self.padded_rows), *values.shape[1:]), np.nan)
        out[place[self.rows]] = values
        return out

    def series(self, values: np.ndarray, name: str) -> pd.Series:
        """Label values (n,) by rows of the data; ``na_action="exclude"`` pads with NaN."""
        # A copy, so that writing to the result does not reach the fit.
        return pd.Series(self.pad(values).copy(), index=self.padded_index, name=name)

    def used(self, values: Any, what: str) -> Any:
        """Return values for the kept rows, in their order; the inverse of `pad`.

        Parameters
        ----------
        values : Series, DataFrame, or array (n, ...)
            What has labels goes by them; what has none is for the kept rows, or for those that
            `pad` returns.
        """
        labelled = isinstance(values, pd.Series | pd.DataFrame)
        if labelled and not values.index.equals(self.padded_index):
            return in_rows(values, what, self.index, self.n)
        padded = len(self.padded_rows)
        if padded == self.n or not np.ndim(values) or len(values) != padded:
            return values
        at = np.searchsorted(self.padded_rows, self.rows)
        return values.iloc[at] if labelled else np.asarray(values)[at]

    def _labels(self, rows: np.ndarray) -> pd.Index:
        if self.source_index is None:
            return pd.Index(rows)
        whole = len(rows) == len(self.source_index) and len(rows) == self.n_input
        return self.source_index if whole and _is_range(rows) else self.source_index[rows]


def _is_range(rows: np.ndarray) -> bool:
    return len(rows) == 0 or (rows[0] == 0 and bool((np.diff(rows) == 1).all()))


def model_frame(
    formula: Formula,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    env: Mapping[str, Any] | None = None,
    unused_levels: bool = False,
) -> ModelFrame:
    """Evaluate the variables of a formula and keep the complete rows.

    Variables are evaluated on all rows, and rows are chosen afterwards by `subset` and by what
    is missing, as R's ``model.frame`` does; so ``scale(x)`` centres on all values of ``x``.

    Parameters
    ----------
    formula : Formula
        From ``parse_formula``.
    data : DataFrame or mapping
        Anything `Columns` reads; it is not modified. None takes all variables from `env`.
    weights, offset : str, array or Series, optional
        A column, an expression in the columns, or one value a row. Offsets add up, those in
        the formula included; `offset` may be a list of names.
    subset : str or array, optional
        An expression that is true where a row is wanted, booleans, or row positions from 0.
    na_action : {"omit", "exclude", "fail"}
    env : mapping, optional
        The caller's names, for functions and variables that are not columns.
    unused_levels : bool
        Keep levels that a factor declares and no row has, which R's ``model.frame`` drops.

    Raises
    ------
    DataError
        If no row is left, a value is infinite, a weight is negative, or (with
        ``na_action="fail"``) a value is missing; the message names the variable.
    FormulaError
        For names and functions that are not there.

    Examples
    --------
    >>> from mixef.terms.formula import parse_formula
    >>> frame = model_frame(
    ...     parse_formula("y ~ log(x) + (1 | g)"),
    ...     {"y": [1.0, 2.0, 3.0], "x": [1.0, float("nan"), 2.0], "g": ["a", "a", "b"]},
    ... )
    >>> frame.n, frame.rows
    (2, array([0, 2]))
    """
    na_action = checks.option(na_action, "na_action", NA_ACTIONS)
    found = evaluate(
        formula, _columns_of(formula, data, env), State(), env, weights=weights, offset=offset
    )
    columns, scope = found.scope.columns, found.scope
    chooser = Scope(columns, scope.state, env)
    considered = considered_rows(subset, chooser)
    chooser.warn_of_missing(end="; a condition that is missing chooses no row")
    absent = absent_values(found.judged)
    complete = kept_rows(absent, considered, columns.n, na_action)
    rows = without_zero_weights(found.weights, complete, columns.n)
    scope.warn_of_missing(considered, "; these rows are left out")
    for terms in with_absent(formula, found.dot_columns):
        warn_of_absent(terms)
    counts = left_out(columns.n, considered, absent, complete, rows)
    return found.frame(rows, considered, na_action, unused_levels, counts)


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The variables of a formula on all rows of some data."""

    formula: Formula
    scope: Scope
    response: Variable | Exact | None
    variables: dict[str, Variable]
    groups: dict[str, Factor]
    offsets: list[np.ndarray]  # each (n,)
    weights: np.ndarray | None  # (n,)
    dot_columns: tuple[str, ...] | None
    offset_nodes: tuple[Node, ...]

    @property
    def judged(self) -> dict[str, Any]:
        """What makes a row incomplete where it is missing, by the names that messages use."""
        judged: dict[str, Any] = self.groups | self.variables
        judged.update({f"offset {i + 1}": v for i, v in enumerate(self.offsets)})
        if self.weights is not None:
            judged["weights"] = self.weights
        return judged

    def frame(
        self,
        rows: np.ndarray | None,
        considered: np.ndarray | None,
        na_action: str,
        unused_levels: bool,
        counts: LeftOut,
    ) -> ModelFrame:
        """Return the frame of some rows (their positions; None for all)."""
        columns, formula = self.scope.columns, self.formula
        kept = {text: _taken(v, rows, unused_levels) for text, v in self.variables.items()}
        offset = _taken(reduce(np.add, self.offsets), rows) if self.offsets else None
        refuse_infinite(kept | ({} if offset is None else {"offset": offset}), formula.response)
        response = None if self.response is None else _taken(self.response, rows, unused_levels)
        return ModelFrame(
            formula=formula,
            y=_response_numbers(response),
            response=response,
            weights=None if self.weights is None else _taken(self.weights, rows),
            offset=offset,
            n=columns.n if rows is None else len(rows),
            chosen=rows,
            n_input=columns.n,
            considered=considered,
            na_action=na_action,
            dot_columns=self.dot_columns,
            state=self.scope.state,
            offset_nodes=self.offset_nodes,
            source_index=columns.labels,
            variables=kept,
            groups={text: _taken(v, rows) for text, v in self.groups.items()},
            left_out=counts,
        )


def evaluate(
    formula: Formula,
    columns: Columns,
    state: State,
    env: Mapping[str, Any] | None,
    *,
    weights: Any = None,
    offset: Any = None,
) -> Evaluated:
    """Evaluate the variables of a formula on all rows, as `model_frame` has its arguments.

    Parameters
    ----------
    state : State
        What other rows taught; what is not in it yet is learnt from these.
    """
    scope = Scope(columns, state, env)
    dot = dot_columns(formula, columns)
    needed, group_nodes, offset_nodes = needed_variables(formula, dot)
    response = None if formula.response is None else _response(scope, formula.response)
    variables = {
        node.text: scope.variable(node) if response is None else as_variable(response)
        for node in needed[:1]
    }
    variables |= {node.text: scope.variable(node) for node in needed[1:]}
    groups = {node.text: scope.group(node) for node in group_nodes}
    offsets = [per_row(o, "offset", scope) for o in _several(offset)]
    offsets += [numbers(variables[o.text], o.text) for o in offset_nodes]
    weight_values = None if weights is None else per_row(weights, "weights", scope)
    return Evaluated(
        formula, scope, response, variables, groups, offsets, weight_values, dot, offset_nodes
    )


def _several(offset: Any) -> list[Any]:
    """Return the offsets that an argument stands for: a list of names is several."""
    if isinstance(offset, list) and offset and all(isinstance(o, str) for o in offset):
        return offset
    return [] if offset is None else [offset]


def numeric_response(frame: ModelFrame) -> np.ndarray:
    """Return the response (n,) of a linear model; a DataError if it is no column of numbers."""
    node, response = frame.formula.response, frame.response
    if node is None or response is None:
        raise DataError(f"the formula {frame.formula.text} has no response; write 'y ~ ...'")
    if isinstance(response, Factor) and response.kind != "logical":
        shown = ", ".join(response.levels[:5])
        raise DataError(
            f"response must be numeric, but {node.text} is a {response.kind} with levels "
            f"{shown}; convert it, or fit a binomial model with glmer"
        )
    if isinstance(response, Matrix):
        raise DataError(
            f"the response {node.text} is a matrix with {response.array.shape[1]} columns; "
            "a linear mixed model has one response: fit one model a column (see refit)"
        )
    assert frame.y is not None
    return frame.y


def _columns_of(formula: Formula, data: Any, env: Mapping[str, Any] | None) -> Columns:
    if isinstance(data, Columns):
        return data
    if data is not None:
        return Columns(data)
    names = names_in(formula)
    found = {name: env[name] for name in names if env and _is_array(env.get(name))}
    if not found:
        raise DataError("no data were given, and no variable of the formula is an array in reach")
    return Columns(found)


def _is_array(value: Any) -> bool:
    return isinstance(value, list | tuple) or (hasattr(value, "__len__") and np.ndim(value) > 0)


def _response(scope: Scope, node: Node) -> Variable | Exact:
    value = scope.value(node)
    if isinstance(value, Times):
        raise DataError(
            f"response must be numeric, but {node.text} holds {value.held.dtype} values; write "
            f"as.numeric({node.text}) for days"
        )
    return value


def _taken(value: Any, rows: np.ndarray | None, unused_levels: bool = False) -> Any:
    """Return a variable at the rows that are kept, with the levels that are left."""
    if rows is not None:
        value = taken(value, rows)
    return value.used_levels() if isinstance(value, Factor) and not unused_levels else value


def _response_numbers(response: Variable | Exact | None) -> np.ndarray | None:
    if isinstance(response, Factor):
        return response.as_float() if len(response.levels) == 2 else None
    if isinstance(response, Matrix):
        return np.ascontiguousarray(response.array, dtype=np.float64)
    return None if response is None else np.asarray(response, dtype=np.float64)


def new_offset(
    frame: ModelFrame, argument: Any, columns: Columns, env: Mapping[str, Any] | None
) -> np.ndarray | None:
    """Return the offset (m,) of new data, or None for a model without one.

    Parameters
    ----------
    frame : ModelFrame
        Of the fit; its formula may hold offsets.
    argument : str, list of str, array or None
        The fit's ``offset=``.
    columns : Columns
        New data.

    Raises
    ------
    DataError
        If the fit's offset was an array, which says nothing about new rows.
    """
    nodes = list(frame.offset_nodes)
    if argument is not None:
        texts = [argument] if isinstance(argument, str) else argument
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise DataError(
                "the model's offset= was an array, which has no values for new data; fit with "
                "the offset as a column name or as offset(...) in the formula"
            )
        nodes += [parse_argument(text, columns, "offset") for text in texts]
    if not nodes:
        return None
    scope = Scope(columns, frame.state, env)
    total: np.ndarray = np.sum(
        [np.asarray(scope.variable(node), dtype=float) for node in nodes], axis=0
    )
    return total
