"""Predicted means along a predictor: typical ones, those averaged over random effects, and data.

The typical mean is that of random effects of zero. The averaged one is the expectation over all
random effects, ``E g^-1(eta + z'b)``, at the average of ``z'Sigma z`` where other predictors are
averaged over. The two differ where the link is not the identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.marginal.emmeans import marginal_means
from mixef.inference.marginal.grid import Grid, reference_grid
from mixef.inference.marginal.means import MarginalMeans
from mixef.inference.marginal.predictors import Predictor, predictors, variables_of
from mixef.inference.prediction.new_responses import averaged_mean
from mixef.inference.prediction.prediction_rows import PredictionRows
from mixef.inference.prediction.prediction_variance import (
    movement,
    random_variance,
    random_variance_slopes,
)
from mixef.inference.tails import t_quantile
from mixef.terms.exact import Exact, times
from mixef.terms.nodes import variable_names
from mixef.terms.values import text_of

TYPICAL, AVERAGED = "typical", "averaged"
# Points of a curve; and the most series that marks and lines tell apart.
POINTS, SERIES = 61, 8
# Rows that are shown one by one, and the most means that stand for more of them.
ROWS, MEANS = 500, 20


@dataclass(frozen=True, eq=False)
class Effects:
    """Predicted means along a predictor, and the data beside them."""

    x: Predictor
    #: One row a mean: kind ("typical" or "averaged"), series (int), x (numbers, or positions of
    #: levels), estimate, conf_low, conf_high
    frame: pd.DataFrame
    series: tuple[str, ...]  # names of the series: values of the predictors in ``by``
    #: One row an observation: series, x, y, weight
    rows: pd.DataFrame
    is_time: bool  # whether x is in days since 1970

    def __repr__(self) -> str:
        return f"<Effects of {self.x.name}: {len(self.frame)} means>"

    @property
    def levels(self) -> tuple[str, ...] | None:
        """The labels of x where it stands at its levels; None for a curve."""
        return self.x.texts if self.x.codes is not None else None

    @property
    def are_means(self) -> bool:
        """Whether rows are too many to be shown, or zeros and ones, which say little one by one."""
        y = self.rows["y"].to_numpy()
        return len(y) > ROWS or bool((np.isin(y, (0.0, 1.0)) | np.isnan(y)).all())

    def observed(self) -> pd.DataFrame:
        """Return the rows, or their means by values of x or quantiles of it: series, x, y, n."""
        rows = self.rows[self.rows["y"].notna()]
        if not self.are_means or not len(rows):
            return rows.drop(columns="weight").assign(n=1)
        parts = [
            weighted_means(*part[["x", "y", "weight"]].to_numpy().T).assign(series=place)
            for place, part in rows.groupby("series")
        ]
        return pd.concat(parts, ignore_index=True)[["series", "x", "y", "n"]]


def weighted_means(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> pd.DataFrame:
    """Return means of x and y, and numbers of rows, by values of x or by quantiles of it."""
    bins = pd.Series(x)
    if bins.nunique() > MEANS:
        bins = pd.qcut(bins, MEANS, labels=False, duplicates="drop")
    held = pd.DataFrame({"x": x * weight, "y": y * weight, "w": weight, "n": 1})
    sums = held.groupby(bins.to_numpy()).sum()
    sums = sums[sums["w"] > 0]
    return pd.DataFrame({"x": sums["x"] / sums["w"], "y": sums["y"] / sums["w"], "n": sums["n"]})


def effects(
    fit: Fit,
    x: Any,
    by: Any = None,
    at: Any = None,
    type: str = "response",
    average: bool | None = None,
    level: float = 0.95,
) -> Effects:
    """Return predicted means along x; see ``fit.plot.effects``."""
    average = checks.flag_or_none(average, "average")
    known = predictors(fit)
    name = checks.text(x, "x", "the name of a predictor")
    names = [] if by is None else list(dict.fromkeys(checks.names(by, "by")))
    for argument, asked in (("x", name), *(("by", other) for other in names)):
        if asked not in known:
            raise ArgumentError(
                f"{argument} is {asked!r}, which is no predictor of the fixed effects; they are "
                f"{', '.join(known) or 'none'}"
            )
    values = _values(fit, known, name, names, at)
    means = marginal_means(fit, [name, *names], None, values, type=type, level=level)
    grid = reference_grid(fit, values)
    found = grid.predictors[name]
    labels = means.labels
    series, codes = _series(labels, [n for n in labels.columns if n != name])
    if len(series) > SERIES:
        raise ArgumentError(
            f"by has {len(series)} combinations of values of {', '.join(names)}; expected "
            f"{SERIES} at most, which a reader can tell apart: choose some with at={{...}}"
        )
    is_time = isinstance(found.levels[0], pd.Timestamp)
    at_levels = list(found.levels).index
    if found.codes is not None:
        place = np.array([at_levels(value) for value in labels[name]], dtype=float)
    elif is_time:
        place = times(labels[name], name).as_float()
    else:
        place = labels[name].to_numpy(dtype=float)
    shown = means.to_frame()[["estimate", "conf_low", "conf_high"]]
    parts = [shown.assign(kind=TYPICAL, series=codes, x=place)]
    if average is not False and not fit.is_linear and means.scale is not None:
        try:
            parts.append(_averaged(means, grid).assign(kind=AVERAGED, series=codes, x=place))
        except ArgumentError:  # the link has none
            if average:
                raise
    frame = pd.concat(parts, ignore_index=True)
    rows = _rows(means, grid, name, [n for n in labels.columns if n != name])
    return Effects(found, frame, series, rows, is_time)


def _values(
    fit: Fit, known: Mapping[str, Predictor], name: str, by: list[str], at: Any
) -> dict[str, Any]:
    """Return the values of the grid: the given ones, x along its range, and covariates of by."""
    expected = "a dict from predictors to values, such as {'x': [1, 2]}"
    out = {} if at is None else dict(checks.mapping(at, "at", expected))
    for other in (name, *by):
        if other in out or other not in known or known[other].codes is not None:
            continue
        column = known[other].covariate
        assert column is not None
        if isinstance(column.mean, pd.Timestamp):
            periods = POINTS if other == name else 3
            out[other] = list(pd.date_range(column.low, column.high, periods=periods))
        elif other == name:
            out[other] = np.linspace(column.low, column.high, POINTS)
        else:  # a covariate stands one standard deviation about its mean
            mean, sd = column.mean, column.sd
            decimals = 2 - int(np.floor(np.log10(sd))) if sd > 0 else 0
            out[other] = [round(float(mean + k * sd), decimals) + 0.0 for k in (-1, 0, 1)]
    return out


def _series(labels: pd.DataFrame, by: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the series, and the series of each mean."""
    if not by:
        return ("",), np.zeros(len(labels), dtype=int)
    texts = [f"{name} = " + labels[name].map(text_of) for name in by]
    joined = texts[0]
    for text in texts[1:]:
        joined = joined + ", " + text
    codes, names = pd.factorize(joined)
    return tuple(names), codes


def _averaged(means: MarginalMeans, grid: Grid) -> pd.DataFrame:
    """Return the means averaged over random effects, with limits by the delta method."""
    fit, K = means.fit, len(means.fit.labels)
    W = grid.averages(list(means.labels.columns), "equal")
    variance, by_search = np.zeros(len(grid.codes)), np.zeros((len(grid.codes), K))
    for t, term in enumerate(fit.terms):
        spec = term.design.spec
        needed = {n for part in spec.terms for c in part for n in variable_names(c.node)}
        if needed <= set(grid.columns):
            z = {t: spec.apply(grid.columns if needed else {" ": np.zeros(len(grid.codes))}, {})}
            variance = variance + random_variance(fit, z, len(grid.codes))
            by_search = by_search + random_variance_slopes(fit, z, len(grid.codes))
        else:  # of variables that are no predictors: averaged over the rows
            z = {t: term.z}
            variance = variance + random_variance(fit, z, fit.frame.n).mean()
            by_search = by_search + random_variance_slopes(fit, z, fit.frame.n).mean(axis=0)
    eta, _, df = means._estimated
    estimable = np.isfinite(eta)
    average = averaged_mean(fit.family, np.where(estimable, eta, 0.0), W @ variance)
    rows = PredictionRows(means.L[:, fit.kept], None, {}, {}, pd.RangeIndex(len(eta)), None, None)
    moved = movement(fit)
    J = average.by_eta[:, None] * moved.slopes(rows)
    J[:, moved.n_before :] += average.by_variance[:, None] * (W @ by_search)
    with np.errstate(all="ignore"):
        center = np.where(estimable, fit.family.link.link(average.mean), np.nan)
        se = np.sqrt(moved.variance(J)) / np.abs(fit.family.link.d_inverse(center))
    wide = t_quantile(0.5 + 0.5 * means.question.level, df) * se
    low, high, scale = center - wide, center + wide, means.used_scale
    if scale is not None:
        center = scale.back(center)[0]
        low, high = scale.limits(low, high)
    return pd.DataFrame({"estimate": center, "conf_low": low, "conf_high": high})


def _rows(means: MarginalMeans, grid: Grid, name: str, by: list[str]) -> pd.DataFrame:
    """Return series, x, y and weight of the fit's rows; y at the offset of the means.

    Rows of another level than those shown are left out; a value of a covariate in ``by`` stands
    for the values that are next to it. A response has no place on the scale of a link.
    """
    fit = means.fit
    columns = variables_of(fit, fit.frame.fixed_terms.variables)
    place, kept = np.zeros(fit.frame.n, dtype=int), np.ones(fit.frame.n, dtype=bool)
    keys, own = means.labels[by].drop_duplicates(), grid.predictors
    codes = {}
    for other in by:
        codes[other] = _codes_of(own[other], columns[other])
        kept &= codes[other] >= 0
    place = np.full(fit.frame.n, -1 if by else 0)
    for s, key in enumerate(keys.itertuples(index=False) if by else ()):
        match = kept.copy()
        for other, value in zip(by, key, strict=True):
            match &= codes[other] == list(own[other].levels).index(value)
        place[match] = s
    found = own[name]
    x = _numbers(columns[name]) if found.codes is None else found.codes.astype(float)
    kept = (place >= 0) & np.isfinite(x) & ((found.codes is None) | (x >= 0))
    weight = np.ones(len(x)) if fit.weights is None else fit.weights
    made = pd.DataFrame({"series": place, "x": x, "y": _responses(means, grid), "weight": weight})
    return made[kept & (weight > 0)].reset_index(drop=True)


def _codes_of(predictor: Predictor, column: Any) -> np.ndarray:
    """Return the value (n,) that each row belongs to, -1 for none."""
    if predictor.codes is not None:
        return predictor.codes
    values = (
        times(predictor.levels, predictor.name).as_float()
        if isinstance(predictor.levels[0], pd.Timestamp)
        else np.array(predictor.levels, dtype=float)
    )
    gap = np.abs(_numbers(column)[:, None] - values)
    return np.where(np.isnan(gap[:, 0]), -1, np.nan_to_num(gap).argmin(axis=1))


def _numbers(column: Any) -> np.ndarray:
    return column.as_float() if isinstance(column, Exact) else np.asarray(column, dtype=float)


def _responses(means: MarginalMeans, grid: Grid) -> np.ndarray:
    """Return the responses (n,) on the scale of the means, as they were at the grid's offset."""
    fit, offset = means.fit, means.fit.frame.offset
    link, y = fit.family.link, fit.y
    with np.errstate(all="ignore"):
        if offset is not None:
            y = np.asarray(link.inverse(link.link(y) + grid.offset[0] - offset))
        if means.used_scale is None:
            is_mean = fit.is_linear or means.scale is None
            return y if is_mean else np.full(len(y), np.nan)
        return means.used_scale.back(y)[0] if fit.is_linear else y
