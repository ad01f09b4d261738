"""The rows of a generalized model before its search: their columns are checked."""

from __future__ import annotations

import numpy as np

from mixef.control import GlmerControl, act
from mixef.errors import DataError, DataWarning
from mixef.estimation.columns import (
    column_names,
    independent,
    refuse_extremes,
    refuse_sizes,
    report_dropped,
    report_scale,
)
from mixef.estimation.spec import ModelSpec
from mixef.linalg.sources import Chunk, scan
from mixef.linalg.spool import Spooled

# A variance below this share of the mean square may be nothing but rounding.
ROUNDING = 1e-10


def checked_columns(spec: ModelSpec, rows: Spooled | None) -> np.ndarray:
    """Check the columns; return those of X that are estimated.

    Parameters
    ----------
    rows : Spooled or None
        None for rows in memory.
    """
    frame, design, terms, control = spec.frame, spec.design, spec.terms, spec.control
    name, outcome = spec.formula.response_name, spec.outcome
    if rows is None:
        refuse_extremes(outcome.y, name, frame.weights, design, terms)
        _check_not_constant(spec, outcome.y.min(), outcome.y.max())
        return independent(design, outcome.weights, control)
    with np.errstate(divide="ignore"):  # logs of weights, which nobody asks for
        seen = scan(rows)
    if seen.squares[0] - (seen.sums[0] / seen.n) ** 2 <= ROUNDING * seen.squares[0]:
        ends = np.array([(c.y.min(), c.y.max(), _spread_inside(c)) for c in rows])
        if not ends[:, 2].any():
            _check_not_constant(spec, ends[:, 0].min(), ends[:, 1].max())
    columns = column_names(name, False, design, terms)
    if len(columns) < len(seen.squares):
        columns = column_names(name, True, design, terms)
    refuse_sizes(columns, seen.squares, seen.largest)
    kept = seen.independent
    report_dropped(design, kept, control)
    if control.check_scaleX != "ignore":
        report_scale(design, seen.spread, control)
    return kept


def _spread_inside(chunk: Chunk) -> float:
    """Return how much responses differ inside of the rows that stand for several."""
    return 0.0 if chunk.within is None else float(chunk.within.max())


def _check_not_constant(spec: ModelSpec, lowest: float, highest: float) -> None:
    control = spec.control
    assert isinstance(control, GlmerControl)
    if lowest == highest:
        act(
            control.check_response_not_const,
            f"Response is constant: {spec.formula.response_name} is {lowest:g} in all "
            f"{spec.frame.n} rows, so there is nothing to explain; check the response, or set "
            "check_response_not_const in GlmerControl",
            DataError,
            DataWarning,
        )
