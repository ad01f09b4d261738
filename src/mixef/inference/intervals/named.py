"""The parameters that have intervals, by name: random effects, residuals, fixed effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.estimation.profile.full_deviance import Focus, State
from mixef.inference.components import Component, component_values, components, scale_names
from mixef.inference.intervals.curves import Kind
from mixef.terms.nodes import unquoted

#: What stands for all covariance parameters (and sigma or a shape), and for all coefficients.
GROUPS = ("theta_", "beta_")


@dataclass(frozen=True)
class Named:
    """One parameter."""

    name: str  # ``sd_Days|Subject``, ``cor_Days.(Intercept)|Subject``, ``sigma``, ``Days``
    # The same as ``.sig01`` to ``.sigma``, see `in_order_of_theta`; the name itself for a
    # coefficient
    sign: str
    kind: Kind  # {"sd", "cor", "sigma", "shape", "beta"}
    focus: Focus


def named_parameters(fit: Fit) -> list[Named]:
    """List standard deviations and correlations, sigma or the shape, and the coefficients."""
    parts = components(fit.terms)
    signs = {a: f".sig{i + 1:02d}" for i, a in enumerate(in_order_of_theta(parts))}
    out = [Named(part.name, signs[a], part.kind, _focus(part)) for a, part in enumerate(parts)]
    for a, name in enumerate(scale_names(fit)):
        kind: Kind = "sigma" if name == "sigma" else "shape"
        out.append(Named(name, f".{name}", kind, Focus("scale", a)))
    out += [Named(name, name, "beta", Focus("beta", j)) for j, name in enumerate(fit.fixed_names)]
    return out


def in_order_of_theta(parts: Sequence[Component]) -> list[int]:
    """Return the positions of standard deviations and correlations in the order of theta.

    That is each term's lower triangle, column by column, by which lme4 numbers ``.sig01``, ...; one
    correlation for all comes last.
    """

    def place(a: int) -> tuple[int, ...]:
        part = parts[a].part
        return parts[a].term, part.reach > 0, part.col, part.row

    return sorted(range(len(parts)), key=place)


def in_order_of_signs(fit: Fit) -> list[int]:
    """Return the positions of all parameters with ``.sig01``, ``.sig02``, ... one after another."""
    first = in_order_of_theta(components(fit.terms))
    return [*first, *range(len(first), len(named_parameters(fit)))]


def _focus(part: Component) -> Focus:
    return Focus(part.kind, part.term, part.part.row, part.part.col)


def values_at(fit: Fit, states: Sequence[State]) -> np.ndarray:
    """Return the values of all parameters (m, K) at points of the search."""
    parts, own = components(fit.terms), len(scale_names(fit))
    rows = np.empty((len(states), len(named_parameters(fit))))
    for row, state in zip(rows, states, strict=True):
        scale = state.scale**2 if fit.is_linear else 1.0
        row[: len(parts)] = component_values(parts, state.lams, scale)
        is_root = not fit.is_linear and fit.family.has_dispersion
        row[len(parts) : len(parts) + own] = np.sqrt(state.scale) if is_root else state.scale
        row[len(parts) + own :] = state.beta
    return rows


def estimates(fit: Fit) -> np.ndarray:
    """Return the estimates of all parameters (K,)."""
    e = fit.estimates
    scale = e.sigma if fit.is_linear else fit.extra
    return values_at(fit, [State(e.lams, scale, e.beta)])[0]


def chosen(fit: Fit, which: Any, signames: bool = False) -> list[int]:
    """Return the positions of the parameters that are asked for, in the order to show them.

    ``which`` has names, patterns with ``*`` and ``?``, "theta_" or "beta_"; all for None. With
    ``signames`` they go in the order of ``.sig01``, ...
    """
    known = named_parameters(fit)
    order = in_order_of_signs(fit) if signames else list(range(len(known)))
    if which is None:
        return order
    wanted = checks.names(which, "the choice of parameters", "names, patterns, or a list of them")
    if not wanted:
        raise ArgumentError("no parameter is chosen; expected some, or None for all")
    out: list[int] = []
    for text in wanted:
        found = [a for a, parameter in enumerate(known) if _fits(parameter, text)]
        if not found:
            raise ArgumentError(
                f"the fit has no parameter {text!r}; expected some of "
                f"{', '.join(p.name for p in known)}, a pattern such as 'sd_*', or one of {GROUPS}"
            )
        out += [a for a in found if a not in out]
    return [a for a in order if a in out]


def _fits(parameter: Named, text: str) -> bool:
    if unquoted(text) in (unquoted(parameter.name), parameter.sign):
        return True
    if text in GROUPS:
        return (parameter.kind == "beta") == (text == "beta_")
    return ("*" in text or "?" in text) and fnmatchcase(parameter.name, text)
