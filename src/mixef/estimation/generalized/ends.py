"""What is wrong with the end of a generalized fit, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixef.estimation.estimates import Estimates
from mixef.estimation.generalized.laplace_error import LARGE, LaplaceError
from mixef.estimation.generalized.problem import EXACT
from mixef.estimation.generalized.quadrature import Quadrature, most_nodes
from mixef.estimation.generalized.response import Extremes, Response, edges
from mixef.estimation.generalized.separation import (
    is_complete,
    pure_levels,
    separating_direction,
    separation_message,
    tells_by_level,
)
from mixef.estimation.search.convergence import Convergence
from mixef.estimation.search.optimize import StopReason
from mixef.families.family import Family
from mixef.terms.outcome import Outcome
from mixef.terms.random import RandomTerm

# A mean this close to a response at the edge of its range, beside the largest response, may be on
# its way there: a log odds of 8.
NEAR = 3e-4
# Nodes are too few where twice as many change the log-likelihood by this: -2 log L by a tenth.
FEW_NODES = 0.05
# A mean this close to the end of its range beside the others is at it.
EDGE = 1e-8
RUNAWAY = (
    "the random effects predict every response, most of them without error, so the likelihood "
    "rises for ever as their standard deviations grow, and the estimates mean nothing; leave out "
    "or simplify random effects, or collect more data a level"
)
# Reasons to stop a search that has no end.
ENDLESS = (StopReason.RUNAWAY, StopReason.BEYOND)
BEYOND = (
    "the random effects of ({term}) grow beyond what the responses can tell: with effects of that "
    "size every mean is at an edge, and the likelihood hardly changes, or rises for ever, as they "
    "grow, so the search was stopped, and the estimates mean nothing; leave out or simplify the "
    "term, or collect more data a level"
)
FALLBACK = (
    "observed information leads to no maximum of Laplace's approximation, since it is negative for "
    "some rows: expected information has taken its place, as in lme4; use a link that keeps means "
    "inside their range, such as the log, or choose by GlmerControl(information=)"
)


def remedy(flat: tuple[str, ...], family: Family, names: Sequence[str]) -> str:
    """Say what to do about parameters that the data do not determine."""
    if {a.label for a in family.auxiliary} & set(flat) and (said := family.remedy(flat)):
        return said
    if set(flat) & set(names):
        return "drop a predictor, or combine categories"
    return "simplify the random effects"


def laplace_message(error: LaplaceError, terms: Sequence[RandomTerm], response: Response) -> str:
    """Say that Laplace's approximation is poor, and what to do about it."""
    off = f"by about {abs(error.shift):.2g}" if error.ratio < 1.0 else "by much"
    nodes = min(most_nodes(terms), 25)
    remedy = (
        f"nAGQ={nodes}" if nodes > 1 else "simpler random effects, or collect more data a level"
    )
    if response.uses_observed and not response.is_canonical:
        remedy = f"{remedy}, or GlmerControl(information='expected')"
    return (
        f"Laplace's approximation is poor here: the next terms of its expansion are "
        f"{error.ratio:.2g} of the effective number of random effects ({LARGE:g} or less is good), "
        f"and the log-likelihood may be off {off}, with estimates to match; use {remedy}"
    )


def quadrature_message(rule: Quadrature, terms: Sequence[RandomTerm]) -> str | None:
    """Say so where quadrature has too few nodes, by what twice as many would change."""
    finer = rule.with_twice_as_many(most_nodes(terms))
    if finer is None:
        return None
    shift = 0.5 * (rule.correction - finer.correction)
    if abs(shift) < FEW_NODES:
        return None
    return (
        f"quadrature with nAGQ={rule.k} is poor here: with nAGQ={finer.k} the log-likelihood is "
        f"{abs(shift):.2g} {'larger' if shift > 0 else 'smaller'} at these estimates, and the "
        f"best estimates are others; use nAGQ={finer.k}"
    )


def is_exact(family: Family, rows: Extremes, estimates: Estimates) -> bool:
    """Tell whether the dispersion is on its way to zero."""
    if not family.has_dispersion or estimates.extra is None:
        return False
    return bool(estimates.extra < EXACT * rows.size)


def _open_ends(family: Family) -> list[float]:
    """Return the ends of the range of means that the link does not keep them from."""
    ends = zip(family.mean_range, family.link.mean_range, strict=True)
    return [end for end, reach in ends if np.isfinite(end) and end != reach]


def leaves_range(family: Family) -> bool:
    """Tell whether the link may take means beyond what the family allows."""
    return bool(_open_ends(family))


def edge_message(family: Family, rows: Extremes) -> str | None:
    """Say so where means have run into the end of what the family allows."""
    for end in _open_ends(family):
        if min(abs(rows.lowest - end), abs(rows.highest - end)) < EDGE * abs(rows.mean - end):
            return (
                f"Model failed to converge: fitted means run into {end:g}, the end of what the "
                f"{family.name} family allows, which the {family.link.name} link does not keep "
                "them from; use the canonical link, or other predictors"
            )
    return None


def with_separation(
    end: Convergence,
    X: np.ndarray,
    outcome: Outcome,
    family: Family,
    eta: np.ndarray,
    estimates: Estimates,
    terms: Sequence[RandomTerm],
    names: Sequence[str],
) -> Convergence:
    """Look for separation: by group, or where coefficients may be on their way to infinity.

    Parameters
    ----------
    eta : ndarray (n,)
        The linear predictor without random effects.
    """
    side = edges(outcome.y, outcome.weights, family)
    used = np.abs(side) == 1.0  # and rows without weight have NaN
    if not used.any():
        return end
    message = None
    with np.errstate(all="ignore"):
        gap = np.abs(family.link.inverse(eta[used]) - outcome.y[used])
    if (gap < NEAR * outcome.y.max()).any() or set(end.flat) & set(names):
        direction = separating_direction(X, side)
        if direction is not None:
            scaled = direction * np.abs(X).max(axis=0)
            message = separation_message(scaled, names, is_complete(X, side, direction))
    if message is None:
        found = pure_levels(terms, side, outcome.weights)
        message = str(found) if found else _told_by_effects(family, outcome, estimates, terms, side)
    return end if message is None else with_message(end, message, family)


def with_message(end: Convergence, message: str, family: Family) -> Convergence:
    """Return an end that separation explains."""
    # A shape on its way to infinity is another matter.
    kept = end.problems[-1:] if {a.label for a in family.auxiliary} & set(end.flat) else ()
    return replace(
        end,
        converged=False,
        problems=(message, *kept),
        flat=end.flat if kept else (),
        separation=message,
        remarks=(),
    )


def largest(terms: Sequence[RandomTerm], estimates: Estimates) -> RandomTerm:
    """Return the term whose effects move the linear predictor most."""
    pairs = zip(terms, estimates.lams, strict=True)
    return terms[int(np.argmax([np.linalg.norm(t.z @ lam, axis=1).mean() for t, lam in pairs]))]


def _told_by_effects(
    family: Family,
    outcome: Outcome,
    estimates: Estimates,
    terms: Sequence[RandomTerm],
    side: np.ndarray,
) -> str | None:
    """Say so where the random effects tell every response, and most of them without error."""
    used = ~np.isnan(side)
    gap = np.abs(outcome.y - estimates.mu)[used]
    if (side[used] == 0).any() or gap.max() >= 0.5 or np.median(gap) > NEAR:
        return None
    term = largest(terms, estimates)
    return told_by_effects(term) if tells_by_level(term, side) else None


def told_by_effects(term: RandomTerm) -> str:
    """Say that the effects of a term tell every response."""
    return (
        f"separation by group: the effects of ({term.label}) predict every response without error, "
        "so the likelihood rises for ever as their standard deviations grow, and the estimates "
        "mean nothing; leave out or simplify the term, or collect more data a level"
    )
