"""Marginal means of a fit: averages of what the model says on the reference grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import check_ddf
from mixef.inference.marginal.grid import Grid, labels_of, reference_grid
from mixef.inference.marginal.joint import JointTests, term_tests
from mixef.inference.marginal.means import MarginalMeans, Several, check_type
from mixef.inference.marginal.predictors import predictors
from mixef.inference.marginal.questions import Question
from mixef.inference.marginal.scales import Scale, averaged_variance, response_scale
from mixef.inference.marginal.specs import read_specs
from mixef.terms.nodes import variable_names


def marginal_means(
    fit: Fit,
    specs: Any,
    by: Any = None,
    at: Any = None,
    weights: Any = "equal",
    type: str = "link",
    ddf: str | None = "auto",
    level: float = 0.95,
    bias_adjust: bool = False,
    sigma: float | None = None,
    offset: float | None = None,
    nesting: Any = None,
) -> Any:
    """Return marginal means; see the method ``emmeans`` of a model."""
    if isinstance(specs, list | tuple) and any("~" in str(spec) for spec in specs):
        given = (by, at, weights, type, ddf, level, bias_adjust, sigma, offset, nesting)
        return Several({f"emmeans of {s}": marginal_means(fit, s, *given) for s in specs})
    check_ddf(fit, ddf)
    on_response, level = check_type(type), checks.level(level)
    scale = adjusted_scale(fit, bias_adjust, sigma)
    grid = reference_grid(fit, at, offset, nesting)
    asked = read_specs(specs, by, grid.predictors)
    names = with_nests(grid, (*asked.names, *asked.by))
    W, labels = grid.averages(names, weights), labels_of(grid, names, grid.cells(names)[1])
    means = MarginalMeans(
        fit, labels, asked.by, W @ grid.X, W @ grid.offset,
        scale=scale, on_response=on_response and scale is not None,
        question=Question(level=level), ddf=ddf, notes=tuple(notes_of(grid, names)),
    )  # fmt: skip
    if asked.contrasts is None:
        return means
    return Several({"emmeans": means, "contrasts": means.contrast(asked.contrasts)})


def with_nests(grid: Grid, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names with the factors that those are nested in."""
    nests = [outer for name in names for outer in grid.nesting.get(name, ())]
    return tuple(dict.fromkeys((*names, *nests)))


def adjusted_scale(fit: Fit, bias_adjust: Any, sigma: Any) -> Scale | None:
    """Return the scale of the response, with an adjustment for bias if one is asked for."""
    scale = response_scale(fit)
    if not checks.flag(bias_adjust, "bias_adjust"):
        if sigma is not None:
            raise ArgumentError(
                f"sigma is {checks.shown(sigma)}, which is the standard deviation of an adjustment "
                "for bias; expected bias_adjust=True beside it"
            )
        return scale
    if sigma is None:
        variance = averaged_variance(fit)
    else:
        variance = checks.number(sigma, "sigma", 0.0, "a number that is not negative") ** 2
    return None if scale is None else replace(scale, variance=variance)


def notes_of(grid: Grid, names: tuple[str, ...], of_means: bool = True) -> list[str]:
    """Return what is to be said about the averages."""
    averaged = [p.name for p in grid.predictors.values() if len(p.levels) > 1]
    averaged = [name for name in averaged if name not in names]
    out = []
    terms = [
        {name for node in term for name in variable_names(node)}
        for term in grid.fit.frame.fixed_terms.terms
    ]
    if of_means and any(term & set(averaged) and term & set(names) for term in terms):
        out.append("NOTE: Results may be misleading due to involvement in interactions")
    if grid.nesting:
        found = ", ".join(
            f"{inner} %in% {outers[0] if len(outers) == 1 else '(' + '*'.join(outers) + ')'}"
            for inner, outers in grid.nesting.items()
        )
        out.append(f"NOTE: A nesting structure was detected in the fitted model: {found}")
    if averaged:
        out.append(f"Results are averaged over the levels of: {', '.join(averaged)}")
    return out


def model_tests(
    fit: Fit, by: Any = None, at: Any = None, ddf: str | None = "auto", nesting: Any = None
) -> JointTests:
    """Return joint tests of all predictors; see the method ``joint_tests`` of a model."""
    check_ddf(fit, ddf)
    moved = {}
    for p in predictors(fit).values():
        if len(p.levels) == 1 and not p.is_factor and isinstance(p.levels[0], float):
            # A covariate is tested by its slope at the mean.
            moved[p.name] = p.at([p.levels[0] - 1.0, p.levels[0] + 1.0])
    grid = reference_grid(fit, at, 0.0, nesting, moved)
    varying = tuple(p.name for p in grid.predictors.values() if len(p.levels) > 1)
    if not varying:
        raise ArgumentError(
            f"no predictor of {fit.formula.text} has two values or more in the grid, so there is "
            "nothing to test; expected a factor or a covariate"
        )
    asked = read_specs(varying, by, grid.predictors)
    names = (*asked.names, *asked.by)
    W, labels = grid.averages(names, "equal"), labels_of(grid, names, grid.cells(names)[1])
    means = MarginalMeans(
        fit, labels, asked.by, W @ grid.X, W @ grid.offset, ddf=ddf,
        notes=tuple(notes_of(grid, names)),
    )  # fmt: skip
    return term_tests(means)
