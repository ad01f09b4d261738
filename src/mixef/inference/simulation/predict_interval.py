"""Predictions with intervals from draws of fixed effects, random effects and residuals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.families.link import UserLink
from mixef.inference.prediction.predict import NEW_LEVELS, SCALES
from mixef.inference.prediction.prediction_rows import PredictionRows, prediction_rows
from mixef.inference.prediction.prediction_variance import new_columns, random_variance
from mixef.inference.simulation.joint_draws import EffectDraws, joint_draws
from mixef.inference.simulation.new_parameters import fitted_values_of
from mixef.inference.simulation.sampler import responses_at

PARTS = ("full", "fixed", "random", "all")
STATISTICS: dict[str, Callable[..., np.ndarray]] = {"median": np.median, "mean": np.mean}
# Numbers that are held at a time.
CELLS = 4_000_000


def predict_interval(
    fit: Fit,
    newdata: Any = None,
    which: str = "full",
    level: float = 0.95,
    n: int = 1000,
    stat: str = "median",
    type: str = "response",
    include_residual: bool = True,
    new_levels: str = "error",
    seed: int | np.random.Generator | None = None,
    env: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Return predictions with simulated intervals; see the method of a model."""
    which, type = checks.option(which, "which", PARTS), checks.option(type, "type", SCALES)
    level, rng = checks.level(level), checks.generator(seed)
    statistic = STATISTICS[checks.option(stat, "stat", STATISTICS)]
    include_residual = checks.flag(include_residual, "include_residual")
    new_levels = checks.option(new_levels, "new_levels", NEW_LEVELS)
    if type == "link" and not fit.is_linear and include_residual and which in ("full", "all"):
        raise ArgumentError(
            "include_residual=True is for a new response, which is not on the scale of the link; "
            "use type='response', or include_residual=False for the linear predictor"
        )
    rows = prediction_rows(fit, newdata, None, new_levels, env)
    q = sum(term.n_effects for term in fit.terms)
    n = checks.count(n, each=3 * q + 3 * len(rows.X))
    draws, tails = joint_draws(fit, n, rng), (0.5 - 0.5 * level, 0.5 + 0.5 * level)
    wanted: list[Any] = [which] if which != "all" else ["full", "fixed", *map(_Group, fit.groups)]
    weights = rows.weights(fit) if include_residual and "full" in wanted else None
    found: dict[Any, list[np.ndarray]] = {name: [] for name in wanted}
    for piece, parts in _pieces(fit, rows, draws, rng):
        if "full" in found:
            full = parts["fixed"] + parts["random"]
            if type == "response" or include_residual:
                w = None if weights is None else weights[piece]
                full = _responses(fit, full, w, include_residual, rng)
            parts["full"] = full
        for name in wanted:
            values = parts[name]
            # Values that were drawn, so that ends for counts are counts.
            ends = np.quantile(values, tails, axis=1, method="inverted_cdf")
            found[name].append(np.array([statistic(values, axis=1), *ends]))
    frames = [_frame(fit, rows, np.concatenate(found[name], axis=1)) for name in wanted]
    if which != "all":
        return frames[0]
    for name, frame in zip(wanted, frames, strict=True):
        frame.insert(0, "effect", getattr(name, "name", name))
    return pd.concat(frames)


@dataclass(frozen=True)
class _Group:
    """The part of a grouping factor, whatever its name."""

    name: str


def _pieces(
    fit: Fit, rows: PredictionRows, draws: EffectDraws, rng: np.random.Generator
) -> Iterator[tuple[slice, dict[Any, np.ndarray]]]:
    """Yield some rows at a time with draws (r, n) of their parts of the linear predictor."""
    m, n = len(rows.X), draws.beta.shape[1]
    # A user's link may know its rows, and is not given a part of them.
    size = m if isinstance(fit.family.link, UserLink) else max(1, CELLS // n)
    new = new_columns(fit, rows, left_out=False)
    for start in range(0, m, size):
        piece = slice(start, min(start + size, m))
        fixed = rows.X[piece] @ draws.beta
        if rows.offset is not None:
            fixed += rows.offset[piece, None]
        parts: dict[Any, np.ndarray] = {"fixed": fixed, "random": np.zeros_like(fixed)}
        for group, members in fit.groups.items():
            drawn = [_term(fit, rows, t, draws.effects[t], new[t], piece, rng) for t in members]
            parts[_Group(group)] = sum(drawn[1:], drawn[0])
            parts["random"] = parts["random"] + parts[_Group(group)]
        yield piece, parts


def _term(
    fit: Fit,
    rows: PredictionRows,
    t: int,
    effects: np.ndarray,
    new: np.ndarray,
    piece: slice,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return draws (r, n) of what one term adds; new levels are drawn from the covariance."""
    term = rows.terms[t]
    codes, z, n = term.codes[piece], term.z[piece], effects.shape[2]
    known = (codes >= 0)[:, None]
    out = np.zeros((len(codes), n))
    for j in range(z.shape[1]):
        out += np.where(known[:, 0], z[:, j], 0.0)[:, None] * effects[np.maximum(codes, 0), j]
    if not known.all():
        sd = np.sqrt(random_variance(fit, {t: new[piece]}, len(codes)))
        out += sd[:, None] * rng.standard_normal(out.shape)
    out[term.missing[piece]] = np.nan
    return out


def _responses(
    fit: Fit,
    eta: np.ndarray,
    weights: np.ndarray | None,
    include_residual: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return means of linear predictors (r, n), or responses with these means."""
    if not include_residual:
        return np.asarray(fit.family.link.inverse(eta))
    if weights is not None and not (weights > 0).all():  # no response has such a weight
        eta = np.where((weights > 0)[:, None], eta, np.nan)
        weights = np.where(weights > 0, weights, 1.0)
    return responses_at(fit.family, eta, weights, fitted_values_of(fit).extra, rng)


def _frame(fit: Fit, rows: PredictionRows, values: np.ndarray) -> pd.DataFrame:
    """Return a frame of fit, lower and upper (3, m)."""
    columns = ["fit", "lower", "upper"]
    if rows.columns is None:
        return pd.DataFrame(fit.frame.pad(values.T), index=fit.frame.padded_index, columns=columns)
    return pd.DataFrame(values.T, index=rows.index, columns=columns)
