"""What power is simulated on: rows of a size, and a model with chosen parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError, DataError, FitError, MixefError
from mixef.estimation.fit import Fit
from mixef.estimation.spec import ModelSpec
from mixef.inference.refits.many import refitted
from mixef.inference.refits.other_rows import (
    checked_group,
    grouping_factors,
    with_levels,
)
from mixef.inference.resampling.along import checked_variable, with_values
from mixef.inference.simulation.drawn import drawn_responses
from mixef.inference.simulation.new_parameters import (
    Values,
    fitted_values_of,
    parameters_of,
    read_values,
)
from mixef.inference.simulation.sampler import LevelEffects, Sampler, draw_responses
from mixef.terms.nodes import by_known_names
from mixef.terms.random import block_structure

# Responses that are tried before a size is given up.
TRIES = 20


@dataclass(frozen=True)
class Size:
    """A size of the sample: levels of a factor, rows within each level, values of a predictor."""

    group: str
    kind: str  # what is counted: {"sizes", "within", "along"}
    count: int

    @property
    def label(self) -> str:
        """The heading of a table's column."""
        return f"rows per {self.group}" if self.kind == "within" else self.group


@dataclass(frozen=True, eq=False)
class Scenario:
    """Rows of one size with the model that generates their responses."""

    fit: Fit  # The model on these rows, fitted to a first response
    draw: Callable[[int, np.random.Generator], Any]  # n responses (n_rows, n), from a generator
    start: dict[str, Any]  # The generating parameters, from which searches start


def size_grid(
    fit: Fit,
    sizes: Mapping[str, Any] | None,
    within: Mapping[str, Any] | None,
    along: Mapping[str, Any] | None = None,
) -> list[tuple[Size, ...]]:
    """Return all combinations of sizes; that of the fit itself if none are given."""
    axes = []
    for kind, given in (("along", along), ("sizes", sizes), ("within", within)):
        if given is None:
            continue
        example = "x" if kind == "along" else next(iter(fit.groups))
        what = "predictor" if kind == "along" else "factor"
        expected = f"a dict from {what} to sizes, such as {{{example!r}: [20, 40]}}"
        if kind == "along":
            expected += "; for numbers of levels of a grouping factor, use sizes="
        for name, counts in checks.mapping(given, kind, expected).items():
            if kind == "along":
                name, least = checked_variable(fit, name), 2
            else:
                name, least = checked_group(fit.terms, name, kind), 1
            counts = checks.listed(counts)
            if not counts:
                raise ArgumentError(f"{kind} has no size for {name}; give one or more")
            whole = [checks.whole(count, f"the size of {name}", least) for count in counts]
            axes.append([Size(name, kind, count) for count in whole])
    if along is not None and len(along) > 1:
        raise ArgumentError(
            f"along names {len(along)} predictors, {', '.join(map(str, along))}; expected one"
        )
    return list(product(*axes))


def refuse_too_large(fit: Fit, place: Sequence[Size], n: int) -> None:
    """Refuse a size whose rows and n responses memory cannot hold, before they are made."""
    if not place and not fit.frame.in_memory:
        return
    factors, n_rows = grouping_factors(fit.terms), fit.frame.n
    for size in place:
        if size.kind == "along":  # at least two values; a copy has no more rows than there are
            n_rows *= max(1, size.count - 1)
            continue
        n_levels = factors[size.group].n_levels
        n_rows = size.count * (n_levels if size.kind == "within" else max(1, n_rows // n_levels))
    columns = len(fit.design.names) + sum(len(term.columns) for term in fit.terms)
    what = f"the size {_text(place)} has about {n_rows} rows"
    checks.refuse_beyond_memory(
        n_rows * (columns + n), what, f"{n} responses and {columns} columns"
    )


def generating_values(fit: Fit, new_params: Mapping[str, Any] | None) -> Values:
    """Return the parameters of a fit, some of them changed.

    Coefficients may stand beside the other parameters by name, as in ``{"Days": 5}``.
    """
    old = fitted_values_of(fit)
    if new_params is None:
        return old
    example = f"{{{next(iter(fit.fixed_names), 'sigma')!r}: 1.0}}"
    params = checks.mapping(
        new_params, "new_params", f"a dict from parameter to value, such as {example}"
    )
    params = by_known_names(params, fit.fixed_names)
    own = {name: value for name, value in params.items() if name in fit.fixed_names}
    rest = {name: value for name, value in params.items() if name not in own}
    if own:
        if "beta" in rest or "fixef" in rest:
            raise DataError(f"new_params has {next(iter(own))!r} and 'beta' both; give one")
        rest["beta"] = own
    values = read_values(rest, parameters_of(fit), old)
    if fit.is_linear and not values.extra:
        raise DataError("sigma is 0 in new_params; power needs a positive residual variance")
    return values


def scenario(fit: Fit, place: Sequence[Size], values: Values, rng: np.random.Generator) -> Scenario:
    """Return the model on rows of a size, fitted to a first response."""
    spec = fit.spec
    for size in place:
        spec = (
            with_values(fit, size.group, size.count) if size.kind == "along" else _sized(spec, size)
        )
    shell = replace(fit, spec=spec, held_problem=None)
    draw: Callable[[int, np.random.Generator], Any] = partial(drawn_responses, shell, values=values)
    if shell.frame.in_memory:
        draw = partial(draw_responses, _sampler(shell, values))
    scale = float(np.sqrt(values.extra or 0.0)) if fit.is_linear else 1.0
    par = block_structure(fit.terms)[1].par_of([root / scale for root in values.roots])
    start = fit.warm_start(par=par, beta=values.beta, extra=values.extra)
    error: Exception | None = None
    for y in draw(TRIES, rng).T:
        try:
            new = refitted(shell, y, start)
        except MixefError as raised:
            error = raised
            continue
        if np.array_equal(new.kept, fit.kept):
            return Scenario(new, draw, start)
        lost = ", ".join(name for name in fit.fixed_names if name not in new.fixed_names)
        raise FitError(
            f"rows of the size {_text(place)} cannot tell apart the fixed effects {lost}; take "
            "more levels or rows"
        )
    assert error is not None
    raise type(error)(f"no model can be fitted to rows of the size {_text(place)}: {error}")


def _text(place: Sequence[Size]) -> str:
    return ", ".join(f"{size.label} = {size.count}" for size in place) or "of the fit"


def _sized(spec: ModelSpec, size: Size) -> ModelSpec:
    """Return the model on rows of one size."""
    factor = grouping_factors(spec.terms)[size.group]
    if size.kind == "within":
        return with_levels(spec, size.group, np.arange(factor.n_levels), size.count)
    return with_levels(spec, size.group, chosen_levels(spec, size.group, size.count))


def chosen_levels(spec: ModelSpec, group: str, count: int) -> np.ndarray:
    """Return which levels (count,) of a factor to copy: all as often as can be.

    The rest is spread over the levels in the order of their mean rows of X, so that treatments
    that differ between levels stay in balance.
    """
    factor = grouping_factors(spec.terms)[group]
    n_levels = factor.n_levels
    whole, rest = divmod(count, n_levels)
    X = spec.design.matrix
    sums = np.zeros((n_levels, X.shape[1]))
    np.add.at(sums, factor.codes, X)
    means = sums / np.bincount(factor.codes, minlength=n_levels)[:, None]
    unit = np.abs(means).max(axis=0, initial=0.0)
    means = np.round(means / np.where(unit > 0, unit, 1.0), 9)
    # Columns of few values, as treatments are, come first.
    by_values = sorted(range(X.shape[1]), key=lambda j: len(np.unique(means[:, j])))
    order = np.lexsort([np.arange(n_levels), *(means[:, j] for j in reversed(by_values))])
    spread = order[((np.arange(rest) + 0.5) * n_levels / max(rest, 1)).astype(int)]
    return np.concatenate([np.tile(np.arange(n_levels), whole), np.sort(spread)])


def _sampler(shell: Fit, values: Values) -> Sampler:
    fixed = shell.X @ values.beta
    if shell.frame.offset is not None:
        fixed = fixed + shell.frame.offset
    effects = tuple(
        LevelEffects(
            term.z,
            term.grouping.codes,
            np.zeros((term.n_levels, len(root))),
            np.broadcast_to(root, (term.n_levels, *root.shape)),
        )
        for term, root in zip(shell.terms, values.roots, strict=True)
    )
    return Sampler(fixed, effects, shell.weights, shell.family, values.extra)
