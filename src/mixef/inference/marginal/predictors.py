"""The predictors of a fit's fixed effects, and the values that a grid has of each.

Covariates stand at their means, except for those with two values at most, which have both; factors,
logicals and numbers that the formula makes factors of have all levels that occur (R. V. Lenth,
emmeans, help page of ref_grid).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Number
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError, DataError
from mixef.estimation.fit import Fit
from mixef.inference.marginal.cells import FEW, Cells, Covariate, numbers_of
from mixef.terms.exact import Exact, Times
from mixef.terms.factor import Factor
from mixef.terms.nodes import Call, Name, Node, strip_parens, variable_names
from mixef.terms.values import Matrix, is_constant, text_of

#: Functions that make a factor of each distinct number.
_FACTORS = frozenset(
    ("factor", "as.factor", "ordered", "as.ordered", "as.character", "interaction", "relevel")
)
_KNOWN: WeakKeyDictionary[Fit, dict[str, Predictor]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Predictor:
    """One variable that the fixed effects depend on."""

    name: str
    levels: tuple[Any, ...]  # the values in the grid, as the data hold them
    texts: tuple[str, ...]  # the same as text
    #: int (n,): the level in each row of the fit, or in cells of rows, -1 for others; None for a
    #: covariate, by which rows are not counted.
    codes: np.ndarray | None
    is_factor: bool  # whether the data, or the formula, make it a factor
    #: (n,): how many rows there are in each cell; None where `codes` are those of rows.
    counts: np.ndarray | None = field(default=None, kw_only=True)
    #: Of a numeric variable that does not stand at all of its values.
    covariate: Covariate | None = field(default=None, kw_only=True)
    template: Any = None  # a factor of the data, whose levels a new column has to have

    @property
    def is_number(self) -> bool:
        """Whether all levels are written as numbers, which say nothing without a name."""
        return all(_is_number(text) for text in self.texts)

    def column(self, codes: np.ndarray) -> Any:
        """Return values (m,) by levels, as new data would hold them."""
        if isinstance(self.template, Factor):
            places = np.array([self.template.levels.index(text) for text in self.texts])
            return replace(self.template, codes=places[codes].astype(np.int32), full=False).own()
        values = np.empty(len(self.levels), dtype=object)
        values[:] = self.levels
        return pd.Series(values[codes].tolist()).to_numpy()

    def at(self, values: Any) -> Predictor:
        """Return the predictor with other values in the grid."""
        given = list(values) if _is_several(values) else [values]
        if not given:
            raise ArgumentError(f"at has no value of {self.name}; expected one or more")
        if self.is_factor:
            return self._of_levels(given)
        if isinstance(self.levels[0], pd.Timestamp):
            return self._of_times(given)
        try:
            numbers = checks.numbers(given, f"at, of {self.name},", "finite numbers")
        except ArgumentError:
            raise ArgumentError(
                f"at has {checks.shown(values)} for {self.name}, which is numeric; expected "
                "finite numbers"
            ) from None
        made = replace(
            self, levels=tuple(numbers.tolist()), texts=tuple(map(text_of, numbers.tolist()))
        )
        known = list(self.texts)
        if self.codes is None or not set(made.texts) <= set(known):
            return replace(made, codes=None)
        return replace(made, codes=_recoded(self.codes, [known.index(t) for t in made.texts]))

    def _of_times(self, given: list[Any]) -> Predictor:
        """Return times in the grid."""
        try:
            times = [pd.Timestamp(value) for value in given]
        except Exception:  # whatever pandas cannot read
            times = [pd.NaT]
        if any(time is pd.NaT for time in times):
            raise ArgumentError(
                f"at has {checks.shown(given)} for {self.name}; expected times, such as "
                f"'{self.levels[0]:%Y-%m-%d}'"
            )
        return replace(self, levels=tuple(times), texts=tuple(map(str, times)))

    def _of_levels(self, given: list[Any]) -> Predictor:
        """Return a factor with some of its levels."""
        texts = [
            text_of(value)
            if is_constant(value) or isinstance(value, Number)
            else checks.shown(value)
            for value in given
        ]
        texts = [text.upper() if text in ("True", "False") else text for text in texts]
        for text in texts:
            if text not in self.texts:
                raise ArgumentError(
                    f"at has {text!r} for {self.name}, which is no level that the fit knows; "
                    f"expected some of {', '.join(map(repr, self.texts[:30]))}"
                )
        places = [self.texts.index(text) for text in dict.fromkeys(texts)]
        assert self.codes is not None
        return replace(
            self,
            levels=tuple(self.levels[i] for i in places),
            texts=tuple(self.texts[i] for i in places),
            codes=_recoded(self.codes, places),
        )


def _is_several(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.ndim == 1
    kinds = list | tuple | set | pd.Series | pd.Index | range | pd.Categorical
    return isinstance(values, kinds) and checks.ndim(list(values)) == 1


def _recoded(codes: np.ndarray, places: list[int]) -> np.ndarray:
    """Return codes (n,) by the new places of old levels, -1 for those that are gone."""
    table = np.full(max(codes.max(initial=0), *places) + 2, -1)
    table[places] = np.arange(len(places))
    return np.where(codes >= 0, table[codes], -1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def predictors(fit: Fit) -> dict[str, Predictor]:
    """Return the predictors of the fixed effects by name, in the order of the formula.

    Raises
    ------
    DataError
        If the values of a predictor are not at hand.
    """
    nodes = fit.frame.fixed_terms.variables
    as_levels = frozenset(name for node in nodes for name in _made_factors(node))
    if fit.frame.in_memory:
        columns = variables_of(fit, nodes)
        return {name: _predictor(name, v, name in as_levels) for name, v in columns.items()}
    if fit not in _KNOWN:  # the rows are read for it
        cells, names = Cells(as_levels), list[str]()
        for piece in fit.pieces():
            columns = variables_of(piece, nodes)
            names = list(columns)
            cells.add(columns)
        columns, counts = cells.columns(names)
        _KNOWN[fit] = {
            name: replace(_predictor(name, value, name in as_levels), counts=counts)
            for name, value in columns.items()
        }
    return _KNOWN[fit]


def variables_of(fit: Fit, nodes: tuple[Node, ...]) -> dict[str, Any]:
    """Return the columns that expressions are made of, on the rows of the fit."""
    data = fit.columns
    out: dict[str, Any] = {}
    for name in dict.fromkeys(name for node in nodes for name in variable_names(node)):
        if data is not None and name in data:
            column = data[name]
            rows = fit.frame.rows
            taken = column[rows] if isinstance(column, np.ndarray) else column.take(rows)
            out[name] = taken
        elif Name(name).text in fit.frame.variables:  # an array of the caller's
            out[name] = fit.frame.variables[Name(name).text]
        elif data is None and name not in fit.frame.state.outside:
            raise DataError(
                f"the values of {name} are not at hand: the model was fitted to arrays in reach, "
                "of which it keeps what its formula makes of them; fit it with data=..."
            )
    return out


def _made_factors(node: Node) -> Iterator[str]:
    """Yield the variables of which an expression makes factors, value by value."""
    for part in node.walk():
        if isinstance(part, Call) and part.function in _FACTORS:
            for argument in part.args:
                inner = strip_parens(argument)
                if isinstance(inner, Name):
                    yield inner.name


def _predictor(name: str, value: Any, as_levels: bool) -> Predictor:
    """Return the predictor that a column is, or what is known of a covariate."""
    if isinstance(value, Covariate):
        text = text_of(value.mean) if isinstance(value.mean, float) else str(value.mean)
        return Predictor(name, (value.mean,), (text,), None, False, covariate=value)
    if isinstance(value, Factor):
        value = value.used_levels()
    if isinstance(value, Matrix):
        raise DataError(
            f"{name} is a matrix with {value.array.shape[1]} columns, of which no grid can be made;"
            " give its columns names of their own in the data"
        )
    if isinstance(value, np.ndarray) and value.dtype.kind == "b":
        return Predictor(name, (False, True), ("FALSE", "TRUE"), value.astype(int), True)
    if isinstance(value, Factor):
        if value.kind == "logical":
            return Predictor(name, (False, True), ("FALSE", "TRUE"), value.codes, True)
        own = tuple(value.level_set.index.tolist())
        return Predictor(name, own, value.levels, value.codes.astype(int), True, value)
    if isinstance(value, Times) and not as_levels:
        return _predictor(name, Covariate.of(value), as_levels)
    if isinstance(value, Exact) and as_levels:
        factor = value.factor()
        own = tuple(factor.level_set.index.tolist())
        return Predictor(name, own, factor.levels, factor.codes.astype(int), True)
    numbers = numbers_of(value)
    # A value may be missing where a function of the formula makes something of that.
    present = ~np.isnan(numbers)
    codes = np.full(len(numbers), -1)
    distinct, codes[present] = np.unique(numbers[present], return_inverse=True)
    if as_levels or len(distinct) <= FEW:
        values = [int(x) if isinstance(value, Exact) else x for x in distinct.tolist()]
        return Predictor(name, tuple(values), tuple(map(text_of, values)), codes, as_levels)
    return _predictor(name, Covariate.of(value), as_levels)


def placed(found: Mapping[str, Predictor], at: Any) -> dict[str, Predictor]:
    """Return predictors with the values that ``at`` gives some of them."""
    out = dict(found)
    if at is None:
        return out
    given = checks.mapping(at, "at", "a dict from predictors to values, such as {'x': [1, 2]}")
    for name, values in given.items():
        if name not in out:
            raise ArgumentError(
                f"at names {name!r}, which is no predictor of the fixed effects; they are "
                f"{', '.join(out) or 'none'}"
            )
        out[name] = out[name].at(values)
    return out
