"""The reference grid: all combinations of the predictors' values, and what the model says there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.marginal.predictors import Predictor, placed, predictors, variables_of
from mixef.inference.over_rows import row_mean
from mixef.terms.columns import Columns
from mixef.terms.frame import new_offset
from mixef.terms.nodes import variable_names

EXPECTED = "a dict from predictors to values, such as {'x': [1, 2]}"
WEIGHTS = ("equal", "proportional", "outer", "cells", "flat")


@dataclass(frozen=True, eq=False)
class Grid:
    """Combinations of values of the predictors; the first predictor varies fastest."""

    fit: Fit
    predictors: dict[str, Predictor]
    codes: np.ndarray  # int (m, k): the level of each predictor
    nesting: dict[str, tuple[str, ...]]  # by nested factor, the factors that it is nested in
    offset: np.ndarray  # (m,)

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The grid as new data."""
        pairs = zip(self.predictors.values(), self.codes.T, strict=True)
        made = {p.name: p.column(codes) for p, codes in pairs}
        return made or {" ": np.zeros(len(self.codes))}

    @cached_property
    def X(self) -> np.ndarray:
        """The model matrix (m, P), with the columns that are not estimated."""
        return self.fit.design.spec.apply(Columns(self.columns), {})

    @cached_property
    def frequency(self) -> np.ndarray:
        """How many rows of the fit there are for each combination of factors (m,)."""
        counted = [(j, p) for j, p in enumerate(self.predictors.values()) if p.codes is not None]
        if not counted:
            return np.full(len(self.codes), float(self.fit.frame.n))
        shape = tuple(len(p.levels) for _, p in counted)
        rows = np.array([p.codes for _, p in counted])
        known, n = (rows >= 0).all(axis=0), counted[0][1].counts
        cells = np.ravel_multi_index(tuple(rows[:, known]), shape)
        count = np.bincount(cells, None if n is None else n[known], minlength=int(np.prod(shape)))
        own = tuple(self.codes[:, j] for j, _ in counted)
        return count[np.ravel_multi_index(own, shape)].astype(float)

    def place(self, name: str) -> int:
        """Return the position of a predictor."""
        return list(self.predictors).index(name)

    def cells(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the cell (m,) of each row by some predictors, and the codes (c, k) of cells.

        Cells are ordered with the first of the names fastest.
        """
        if not names:
            return np.zeros(len(self.codes), dtype=int), np.empty((1, 0), dtype=int)
        own = self.codes[:, [self.place(name) for name in names]]
        cells, cell = np.unique(own[:, ::-1], axis=0, return_inverse=True)
        return np.asarray(cell).ravel(), cells[:, ::-1]

    def averages(self, names: Sequence[str], weights: Any) -> sparse.csr_array:
        """Return W (c, m), which takes means over all other predictors, cell by cell."""
        cell, codes = self.cells(names)
        own = self._weights(names, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            own = own / np.bincount(cell, own, len(codes))[cell]
        shape = (len(codes), len(cell))
        return sparse.csr_array((own, (cell, np.arange(len(cell)))), shape=shape)

    def _weights(self, names: Sequence[str], weights: Any) -> np.ndarray:
        """Return the weight (m,) of each row in the mean that it is part of."""
        others = [name for name in self.predictors if name not in names]
        if not isinstance(weights, str):
            return self._given(others, weights)
        rule = checks.option(weights, "weights", WEIGHTS)
        if rule == "equal":
            return self._equal(names, others)
        if rule == "cells":
            return self.frequency
        if rule == "flat":
            return (self.frequency > 0).astype(float)
        # A factor counts together with those that it is nested in.
        inner = {outer for name in others for outer in self.nesting.get(name, ())}
        apart = [[*self.nesting.get(name, ()), name] for name in others if name not in inner]
        parts = [others] if rule == "proportional" else apart
        out = np.ones(len(self.codes))
        for part in parts:
            counted = [
                name for name in part if name in others and self.predictors[name].codes is not None
            ]
            if counted:
                cell, _ = self.cells(counted)
                out = out * np.bincount(cell, self.frequency)[cell]
        return out

    def _equal(self, names: Sequence[str], others: Sequence[str]) -> np.ndarray:
        """Return equal weights; a nested factor is averaged inside of what it is nested in."""
        out = np.ones(len(self.codes))
        if not self.nesting:
            return out
        left = [*names, *others]
        for name in sorted(others, key=lambda other: -len(self.nesting.get(other, ()))):
            inner, _ = self.cells(left)
            left = [other for other in left if other != name]
            outer, _ = self.cells(left)
            pairs = np.unique(np.column_stack([outer, inner]), axis=0)
            out = out / np.bincount(pairs[:, 0])[outer]
        return out

    def _given(self, others: Sequence[str], weights: Any) -> np.ndarray:
        """Return weights that the caller gives, one a combination that is averaged over."""
        what = f"one of {checks.either(WEIGHTS)}, or numbers, 0 or more"
        values = checks.numbers(weights, "weights", what).ravel()
        averaged = [name for name in others if len(self.predictors[name].levels) > 1]
        cell, codes = self.cells(averaged)
        if len(values) != len(codes) or (values < 0).any() or not values.any():
            raise ArgumentError(
                f"weights is {checks.shown(weights)}; expected {len(codes)} numbers, 0 or more, "
                f"one for each combination of {', '.join(averaged) or 'what is averaged over'}"
            )
        return values[cell]


def reference_grid(
    fit: Fit,
    at: Any = None,
    offset: Any = None,
    nesting: Any = None,
    changed: Mapping[str, Predictor] | None = None,
) -> Grid:
    """Return the reference grid of a fit.

    Parameters
    ----------
    at : mapping, optional
        Values of some predictors.
    offset : float, optional
        By default the mean of the fit's.
    nesting : None, False or mapping
        By default as the data show it; False for none.
    changed : mapping, optional
        Predictors with other values, from which ``at`` goes on.
    """
    if not len(fit.kept):
        raise ArgumentError(
            f"{fit.formula.text} has no fixed effects, so there are no means to estimate"
        )
    nodes = fit.frame.fixed_terms.variables
    of_offset = set(_offset_names(fit)) - {n for node in nodes for n in variable_names(node)}
    given = {} if at is None else dict(checks.mapping(at, "at", EXPECTED))
    moved = {name: given.pop(name) for name in list(given) if name in of_offset}
    found = placed(predictors(fit) | dict(changed or {}), given)
    sizes = [len(p.levels) for p in found.values()]
    m = int(np.prod([float(s) for s in sizes])) if sizes else 1
    checks.refuse_beyond_memory(
        m * (len(fit.design.names) + len(sizes) + 4),
        f"the grid has {m:,} rows",
        f"of the levels of {', '.join(found)}; keep some of them with at={{...}}",
    )
    grids = np.meshgrid(*[np.arange(s) for s in sizes[::-1]], indexing="ij")[::-1]
    codes = np.column_stack([g.ravel() for g in grids]) if sizes else np.zeros((1, 0), dtype=int)
    nested = _nesting(fit, found, nesting)
    codes = codes[_possible(found, nested, codes)]
    values = np.full(len(codes), _mean_offset(fit, offset, moved))
    return Grid(fit, found, codes, nested, values)


def _offset_names(fit: Fit) -> list[str]:
    """Return the variables that offsets of the formula are made of."""
    return [name for node in fit.frame.offset_nodes for name in variable_names(node)]


def _mean_offset(fit: Fit, offset: Any, moved: Mapping[str, Any]) -> float:
    """Return the offset of the grid: the one given, that of given variables, or the mean."""
    if offset is not None:
        return checks.number(offset, "offset")
    if not moved:
        if fit.frame.offset is None:
            return 0.0
        return float(row_mean(fit, lambda rows: _offsets(rows)[:, None])[0])
    nodes = fit.frame.offset_nodes

    def of_rows(rows: Fit) -> np.ndarray:
        return np.column_stack(list(variables_of(rows, nodes).values()))

    names = dict.fromkeys(name for node in nodes for name in variable_names(node))
    columns = dict(zip(names, row_mean(fit, of_rows)[:, None].tolist(), strict=True))
    for name, value in moved.items():
        columns[name] = [checks.number(value, f"at, of {name},")]
    text = fit.call.offset if isinstance(fit.call.offset, str | list) else None
    made = new_offset(fit.frame, text, Columns(columns), {})
    assert made is not None
    return float(made[0])


def _offsets(rows: Fit) -> np.ndarray:
    assert rows.frame.offset is not None
    return rows.frame.offset


def _nesting(fit: Fit, found: Mapping[str, Predictor], given: Any) -> dict[str, tuple[str, ...]]:
    """Return which factors are nested in which others.

    A factor is nested in another one, which is a term of its own, if each of its levels occurs with
    one level of that alone.
    """
    if given is False:
        return {}
    if given is not None:
        wanted = checks.mapping(given, "nesting", "None, False or a dict, such as {'b': 'a'}")
        out = {k: tuple(checks.names(v, "nesting")) for k, v in wanted.items()}
        known = [p.name for p in found.values() if p.codes is not None]
        for name in [n for k, v in out.items() for n in (k, *v)]:
            if name not in known:
                raise ArgumentError(
                    f"nesting names {name!r}, which is no factor of the grid; they are "
                    f"{', '.join(known) or 'none'}"
                )
        return out
    terms = fit.frame.fixed_terms.terms
    alone = {name for term in terms if len(term) == 1 for name in variable_names(term[0])}
    factors = [p for p in found.values() if p.is_factor and len(p.levels) > 1]
    out = {}
    for inner in factors:
        outers = [
            outer.name
            for outer in factors
            if outer is not inner and len(outer.levels) < len(inner.levels)
            if outer.name in alone and _home(inner, outer) is not None
        ]
        if outers:
            out[inner.name] = tuple(outers)
    return out


def _home(inner: Predictor, outer: Predictor) -> np.ndarray | None:
    """Return the one level of a factor (l,) that each level of another occurs with; or None."""
    assert inner.codes is not None
    assert outer.codes is not None
    seen = (inner.codes >= 0) & (outer.codes >= 0)
    table = np.zeros((len(inner.levels), len(outer.levels)), dtype=bool)
    table[inner.codes[seen], outer.codes[seen]] = True
    return table.argmax(axis=1) if (table.sum(axis=1) <= 1).all() else None


def _possible(
    found: Mapping[str, Predictor], nesting: Mapping[str, tuple[str, ...]], codes: np.ndarray
) -> np.ndarray:
    """Return which combinations (m,) nesting allows."""
    names, out = list(found), np.ones(len(codes), dtype=bool)
    for inner, outers in nesting.items():
        own = codes[:, names.index(inner)]
        for outer in outers:
            home = _home(found[inner], found[outer])
            if home is None:
                raise ArgumentError(
                    f"nesting says that {inner} is nested in {outer}, but levels of {inner} occur "
                    f"with several levels of {outer}"
                )
            out &= home[own] == codes[:, names.index(outer)]
    return out


def labels_of(grid: Grid, names: Sequence[str], codes: np.ndarray) -> pd.DataFrame:
    """Return the values (c, k) of some predictors, as the data hold them."""
    if not names:
        return pd.DataFrame({"1": ["overall"]})
    columns = {
        name: pd.Series([grid.predictors[name].levels[i] for i in own], dtype=object)
        for name, own in zip(names, codes.T, strict=True)
    }
    return pd.DataFrame(columns, index=range(len(codes))).infer_objects()
