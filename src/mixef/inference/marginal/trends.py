"""Slopes of a covariate: what the model says of it at each point of a grid, differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import check_ddf
from mixef.inference.marginal.emmeans import notes_of, with_nests
from mixef.inference.marginal.grid import Grid, labels_of, reference_grid
from mixef.inference.marginal.means import MarginalMeans, Several
from mixef.inference.marginal.questions import Question
from mixef.inference.marginal.specs import read_specs
from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope
from mixef.terms.nodes import Node, variable_names
from mixef.terms.parser import parse_argument
from mixef.terms.slopes import matrix_slopes, node_slopes
from mixef.terms.values import as_number


def marginal_trends(
    fit: Fit,
    var: Any,
    specs: Any = "1",
    by: Any = None,
    at: Any = None,
    weights: Any = "equal",
    ddf: str | None = "auto",
    level: float = 0.95,
    nesting: Any = None,
) -> Any:
    """Return slopes of a covariate; see the method ``emtrends`` of a model."""
    check_ddf(fit, ddf)
    level = checks.level(level)
    grid = reference_grid(fit, at, None, nesting)
    text, node, name = _variable(grid, var)
    asked = read_specs(specs, by, grid.predictors)
    names = with_nests(grid, (*asked.names, *asked.by))
    W, labels = grid.averages(names, weights), labels_of(grid, names, grid.cells(names)[1])
    trends = MarginalMeans(
        fit, labels, asked.by, W @ _slopes(grid, node, name), np.zeros(len(labels)),
        kind=f"{text}.trend", question=Question(level=level), ddf=ddf,
        notes=tuple(notes_of(grid, names, False)),
    )  # fmt: skip
    if asked.contrasts is None:
        return trends
    return Several({"emtrends": trends, "contrasts": trends.contrast(asked.contrasts)})


def _variable(grid: Grid, var: Any) -> tuple[str, Node, str]:
    """Return what slopes are for: its text, its expression, and the variable in it."""
    text = checks.text(var, "var", "the name of a numeric predictor, such as 'x', or 'log(x)'")
    numeric = [p.name for p in grid.predictors.values() if not p.is_factor]
    node = parse_argument(text, grid.predictors, "var")
    found = [name for name in variable_names(node) if name in grid.predictors]
    if len(found) != 1 or found[0] not in numeric:
        what = f"is a factor with the levels {', '.join(grid.predictors[found[0]].texts[:10])}" if (
            len(found) == 1
        ) else "names no predictor alone"  # fmt: skip
        raise ArgumentError(
            f"var is {text!r}, which {what}; expected one of the numeric predictors "
            f"{', '.join(numeric) or '(there are none)'}, or a function of one"
        )
    return text, node, found[0]


def _slopes(grid: Grid, node: Node, name: str) -> np.ndarray:
    """Return the derivatives (m, P) of the grid's model matrix for an expression in a variable."""
    columns = dict(grid.columns)
    columns[name] = np.asarray(as_number(Columns(columns)[name], name), dtype=float)
    X = matrix_slopes(grid.fit.design.spec, columns, name)
    own = node_slopes(node, Scope(Columns(columns), grid.fit.frame.state, {}), name)
    with np.errstate(divide="ignore", invalid="ignore"):
        made: np.ndarray = X / np.broadcast_to(own, len(X))[:, None]
    return made
