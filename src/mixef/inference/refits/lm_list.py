"""Separate regressions by group: from a formula and data to estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mixef.errors import DataError, DataWarning, FormulaError, warn
from mixef.estimation.columns import refuse_extremes
from mixef.estimation.many.by_group import (
    Groups,
    GroupwiseFit,
    least_squares,
    reweighted_least_squares,
)
from mixef.estimation.spec import ModelCall
from mixef.families.family import Family
from mixef.families.standard import Gaussian
from mixef.inference.refits.separate import SeparateRegressions
from mixef.terms.fixed import design
from mixef.terms.formula import BarTerm, Formula
from mixef.terms.formula import expand_group as expanded_groups
from mixef.terms.frame import ModelFrame, numeric_response
from mixef.terms.grouping import Grouping, grouping
from mixef.terms.nodes import Binary, Number, strip_parens
from mixef.terms.outcome import outcome
from mixef.terms.parser import parse_expression
from mixef.text.layout import listed

EXAMPLE = "write 'y ~ x | g', with the predictors left of '|' and one grouping factor right of it"


def grouped_formula(text: str) -> Formula:
    """Parse ``y ~ x | g``, with one ``|`` and one grouping factor."""
    if not isinstance(text, str):
        raise FormulaError(
            f"a formula must be a string, but it is of type {type(text).__name__}; {EXAMPLE}"
        )
    node = parse_expression(text)
    if not (isinstance(node, Binary) and node.op == "~"):
        raise FormulaError(f"{text!r} has no response and '~'; {EXAMPLE}")
    right = strip_parens(node.right)
    if not (isinstance(right, Binary) and right.op == "|"):
        raise FormulaError(f"{text!r} does not part its rows into groups by '|'; {EXAMPLE}")
    for side in (right.left, right.right):
        if any(isinstance(n, Binary) and n.op in ("|", "||", "~") for n in side.walk()):
            raise FormulaError(f"{text!r} holds more than one '|'; {EXAMPLE}")
    factors = expanded_groups(right.right)
    if len(factors) > 1:
        names = ", ".join(factor.text for factor in factors)
        raise FormulaError(
            f"{right.right.text} stands for several grouping factors ({names}); choose one of them"
        )
    bar = BarTerm(Number(1.0), factors[0])
    return Formula(f"{node.left.text} ~ {right.text}", node.left, right.left, (bar,))


def without_groups(frame: ModelFrame, nodes: tuple[Any, ...]) -> ModelFrame:
    """Take grouping variables out of what ``.`` stands for: they are constant in a group."""
    if frame.dot_columns is None:
        return frame
    names = {node.text for node in nodes}
    return replace(frame, dot_columns=tuple(c for c in frame.dot_columns if c not in names))


def separate_fits(
    formula: Formula, frame: ModelFrame, family: Family | None, pool: bool, call: ModelCall
) -> SeparateRegressions:
    """Fit a regression to the rows of each group."""
    if isinstance(family, Gaussian) and family.link.name == "identity":
        family = None
    if family is not None and family.auxiliary and not family.has_dispersion:
        raise DataError(
            f"the {family.auxiliary[0].name} of {family!r} cannot be estimated group by group; "
            "give a family without one, or a known one, such as NegativeBinomial(shape=2)"
        )
    group = grouping(formula.bars[0].group, frame)
    frame = without_groups(frame, group.nodes)
    response = None if family is None else outcome(frame, family)
    y = numeric_response(frame) if response is None else response.y
    weights = frame.weights if response is None else response.weights
    copies = None if response is None else response.copies
    X = design(frame.fixed_terms, frame, call.contrasts)
    if not X.names:
        raise FormulaError(f"{formula.text} has no coefficients; {EXAMPLE}")
    refuse_extremes(y, formula.response_name, frame.weights, X, ())
    groups = Groups.of(group.codes)
    order = groups.order
    offset = np.zeros(frame.n) if frame.offset is None else frame.offset[order]
    sorted_weights = None if weights is None else weights[order]
    if family is None:
        estimates = least_squares(groups, X.matrix[order], y[order], sorted_weights, offset)
    else:
        estimates = reweighted_least_squares(
            groups, family, X.matrix[order], y[order], sorted_weights, offset
        )
    _refuse_hopeless(X.names, group, groups, estimates)
    _report(X.names, group, estimates)
    return SeparateRegressions(
        family, bool(pool), formula, frame, X, group, call, y, weights, copies, groups, estimates
    )


def _refuse_hopeless(
    names: Sequence[str], group: Grouping, groups: Groups, estimates: GroupwiseFit
) -> None:
    if estimates.kept.all(axis=1).any():
        return
    known = np.atleast_1d(estimates.kept.any(axis=0))
    alias = ", ".join(n for n, k in zip(names, known, strict=True) if not k)
    alias = f", and {alias} cannot be told from the columns before" if alias else ""
    largest, p = int(groups.sizes.max()), len(names)
    raise DataError(
        f"the rows of no level of {group.name} determine all {p} coefficients "
        f"({', '.join(names)}): the largest of {len(groups.starts)} groups has "
        f"{largest} row{'s' if largest > 1 else ''}{alias}; use fewer predictors, or a coarser "
        "grouping factor"
    )


def _report(names: Sequence[str], group: Grouping, estimates: GroupwiseFit) -> None:
    """Warn of groups without some of the coefficients."""
    levels, name = group.levels, group.name
    dropped = ~estimates.kept.all(axis=1)
    if dropped.any():
        everywhere = np.atleast_1d(estimates.kept.all(axis=0))
        columns = [n for n, k in zip(names, everywhere, strict=True) if not k]
        warn(
            f"the rows of {listed(levels[dropped])} of {name} do not determine "
            f"{', '.join(columns)}: such coefficients are NaN there, and the other ones of these "
            "groups are estimated without them",
            DataWarning,
        )
    stopped = estimates.failed & ~estimates.edge
    if stopped.any():
        warn(
            f"the regression of {listed(levels[stopped])} of {name} did not converge; "
            "its coefficients are NaN",
            DataWarning,
        )
    if estimates.edge.any():
        warn(
            f"the responses of {listed(levels[estimates.edge])} of {name} are separated: some "
            "coefficients there are infinite, and shown as large numbers or NaN; leave such groups "
            "out of summaries, or fit a mixed model with glmer",
            DataWarning,
        )
