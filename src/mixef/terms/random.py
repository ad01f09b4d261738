"""Random-effects terms: codes, levels and raw columns of each bar term of a formula."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from mixef.control import Control, act
from mixef.errors import DataError, DataWarning, FormulaError, MemoryNeededError
from mixef.memory import available
from mixef.terms.covariance import Covariance, make_covariance
from mixef.terms.fixed import MANY, Design, design
from mixef.terms.frame import ModelFrame
from mixef.terms.grouping import Grouping, grouping
from mixef.terms.parametrization import Parametrization


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """One bar term, evaluated."""

    label: str  # the term as R writes it: ``Days | Subject``
    design: Design  # raw columns (n, s) and what rebuilds them for new data
    grouping: Grouping  # codes (n,), levels and what codes new data
    structure: Covariance

    @property
    def group(self) -> str:
        """Name of the grouping factor."""
        return self.grouping.name

    @property
    def columns(self) -> tuple[str, ...]:
        """Coefficient names (s)."""
        return self.design.names

    @property
    def z(self) -> np.ndarray:
        """Raw columns (n, s)."""
        return self.design.matrix

    @property
    def n_levels(self) -> int:
        """Levels of the grouping factor, l."""
        return self.grouping.n_levels

    @property
    def n_effects(self) -> int:
        """Random effects of the term, l s."""
        return self.n_levels * len(self.columns)

    def on_batch(self, frame: ModelFrame) -> RandomTerm:
        """Return the term on some of its rows, with all levels."""
        codes = frame.group(self.grouping.nodes).codes
        return replace(
            self,
            design=self.design.on_batch(frame.variables, frame.n),
            grouping=replace(self.grouping, codes=codes),
        )

    def Zt(self) -> sparse.csc_array:
        """Return the term's rows of Z' (l s, n): effects level by level."""
        n, s = self.z.shape
        index = self.grouping.codes[:, None] * s + np.arange(s)
        start = np.arange(0, n * s + 1, s)
        data = (self.z.ravel(), index.ravel(), start)
        return sparse.csc_array(data, shape=(self.n_effects, n))


def random_terms(frame: ModelFrame, contrasts: Mapping[str, Any] | None) -> tuple[RandomTerm, ...]:
    """Evaluate the bar terms of a frame's formula, in lme4's internal order.

    Where the numbers of levels ever increase along the formula, terms are sorted by decreasing
    numbers of levels, and ties come in reverse order; else the formula's order stays.
    """
    bars = frame.formula.bars
    if not bars:
        raise FormulaError(
            "No random effects terms specified in formula: add one such as (1 | group), "
            "or fit an ordinary regression"
        )
    factors: dict[str, Grouping] = {}
    terms = []
    for bar in bars:
        if bar.name not in factors:
            factors[bar.name] = grouping(bar.group, frame)
        columns = design(frame.bar_terms(bar), frame, contrasts)
        if not columns.names:
            raise FormulaError(
                f"the random-effects term ({bar.text}) has no columns; write (1 | {bar.name}) "
                "for an intercept, or drop the term"
            )
        structure = make_covariance(bar.structure, bar.hom, len(columns.names))
        terms.append(RandomTerm(bar.text, columns, factors[bar.name], structure))
    _require_memory(terms)
    sizes = [term.n_levels for term in terms]
    if any(a < b for a, b in itertools.pairwise(sizes)):
        order = np.argsort(sizes, kind="stable")[::-1]
        terms = [terms[i] for i in order]
    return tuple(terms)


def _require_memory(terms: Sequence[RandomTerm]) -> None:
    """Refuse covariance parameters whose second derivatives no memory holds.

    Raises
    ------
    MemoryNeededError
    """
    counts = [term.structure.n_par for term in terms]
    needed = 16.0 * sum(counts) ** 2  # the matrix, and its factor
    if sum(counts) > MANY and needed > available():
        widest = terms[int(np.argmax(counts))]
        raise MemoryNeededError(
            f"the {len(widest.columns):,} columns of ({widest.label}) have {max(counts):,} "
            f"variances and covariances, whose second derivatives need about {needed / 1e9:.3g} "
            f"GB, and {available() / 1e9:.3g} GB are available: use fewer columns, or a structure "
            f"of few parameters, such as diag({widest.label})"
        )


def blocks_of(terms: Sequence[RandomTerm]) -> list[list[int]]:
    """Put terms on one grouping factor into one block; return each block's terms.

    The block with the most random effects comes first: it is the one that is eliminated.
    """
    by_group: dict[str, list[int]] = {}
    for t, term in enumerate(terms):
        by_group.setdefault(term.group, []).append(t)
    if len(by_group) == 1:
        return [*by_group.values()]
    return sorted(by_group.values(), key=lambda ts: -sum(terms[t].n_effects for t in ts))


def block_structure(terms: Sequence[RandomTerm]) -> tuple[list[list[int]], Parametrization]:
    """Return each block's terms, and the parameters of all terms."""
    blocks = blocks_of(terms)
    block_of = [0] * len(terms)
    for i, members in enumerate(blocks):
        for t in members:
            block_of[t] = i
    widths = tuple(sum(len(terms[t].columns) for t in members) for members in blocks)
    structures = tuple(term.structure for term in terms)
    return blocks, Parametrization(structures, tuple(block_of), widths)


def check_terms(
    terms: Sequence[RandomTerm], n: int, control: Control, has_scale: bool = True
) -> None:
    """Carry out the checks of grouping factors and terms against ``n`` observations.

    A family without scale leaves a random effect an observation identified.
    """
    seen = set()
    for term in terms:
        if term.group not in seen:
            seen.add(term.group)
            _check_levels(term, n, control, has_scale)
        too_many = term.n_effects > n or (has_scale and term.n_effects == n)
        if too_many and term.structure.fewer_effects:
            relation, what = "<", "the random-effects parameters"
            if has_scale:
                relation, what = "<=", f"{what} and the residual variance (or scale parameter)"
            act(
                control.check_nobs_vs_nRE,
                f"number of observations (={n}) {relation} number of random effects "
                f"(={term.n_effects}) for term ({term.label}); {what} are probably unidentifiable; "
                "use fewer columns in the term, or set check_nobs_vs_nRE in "
                f"{type(control).__name__}",
                DataError,
                DataWarning,
            )
    names: dict[tuple[str, str], str] = {}
    for term in terms:
        for column in term.columns:
            first = names.setdefault((term.group, column), term.label)
            if first is not term.label:
                act(
                    control.check_duplicate_terms,
                    f"the coefficient {column} of {term.group} is in ({first}) and again in "
                    f"({term.label}): only the sum of their variances can be estimated; "
                    "drop it from one of them",
                    FormulaError,
                    DataWarning,
                )


def _check_levels(term: RandomTerm, n: int, control: Control, has_scale: bool) -> None:
    n_levels = term.n_levels
    if n_levels < 2:
        act(
            control.check_nlev_gtr_1,
            "grouping factors must have > 1 sampled level: "
            f"{term.group} has only {term.grouping.levels[0]!r}; drop the term ({term.label})",
            DataError,
            DataWarning,
        )
    elif n_levels < 5:
        act(
            control.check_nlev_gtreq_5,
            "grouping factors with < 5 sampled levels may give unreliable estimates: "
            f"{term.group} has {n_levels}",
            DataError,
            DataWarning,
        )
    if has_scale and n_levels >= n:
        act(
            control.check_nobs_vs_nlev,
            "number of levels of each grouping factor must be < number of observations "
            f"(problems: {term.group} has {n_levels} levels for {n} observations); "
            "use a coarser factor",
            DataError,
            DataWarning,
        )
