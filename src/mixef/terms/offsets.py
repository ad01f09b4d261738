"""The offset of new data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixef.errors import DataError
from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope
from mixef.terms.frame import ModelFrame
from mixef.terms.parser import parse_expression


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
        nodes += [parse_expression(text) for text in texts]
    if not nodes:
        return None
    scope = Scope(columns, frame.state, env)
    total: np.ndarray = np.sum(
        [np.asarray(scope.variable(node), dtype=float) for node in nodes], axis=0
    )
    return total
