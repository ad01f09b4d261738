"""Where searches of a generalized model start, and how far they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from mixef.control import Control
from mixef.errors import DataError
from mixef.estimation.generalized.criterion import GeneralizedCriterion
from mixef.estimation.generalized.ends import ENDLESS
from mixef.estimation.search.certified import better, is_back, search, search_from, search_others
from mixef.estimation.search.optimize import SearchResult, Step, derivatives_at
from mixef.estimation.search.singular import vanished_directions
from mixef.estimation.spec import Trace, checked_parameters, checked_start, starting_covariances
from mixef.families.auxiliary import joined
from mixef.terms.random import RandomTerm

# How much larger than at first the covariances are from which a second search starts.
LARGER = 3.0


def searched(
    criterion: GeneralizedCriterion,
    begin: np.ndarray,
    chosen: np.ndarray | None,
    control: Control,
    trace: Trace | None,
    terms: Sequence[RandomTerm],
) -> SearchResult:
    """Search; where the end is singular, and means are bounded, once more from large covariances.

    Laplace's approximation can have several minima, and the one with a vanished variance need not
    be the lowest: weights vanish towards both ends of a bounded mean, so that ``log|M|`` falls
    again as covariances grow.
    """
    if chosen is None:
        result = search(criterion, begin, control, trace)
    else:
        result = search_from(criterion, chosen, begin, control, trace, singular_too=False)
    result = search_others(criterion, result, control, trace)
    k = criterion.parametrization.n_par
    left = control.max_evaluations - result.n_evaluations
    if control.optimizer != "newton" or left < 1:
        return result
    bounded = np.isfinite(criterion.family.mean_range).all()
    if not bounded or result.reason in ENDLESS:
        return result
    if not vanished_directions(criterion.terms, result.par[:k], terms):
        return result
    P = criterion.parametrization
    size = LARGER * max(float(np.abs(lam).max()) for lam in P.term_lams(begin[:k]))
    large = P.resized(P.start(), size)
    _, beta, extra = criterion.split(result.par)
    start = criterion.join(large, beta, extra)
    if not np.isfinite(criterion.value(start)) or derivatives_at(criterion) is None:
        return result
    other = search(
        criterion,
        start,
        replace(control, max_evaluations=left),
        trace,
        until=partial(is_back, criterion, result),
    )
    return better(criterion, result, other)


def first_inside(criterion: GeneralizedCriterion) -> np.ndarray:
    """Return starting values with a finite criterion and derivatives, if there are any.

    Smaller random effects and coefficients further inside the domain are tried one by one.
    """
    start = criterion.start()
    par, beta, extra = criterion.split(start)
    resized, inside = criterion.parametrization.resized, criterion.problem.inside
    smaller = (
        criterion.join(resized(par, share), beta + inward * (inside - beta), extra)
        for share, inward in ((0.1, 0.0), (0.01, 0.0), (0.1, 0.1), (0.01, 0.5))
    )
    for point in chain((start,), smaller):
        if np.isfinite(criterion.value(point)) and derivatives_at(criterion) is not None:
            return point
    return start


def starting_point(
    start: Any,
    criterion: GeneralizedCriterion,
    terms: Sequence[RandomTerm],
    names: Sequence[str],
) -> np.ndarray:
    """Return the point of the search that the user's ``start`` means."""
    family = criterion.family
    start = checked_start(start, ["beta", "fixef", *(a.name for a in family.auxiliary)])
    point = criterion.start()
    par, beta, extra = criterion.split(point)
    given = starting_covariances(start, terms, criterion.parametrization)
    if given is not None:
        par = criterion.terms.scaled_coordinates(given)
    for key in ("beta", "fixef"):
        if key in start:
            values = checked_parameters(start[key], names, "coefficients")
            beta = criterion.problem.scaled_beta(values)
    own = family.named(extra)
    for parameter in family.auxiliary:
        name = parameter.name
        if name in start:
            own[name] = float(checked_parameters(start[name], [name], name)[0])
            if not parameter.is_possible(own[name]):
                raise DataError(f"start has {name} = {own[name]:g}; expected {parameter.expected}")
    return criterion.join(par, beta, joined([*own.values()]))


def on_user_scale(criterion: GeneralizedCriterion, trace: Trace | None) -> Trace | None:
    """Return a trace that is told of points on the user's scale."""
    if trace is None:
        return None

    def translated(step: Step) -> None:
        par, beta, extra = criterion.split(step.par)
        user = [criterion.terms.user_par(par)]
        if not criterion.with_beta:
            user.append(criterion.problem.user_beta(beta))
        if criterion.n_extra:
            user.append(np.array(criterion.family.coordinates(extra)))
        trace(replace(step, par=np.concatenate(user), n_passes=criterion.problem.n_passes))

    return translated
