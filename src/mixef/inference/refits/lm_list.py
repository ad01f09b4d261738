"""Separate regressions by group: from a formula and data to estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataError, DataWarning, FormulaError, warn
from mixef.estimation.model import ModelCall, refuse_extreme_columns, response_name
from mixef.families.family import Family
from mixef.families.standard import Gaussian
from mixef.inference.refits.by_group import (
    Groups,
    GroupwiseFit,
    least_squares,
    reweighted_least_squares,
)
from mixef.terms.fixed import Design, design
from mixef.terms.formula import BarTerm, Formula
from mixef.terms.formula import expand_group as expanded_groups
from mixef.terms.frame import ModelFrame, numeric_response
from mixef.terms.grouping import Grouping, grouping
from mixef.terms.nodes import Binary, Number, strip_parens
from mixef.terms.outcome import Outcome, outcome
from mixef.terms.parser import parse_expression

# Names of groups that a warning lists.
LISTED = 10
EXAMPLE = "write 'y ~ x | g', with the predictors left of '|' and one grouping factor right of it"


@dataclass(frozen=True, eq=False)
class SeparateFits:
    """Separate regressions by the levels of a grouping factor.

    Attributes
    ----------
    formula : Formula
        Its one bar term holds the grouping factor.
    frame : ModelFrame
    design : Design
        Columns (n, p), with codings and bases common to all groups.
    grouping : Grouping
    family : Family or None
        None for a linear model.
    outcome : Outcome or None
        Response of a generalized model.
    pool : bool
        Whether all groups share one dispersion.
    call : ModelCall
    groups : Groups
    estimates : GroupwiseFit
    """

    formula: Formula
    frame: ModelFrame
    design: Design
    grouping: Grouping
    family: Family | None
    outcome: Outcome | None
    pool: bool
    call: ModelCall
    groups: Groups
    estimates: GroupwiseFit

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"call": self.call.pruned(self.formula, self.frame)}

    @property
    def y(self) -> np.ndarray:
        """The response (n,); proportions for a binomial one."""
        return numeric_response(self.frame) if self.outcome is None else self.outcome.y

    @property
    def weights(self) -> np.ndarray | None:
        """Prior weights (n,), trials included."""
        return self.frame.weights if self.outcome is None else self.outcome.weights

    @property
    def has_dispersion(self) -> bool:
        """Whether there is a dispersion to estimate."""
        return self.family is None or self.family.extra == "dispersion"

    @property
    def index(self) -> pd.Index:
        """Levels of the grouping factor."""
        return self.grouping.index

    @cached_property
    def df_by_group(self) -> np.ndarray:
        """Residual degrees of freedom of each group (G,)."""
        return self.groups.sizes - self.estimates.kept.sum(axis=1)

    @property
    def df_residual(self) -> int:
        """Residual degrees of freedom of all groups that have estimates."""
        return int(self.df_by_group[~self.estimates.failed].sum())

    @cached_property
    def sigma(self) -> float:
        """Pooled residual standard deviation; 1 without a dispersion, NaN without rows to spare."""
        if not self.has_dispersion:
            return 1.0
        good = ~self.estimates.failed
        df = self.df_residual
        return float(np.sqrt(self.estimates.squares[good].sum() / df)) if df else np.nan

    @cached_property
    def sigma_by_group(self) -> np.ndarray:
        """Residual standard deviation of each group by itself (G,)."""
        if not self.has_dispersion:
            return np.ones(len(self.groups.starts))
        df = self.df_by_group.astype(float)
        spare = np.where(df > 0, df, np.nan)
        return np.where(self.estimates.failed, np.nan, np.sqrt(self.estimates.squares / spare))


def grouped_formula(text: str) -> Formula:
    """Parse ``y ~ x | g``.

    Raises
    ------
    FormulaError
        If there is no ``|``, or more than one grouping factor.
    """
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
) -> SeparateFits:
    """Fit a regression to the rows of each group.

    Raises
    ------
    DataError
        If the rows of no group determine all coefficients.
    """
    if isinstance(family, Gaussian) and family.link.name == "identity":
        family = None
    if family is not None and family.extra == "shape":
        raise DataError(
            f"the shape of {family!r} cannot be estimated group by group; give a known one, such "
            "as NegativeBinomial(shape=2)"
        )
    group = grouping(formula.bars[0].group, frame)
    frame = without_groups(frame, group.nodes)
    response = None if family is None else outcome(frame, family)
    y = numeric_response(frame) if response is None else response.y
    weights = frame.weights if response is None else response.weights
    X = design(frame.fixed_terms, frame, call.contrasts)
    if not X.names:
        raise FormulaError(f"{formula.text} has no coefficients; {EXAMPLE}")
    refuse_extreme_columns(y, response_name(formula), frame, X, ())
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
    fits = SeparateFits(
        formula, frame, X, group, family, response, bool(pool), call, groups, estimates
    )
    _refuse_hopeless(fits)
    _report(fits)
    return fits


def _refuse_hopeless(fits: SeparateFits) -> None:
    if fits.estimates.kept.all(axis=1).any():
        return
    known = np.atleast_1d(fits.estimates.kept.any(axis=0))
    names = [n for n, k in zip(fits.design.names, known, strict=True) if not k]
    alias = f", and {', '.join(names)} cannot be told from the columns before" if names else ""
    largest, p = int(fits.groups.sizes.max()), len(fits.design.names)
    raise DataError(
        f"the rows of no level of {fits.grouping.name} determine all {p} coefficients "
        f"({', '.join(fits.design.names)}): the largest of {len(fits.groups.starts)} groups has "
        f"{largest} row{'s' if largest > 1 else ''}{alias}; use fewer predictors, or a coarser "
        "grouping factor"
    )


def _report(fits: SeparateFits) -> None:
    """Warn of groups without some of the coefficients."""
    estimates, levels, name = fits.estimates, fits.grouping.levels, fits.grouping.name
    dropped = ~estimates.kept.all(axis=1)
    if dropped.any():
        everywhere = np.atleast_1d(estimates.kept.all(axis=0))
        columns = [n for n, k in zip(fits.design.names, everywhere, strict=True) if not k]
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


def listed(levels: np.ndarray) -> str:
    """Join the first of some levels into text, and count the others."""
    shown = ", ".join(map(str, levels[:LISTED]))
    more = len(levels) - LISTED
    return f"{shown} and {more} more levels" if more > 0 else shown
