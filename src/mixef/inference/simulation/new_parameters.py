"""Parameters that a user gives for a simulation, in whichever form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixef.checks import shown
from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.estimation.spec import checked_parameters, par_labels, theta_labels
from mixef.families.auxiliary import Extra, joined, separate
from mixef.families.family import Family
from mixef.inference.components import Component, component_values, components
from mixef.terms.covariance import psd_cholesky, roots_of_theta, theta_of
from mixef.terms.nodes import by_known_names
from mixef.terms.random import RandomTerm, block_structure

RELATIVE = ("theta", "par")
ABSOLUTE = ("cov", "sd", "cor")
# An eigenvalue this far below zero, relative to the largest, is rounding.
ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Values:
    """Values of all parameters of a model."""

    beta: np.ndarray  # (p,)
    # tuple of ndarray (s_t, s_t): lower triangular roots of the terms' covariances, on the scale of
    # the linear predictor
    roots: tuple[np.ndarray, ...]
    extra: Extra  # Auxiliary parameters


@dataclass(frozen=True, eq=False)
class Parameters:
    """What parameters a model has."""

    fixed_names: tuple[str, ...]  # tuple of str (p,)
    terms: tuple[RandomTerm, ...]
    family: Family
    is_linear: bool  # Whether theta is relative to sigma

    @property
    def extra_names(self) -> tuple[tuple[str, ...], ...]:
        """For each of the further parameters what it goes by: first its own name."""
        if self.is_linear:
            return (("sigma",),)
        if self.family.has_dispersion:
            return (("dispersion", "sigma"),)
        return tuple((parameter.name,) for parameter in self.family.auxiliary)

    def describe(self) -> str:
        """Say in one sentence what can be given."""
        parts = components(self.terms)
        groups = ", ".join(dict.fromkeys(repr(term.group) for term in self.terms))
        pieces = [
            f"'beta' ({', '.join(self.fixed_names)})" if self.fixed_names else "",
            f"'theta' ({', '.join(theta_labels(self.terms))}), 'par', or by group ({groups}) 'cov' "
            "or 'sd' and 'cor', or single values by name "
            f"({', '.join(part.name for part in parts)})",
            *(" or ".join(map(repr, names)) for names in self.extra_names),
        ]
        return "; ".join(piece for piece in pieces if piece)


def fitted_values_of(fit: Fit) -> Values:
    """Return the estimates of a fit."""
    scale = np.sqrt(fit.covariance_scale)
    return Values(
        fit.estimates.beta, tuple(scale * lam for lam in fit.estimates.lams), fit.estimates.extra
    )


def parameters_of(fit: Fit) -> Parameters:
    """Return what parameters a fit has."""
    return Parameters(fit.fixed_names, fit.terms, fit.family, fit.is_linear)


def read_values(given: Any, parameters: Parameters, old: Values | None) -> Values:
    """Return the values that a user gives; what is not given stays as it was.

    "beta" (or "fixef") are all coefficients, or some by name. Covariances go by "theta" or "par",
    which are relative to sigma in a linear model, by "cov" (from group or term to a matrix, or the
    variance of a single column), or by "sd" and "cor" (from group to one number or all in order)
    and single names such as "sd_x|g", on the response's or the link's scale. There are "sigma",
    "dispersion", "shape" or what else the family has; where sigma alone is given, theta stays.
    Where there are no old values, all have to be given, save correlations, which are zero.
    """
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        raise DataError(
            f"the parameters are {shown(given)}; expected a dict with {parameters.describe()}"
        )
    parts = components(parameters.terms)
    by_name = {part.name for part in parts}
    known = {"beta", "fixef", *RELATIVE, *ABSOLUTE, *sum(parameters.extra_names, ()), *by_name}
    given = by_known_names(given, known)
    if unknown := [name for name in given if name not in known]:
        raise DataError(
            f"the parameters have {', '.join(map(repr, unknown))}, which the model does not; "
            f"expected {parameters.describe()}"
        )
    beta = _beta(given, parameters, old)
    extra = _extra(given, parameters, old)
    roots = _roots(given, parameters, parts, old, extra)
    return Values(beta, roots, extra)


def _missing(what: str, parameters: Parameters) -> DataError:
    return DataError(f"the parameters lack {what}; expected {parameters.describe()}")


def _beta(given: Mapping[str, Any], parameters: Parameters, old: Values | None) -> np.ndarray:
    names = parameters.fixed_names
    values = given.get("beta", given.get("fixef"))
    if values is None:
        if old is None and names:
            raise _missing("'beta'", parameters)
        return np.zeros(0) if old is None else old.beta
    if isinstance(values, pd.Series) and values.index.dtype.kind in "OTU":
        values = values.to_dict()
    if not isinstance(values, Mapping):
        return checked_parameters(values, names, "coefficients")
    values = by_known_names(values, names)
    unknown = [name for name in values if name not in names]
    if unknown:
        raise DataError(
            f"beta has {', '.join(map(repr, unknown))}; the coefficients are {', '.join(names)}"
        )
    absent = [name for name in names if name not in values]
    if old is None and absent:
        raise _missing(f"the coefficients {', '.join(absent)} in 'beta'", parameters)
    before = dict.fromkeys(names, 0.0) if old is None else dict(zip(names, old.beta, strict=True))
    merged = before | dict(values)
    return checked_parameters([merged[name] for name in names], names, "coefficients")


def _extra(given: Mapping[str, Any], parameters: Parameters, old: Values | None) -> Extra:
    before = (None,) * len(parameters.extra_names) if old is None else separate(old.extra)
    pairs = zip(parameters.extra_names, before, strict=True)
    values = [_extra_value(given, parameters, names, value) for names, value in pairs]
    return joined(values) if values else None


def _extra_value(given, parameters, names: tuple[str, ...], before: float | None) -> float:
    named = [name for name in names if name in given]
    if len(named) > 1:
        raise DataError(f"the parameters have both {named[0]!r} and {named[1]!r}; give one")
    if not named:
        if before is None:
            raise _missing(repr(names[0]), parameters)
        return before
    value = checked_parameters(given[named[0]], named, named[0])[0]
    zero_is_fine = parameters.is_linear
    if value < 0.0 or (value == 0.0 and not zero_is_fine):
        raise DataError(f"{named[0]} is {value:g}; expected a positive number")
    return float(value**2 if named[0] == "sigma" else value)


def _roots(given, parameters, parts, old, extra) -> tuple[np.ndarray, ...]:
    """Return the roots (s_t, s_t) of the terms' covariances."""
    terms = parameters.terms
    relative = [key for key in RELATIVE if key in given]
    absolute = [key for key in given if key in ABSOLUTE or key in {part.name for part in parts}]
    if len(relative) + bool(absolute) > 1:
        ways = [*relative, *absolute[:1]]
        raise DataError(
            f"the parameters give covariances by {ways[0]!r} and again by {ways[1]!r}; use one way"
        )
    linear = parameters.is_linear
    if relative:
        scale = np.sqrt(extra) if linear else 1.0
        lams = _templates(given[relative[0]], terms, relative[0])
        return tuple(scale * lam for lam in lams)
    if absolute:
        return _absolute(given, parameters, parts, old)
    if old is None:
        raise _missing("covariances", parameters)
    ratio = np.sqrt(extra / old.extra) if linear and old.extra > 0 else 1.0
    return old.roots if ratio == 1.0 else tuple(ratio * root for root in old.roots)


def _templates(values: Any, terms: tuple[RandomTerm, ...], kind: str) -> list[np.ndarray]:
    """Return the templates of theta or par."""
    parametrization = block_structure(terms)[1]
    if kind == "par":
        labels = par_labels(terms)
        par = checked_parameters(values, labels, "par")
        return parametrization.term_lams(parametrization.of_user(par))
    labels = theta_labels(terms)
    theta = checked_parameters(values, labels, "theta")
    structures = parametrization.structures
    given = roots_of_theta(structures, theta)
    lams = parametrization.term_lams(parametrization.of_theta(theta))
    first = 0
    for structure, lam, root in zip(structures, lams, given, strict=True):
        lost = theta_of(np.tril(np.abs(lam @ lam.T - root @ root.T)))
        if (lost > 1e-8 * (root**2).sum()).any():
            at = first + int(np.argmax(lost))
            raise DataError(
                f"theta has {labels[at]} = {theta[at]:g}, which the structure of its term "
                f"does not allow, {structure}; see par for the parameters that are free"
            )
        first += len(lost)
    return lams


def _absolute(given, parameters, parts, old) -> tuple[np.ndarray, ...]:
    """Return the roots of covariances given by matrices, standard deviations and correlations."""
    terms = parameters.terms
    roots = [None] * len(terms) if old is None else list(old.roots)
    for key, value in _by_group(given.get("cov", {}), "cov", terms).items():
        for t, cov in _matrices(key, value, terms):
            roots[t] = _root(cov, terms[t])
    named = _named(given, parts, terms)
    for t in dict.fromkeys(part.term for part in named):
        own = [part for part in parts if part.term == t]
        before = _before(own, roots[t])
        values = {part: named.get(part, before[part]) for part in own}
        lacking = [part.name for part, value in values.items() if np.isnan(value)]
        if lacking:
            raise _missing(", ".join(lacking), parameters)
        roots[t] = _root_of_parts(values, terms[t])
    lacking = [f"({term.label})" for term, root in zip(terms, roots, strict=True) if root is None]
    if lacking:
        raise _missing(f"the covariance of {', '.join(lacking)}", parameters)
    return tuple(root for root in roots if root is not None)


def _before(own: Sequence[Component], root: np.ndarray | None) -> dict[Component, float]:
    """Return what a term's parameters were; correlations of nothing are zero."""
    if root is None:
        return {part: np.nan if part.kind == "sd" else 0.0 for part in own}
    local = [replace(part, term=0) for part in own]
    values = component_values(local, [root], 1.0)
    return {part: float(np.nan_to_num(v)) for part, v in zip(own, values, strict=True)}


def _named(given, parts, terms) -> dict[Component, float]:
    """Return the standard deviations and correlations that are given."""
    out: dict[Component, float] = {}
    for kind in ("sd", "cor"):
        for group, values in _by_group(given.get(kind, {}), kind, terms).items():
            own = [p for p in parts if p.kind == kind and group in _keys(terms[p.term])]
            if not own:
                raise _no_group(kind, group, terms, "no correlations" if kind == "cor" else "")
            names = [part.name for part in own]
            numbers = checked_parameters(values, names, f"{kind} of {group}")
            out.update(zip(own, numbers.tolist(), strict=True))
    for part in parts:
        if part.name in given:
            out[part] = float(checked_parameters(given[part.name], [part.name], part.name)[0])
    for part, value in out.items():
        if (part.kind == "sd" and value < 0) or (part.kind == "cor" and abs(value) > 1):
            most = "0 or more" if part.kind == "sd" else "between -1 and 1"
            raise DataError(f"{part.name} is {value:g}; expected a number {most}")
    return out


def _by_group(values: Any, kind: str, terms: Sequence[RandomTerm]) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise DataError(
            f"{kind} is {shown(values)}; expected a dict from grouping factor to values"
        )
    return by_known_names(values, [key for term in terms for key in _keys(term)])


def _keys(term: RandomTerm) -> tuple[str, str]:
    return (term.group, term.label)


def _no_group(kind: str, group: str, terms: Sequence[RandomTerm], why: str) -> DataError:
    found = any(group in _keys(term) for term in terms) and why
    reason = f"the model has {why} for it" if found else "the model has no such grouping factor"
    known = ", ".join(dict.fromkeys(term.group for term in terms))
    return DataError(f"{kind} names {group!r}: {reason}; the grouping factors are {known}")


def _root_of_parts(values: Mapping[Component, float], term: RandomTerm) -> np.ndarray:
    """Return the root (s, s) of standard deviations and correlations."""
    sds, cors = (
        np.array([value for part, value in values.items() if part.kind == kind])
        for kind in ("sd", "cor")
    )
    try:
        return term.structure.root_of(sds, cors)
    except ValueError as error:
        raise DataError(f"the covariance of ({term.label}) {error}") from None


def _matrices(key: str, value: Any, terms: tuple[RandomTerm, ...]) -> list[tuple[int, np.ndarray]]:
    """Return the terms of a group with their blocks of its covariance matrix."""
    members = [t for t, term in enumerate(terms) if key in _keys(term)]
    if not members:
        raise _no_group("cov", key, terms, "")
    columns = [column for t in members for column in terms[t].columns]
    expected = (
        f"expected a matrix {len(columns)} by {len(columns)}, of {', '.join(columns)}"
        if len(columns) > 1
        else "expected one number, the variance"
    )
    try:
        cov = np.atleast_2d(np.asarray(value, dtype=float))
    except (TypeError, ValueError):
        raise DataError(f"cov of {key} is {value!r}; {expected}") from None
    if cov.shape != (len(columns), len(columns)) or not np.isfinite(cov).all():
        raise DataError(f"cov of {key} is {np.asarray(value).tolist()}; {expected}")
    ends = np.cumsum([len(terms[t].columns) for t in members])
    blocks = [slice(end - len(terms[t].columns), end) for t, end in zip(members, ends, strict=True)]
    inside = np.zeros(cov.shape, dtype=bool)
    for block in blocks:
        inside[block, block] = True
    if cov[~inside].any():
        raise DataError(
            f"cov of {key} has a covariance between columns of different terms; expected zeros "
            "there, or name the terms: " + ", ".join(repr(terms[t].label) for t in members)
        )
    return [(t, cov[block, block]) for t, block in zip(members, blocks, strict=True)]


def _root(cov: np.ndarray, term: RandomTerm) -> np.ndarray:
    """Return the lower triangular root of a covariance matrix that the term can have."""
    label, size = f"the covariance of ({term.label})", np.abs(cov).max(initial=0.0)
    if np.abs(cov - cov.T).max() > 1e-8 * size:
        raise DataError(f"{label} is not symmetric; expected a covariance matrix")
    value, vector = np.linalg.eigh(0.5 * (cov + cov.T))
    if value[0] < -ROUNDING * size:
        raise DataError(
            f"{label} is not positive semi-definite (it has the eigenvalue {value[0]:.3g}); "
            "correlations have to go together"
        )
    root = psd_cholesky(vector * np.sqrt(np.maximum(value, 0.0)))
    held = term.structure.lam(term.structure.coordinates(root))
    if np.abs(held @ held.T - cov).max() > 1e-8 * size:
        raise DataError(f"{label} is not one that its structure, {term.structure}, can have")
    return root
