"""One row a parameter, after broom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.coef import coefficients_by_group, random_effects
from mixef.inference.components import (
    Component,
    component_jacobian,
    component_values,
    components,
    scale_jacobian,
)
from mixef.inference.hypotheses.ddf import (
    check_ddf,
    column_name,
    has_z_tests,
    t_tests,
    tested_fit,
)
from mixef.inference.intervals.confint import METHODS, confidence_intervals
from mixef.inference.intervals.wald import has_vanished, is_at_bound
from mixef.inference.parameters import auxiliary_standard_errors
from mixef.inference.prediction.prediction_rows import PredictionRows, TermRows
from mixef.inference.prediction.prediction_variance import known_variance, movement
from mixef.inference.tails import normal_quantile
from mixef.inference.varcorr import RESIDUAL, unique_names
from mixef.linalg.threads import one_blas_thread

FIXED, RAN_PARS, FAMILY, RAN_VALS, RAN_COEFS = (
    "fixed",
    "ran_pars",
    "family",
    "ran_vals",
    "ran_coefs",
)
EFFECTS = (FIXED, RAN_PARS, FAMILY, RAN_VALS, RAN_COEFS)
# One row a parameter.
PARAMETERS = (FIXED, RAN_PARS, FAMILY)
SCALES = ("sdcor", "vcov")
# What becomes of standard deviations and correlations on the scale of variances.
SQUARES = {"sd": "var", "cor": "cov"}
COLUMNS = (
    "effect", "group", "level", "term", "estimate", "std_error", "statistic", "df", "p_value",
    "conf_low", "conf_high",
)  # fmt: skip


@dataclass(frozen=True)
class Intervals:
    """The confidence intervals that a table has, if any."""

    method: str | None = None  # "wald", "profile", "boot", or None for no intervals
    level: float = 0.95
    # limits (k, 2) of standard deviations, correlations, sigma or a family's parameters
    theta: np.ndarray | None = None
    beta: np.ndarray | None = None  # limits (p, 2) of coefficients; by their tests for "wald"

    def about(self, estimate: np.ndarray, std_error: np.ndarray) -> dict[str, np.ndarray]:
        """Return normal limits (m,) as columns of a table; none if none are asked for."""
        if self.method is None:
            return {}
        half = normal_quantile(self.level) * std_error
        return {"conf_low": estimate - half, "conf_high": estimate + half}


def intervals(fit: Fit, wanted: Sequence[str], method: str, level: float, **work: Any) -> Intervals:
    """Return the intervals of the sorts of rows that are wanted, each computed once.

    ``work`` is what the bootstrap and long work take: n, seed, n_jobs, progress.
    """
    of_theta = {RAN_PARS, FAMILY} & set(wanted)
    of_beta = FIXED in wanted and method != "wald"
    if not (of_theta or of_beta):
        return Intervals(method, level)
    parm = None if of_theta and of_beta else "theta_" if of_theta else "beta_"
    limits = confidence_intervals(fit, parm, level, method, **work).to_numpy(dtype=float)
    k = len(limits) - len(fit.kept) * of_beta
    return Intervals(method, level, limits[:k] if of_theta else None, limits[k:])


def tidy(
    fit: Fit,
    effects: Any = PARAMETERS,
    conf_int: bool = False,
    conf_level: float = 0.95,
    conf_method: str = "wald",
    exponentiate: bool = False,
    scales: str = "sdcor",
    ddf: str | None = "auto",
    *,
    n: int = 500,
    seed: int | np.random.Generator | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Return one row a parameter, or a random effect; see the method ``tidy`` of a model."""
    wanted, scales = chosen_effects(effects), checks.option(scales, "scales", SCALES)
    exponentiate, shown = checks.flag(exponentiate, "exponentiate"), tested_fit(fit, ddf)
    method = checks.option(conf_method, "conf_method", METHODS)
    level, (n_jobs, progress) = (
        checks.level(conf_level, "conf_level"),
        checks.work(n_jobs, progress),
    )
    work = {"n": checks.whole(n, "n"), "seed": checks.generator(seed), "n_jobs": n_jobs}
    limits = Intervals()
    if checks.flag(conf_int, "conf_int"):
        check_covariances(fit, wanted, method, scales)
        limits = intervals(shown, wanted, method, level, **work, progress=progress)
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        FIXED: lambda: fixed_rows(fit, limits, exponentiate, ddf),
        RAN_PARS: lambda: parameter_rows(shown, limits, scales),
        FAMILY: lambda: family_rows(shown, limits),
        RAN_VALS: lambda: mode_rows(shown, limits),
        RAN_COEFS: lambda: coefficient_rows(shown, limits),
    }
    parts = [pd.DataFrame({"effect": name} | makers[name]()) for name in wanted]
    table = pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)
    known = [name for name in COLUMNS if any(name in part for part in parts)]
    table = table.reindex(columns=known)
    texts = [name for name in ("group", "level") if name in known]
    table[texts] = table[texts].astype(object).where(table[texts].notna(), None)
    return table.rename_axis(columns=column_name(fit, ddf))


def chosen_effects(effects: Any) -> list[str]:
    """Return the sorts of rows that are asked for, each once, in the order to show them."""
    names = checks.names(effects, "effects", f"one or more of {checks.either(EFFECTS)}")
    if not names:
        raise checks.refusal("effects", effects, f"one or more of {checks.either(EFFECTS)}")
    spelled = {name.replace("_", "-"): name for name in EFFECTS}
    wanted = {checks.option(name, "effects", EFFECTS, spelled) for name in names}
    return [name for name in EFFECTS if name in wanted]


def fixed_rows(
    fit: Fit, limits: Intervals, exponentiate: bool = False, ddf: str | None = "auto"
) -> dict[str, Any]:
    """Return the fixed effects with their tests, as columns of a table.

    Wald intervals have the degrees of freedom of the tests. The exponential of a coefficient has
    the standard error ``exp(b) se(b)``, by the delta method, and the test of the coefficient.
    """
    tests = t_tests(fit, np.eye(len(fit.kept)), ddf=ddf)
    columns: dict[str, Any] = {
        "group": None, "term": list(fit.fixed_names), "estimate": tests.estimate,
        "std_error": tests.std_error, "statistic": tests.statistic,
    }  # fmt: skip
    if has_t_tests := check_ddf(fit, ddf) is not None:
        columns |= {"df": tests.df}
    if has_t_tests or has_z_tests(fit, ddf):
        columns |= {"p_value": tests.p_value}
    if limits.method == "wald":
        columns["conf_low"], columns["conf_high"] = tests.limits(limits.level)
    elif limits.beta is not None:
        columns["conf_low"], columns["conf_high"] = limits.beta.T
    if exponentiate:
        with np.errstate(over="ignore"):
            values = np.exp(columns["estimate"])
            columns |= {"estimate": values, "std_error": values * columns["std_error"]}
            columns |= {k: np.exp(columns[k]) for k in ("conf_low", "conf_high") if k in columns}
    return columns


def parameter_rows(fit: Fit, limits: Intervals, scales: str = "sdcor") -> dict[str, Any]:
    """Return standard deviations and correlations, or variances and covariances, as columns.

    Standard errors are by the delta method from the inverse Hessian of the criterion. They are NaN
    for a standard deviation of zero, what goes with it, a correlation at a bound, and what the data
    leave open.
    """
    parts = components(fit.terms)
    kinds = [_kind(part, scales) for part in parts]
    values = component_values(parts, fit.estimates.lams, fit.covariance_scale)
    J = _jacobian(fit, parts, kinds, values)
    groups = unique_names(term.group for term in fit.terms)
    columns: dict[str, Any] = {
        "group": [groups[part.term] for part in parts],
        "term": [f"{k}__{_of(fit, part)}" for k, part in zip(kinds, parts, strict=True)],
    }
    for a, part in enumerate(parts):
        if kinds[a] in SQUARES.values():
            lam = fit.estimates.lams[part.term]
            cov = fit.covariance_scale * lam @ lam.T
            values[a] = cov[part.part.entry(cov)]
    if fit.sigma is not None:
        kinds.append(SQUARES["sd"] if scales == "vcov" else "sd")
        columns["group"].append(RESIDUAL)
        columns["term"].append(f"{kinds[-1]}__Observation")
        power = 2 if kinds[-1] == "var" else 1
        values = np.append(values, fit.sigma**power)
        J = np.vstack([J, power * fit.sigma ** (power - 1) * scale_jacobian(fit)])
    columns |= {"estimate": values, "std_error": _standard_errors(fit, J)}
    if limits.theta is not None:
        columns |= _limits(limits, kinds, columns)
    return columns


def check_covariances(fit: Fit, wanted: Sequence[str], method: str, scales: str) -> None:
    """Refuse intervals of covariances by profile or bootstrap, before they are computed."""
    for part in components(fit.terms):
        if RAN_PARS in wanted and method != "wald" and _kind(part, scales) == SQUARES["cor"]:
            raise ArgumentError(
                f"conf_method is {method!r}, which has intervals of standard deviations and "
                f"correlations, not of covariances such as cov__{_of(fit, part)}; expected "
                "scales='sdcor', or conf_method='wald'"
            )


def _kind(part: Component, scales: str) -> str:
    """Return what a row has: "sd" or "cor", or their squares, save the one correlation of many."""
    is_square = scales == "vcov" and not part.part.reach
    return SQUARES[part.kind] if is_square else part.kind


def _of(fit: Fit, part: Component) -> str:
    """Name what a standard deviation or correlation is of, as broom.mixed does."""
    row, col, columns = part.part.row, part.part.col, fit.terms[part.term].columns
    pairwise = part.kind == "cor" and not part.part.reach
    return f"{columns[col]}.{columns[row]}" if pairwise else part.part.name


def _jacobian(
    fit: Fit, parts: Sequence[Component], kinds: Sequence[str], values: np.ndarray
) -> np.ndarray:
    """Return the derivatives (m, K) of the rows' parameters for those of the search.

    NaN for what is zero or beside it, and for a correlation at a bound.
    """
    J, squares = (component_jacobian(fit, parts, squares=flag) for flag in (False, True))
    is_square = np.isin(kinds, list(SQUARES.values()))
    J[is_square] = squares[is_square]
    gone = {
        (p.term, p.part.row) for a, p in enumerate(parts) if p.kind == "sd" and has_vanished(fit, a)
    }
    for a, part in enumerate(parts):
        bounds = fit.terms[part.term].structure.correlation_bounds
        ends = kinds[a] == "cor" and is_at_bound(values[a], bounds)
        if ends or {(part.term, part.part.row), (part.term, part.part.col)} & gone:
            J[a] = np.nan
    return J


def _standard_errors(fit: Fit, J: np.ndarray) -> np.ndarray:
    """Return the standard errors (m,) by the delta method, NaN for what the data leave open."""
    C, is_open = fit.search_covariance()
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.einsum("ai,ij,aj->a", J, C, J))
    errors[(J[:, is_open] != 0.0).any(axis=1)] = np.nan
    return errors


def _limits(
    limits: Intervals, kinds: Sequence[str], columns: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Return confidence limits of standard deviations and the like; of variances, their squares."""
    assert limits.theta is not None
    is_cov = np.array(kinds) == SQUARES["cor"]
    own = limits.theta[: len(kinds)].copy()
    own[np.array(kinds) == SQUARES["sd"]] **= 2
    normal = limits.about(columns["estimate"], columns["std_error"])
    return {
        name: np.where(is_cov, normal[name], own[:, side])
        for side, name in enumerate(("conf_low", "conf_high"))
    }


def family_rows(fit: Fit, limits: Intervals) -> dict[str, Any]:
    """Return what else a generalized model's family estimates, as columns of a table."""
    values = {} if fit.is_linear else fit.family.named(fit.extra)
    columns: dict[str, Any] = {
        "group": None, "term": list(values), "estimate": list(values.values()),
        "std_error": auxiliary_standard_errors(fit) if values else [],
    }  # fmt: skip
    if limits.theta is not None:
        first = len(components(fit.terms))
        own = limits.theta[first : first + len(values)]
        # A dispersion goes by its root there.
        columns["conf_low"], columns["conf_high"] = (own**2 if fit.family.has_dispersion else own).T
    return columns


def mode_rows(fit: Fit, limits: Intervals) -> dict[str, Any]:
    """Return the conditional modes, with standard deviations given the parameters, as columns."""
    modes = random_effects(fit, condVar=True).to_frame()
    columns = {
        "group": modes["grpvar"], "level": modes["grp"], "term": modes["term"],
        "estimate": modes["condval"], "std_error": modes["condsd"],
    }  # fmt: skip
    return columns | limits.about(modes["condval"], modes["condsd"])


def coefficient_rows(fit: Fit, limits: Intervals) -> dict[str, Any]:
    """Return fixed effect plus conditional mode of every level, as columns of a table.

    Their variances are those of predictions at columns of ones: joint for fixed effects, modes and
    covariance parameters.
    """
    parts = []
    with one_blas_thread():
        moved = movement(fit)
        for group, coefs in coefficients_by_group(fit).items():
            n, s = coefs.shape
            rows = _rows_of_coefficients(fit, group, list(coefs.columns), n)
            part = {
                "group": group,
                "level": np.tile(coefs.index.to_numpy(dtype=object), s),
                "term": np.repeat(coefs.columns.to_numpy(dtype=object), n),
                "estimate": coefs.to_numpy().T.ravel(),
                "std_error": np.sqrt(known_variance(fit, rows, moved)),
            }
            parts.append(pd.DataFrame(part))
    table = pd.concat(parts, ignore_index=True)
    own = {name: table[name] for name in table}
    return own | limits.about(table["estimate"].to_numpy(), table["std_error"].to_numpy())


def _rows_of_coefficients(fit: Fit, group: str, names: list[str], n: int) -> PredictionRows:
    """Return rows whose predictions are the coefficients of n levels, one name after the other."""

    def ones(columns: Sequence[str]) -> np.ndarray:
        """Return 1 where a row's coefficient is that of a column."""
        found = np.array([[name == column for column in columns] for name in names], dtype=float)
        return np.repeat(found.reshape(len(names), len(columns)), n, axis=0)

    m = n * len(names)
    codes, never = np.tile(np.arange(n), len(names)), np.zeros(m, dtype=bool)
    members = fit.groups[group]
    terms = {t: TermRows(ones(fit.terms[t].columns), codes, never) for t in members}
    included = {t: np.ones(len(fit.terms[t].columns)) for t in members}
    return PredictionRows(
        ones(fit.fixed_names), None, terms, included, pd.RangeIndex(m), None, None
    )
