"""Effect sizes: differences of means in units of a standard deviation (Cohen's d)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.marginal.linear_functions import LinearFunctions
from mixef.inference.marginal.printed_means import level_text, number_cells
from mixef.inference.marginal.scales import averaged_variance
from mixef.inference.over_rows import row_mean
from mixef.inference.prediction.prediction_variance import linear_rule, random_variance_slopes
from mixef.inference.tails import t_quantile
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class EffectSizes(PrintedFrame):
    """Differences of means over a standard deviation."""

    frame: pd.DataFrame
    lines: tuple[str, ...]  # below the table

    def to_table(self) -> Table:
        """Return the table that is printed."""
        heads = {"estimate": "effect.size", "std_error": "SE", "conf_low": "lower.CL",
                 "conf_high": "upper.CL"}  # fmt: skip
        numbers = ["estimate", "std_error", "df", "conf_low", "conf_high"]
        columns = [
            number_cells(self.frame[name]) if name in numbers
            else [level_text(x) for x in self.frame[name]]
            for name in self.frame
        ]  # fmt: skip
        align = "".join("r" if name in numbers else "l" for name in self.frame)
        names = [heads.get(str(name), str(name)) for name in self.frame]
        rows = list(zip(*columns, strict=True))
        return Table(names, rows, None, align, note="\n".join(["", *self.lines]))


def effect_sizes(
    means: LinearFunctions, contrasts: LinearFunctions, sigma: Any, edf: Any, level: Any
) -> EffectSizes:
    """Return effect sizes of contrasts of means; see their method ``eff_size``.

    With d the difference over sigma, the variance of d is ``(SE / sigma)^2 + d^2 / (2 edf)`` by the
    delta method, where sigma^2 has edf degrees of freedom.
    """
    fit = means.fit
    level = means.question.level if level is None else checks.level(level)
    if sigma is None:
        if not fit.is_linear:
            raise ArgumentError(
                "sigma is None, but a generalized model has no standard deviation that differences "
                "of linear predictors are in units of; give sigma= and its degrees of freedom edf="
            )
        sd, own = total_sd(fit)
    else:
        sd = checks.number(sigma, "sigma", np.nextafter(0.0, 1.0), "a positive number")
        own = np.inf
    infinite = isinstance(edf, float) and np.isposinf(edf)
    if edf is not None and not infinite:
        own = checks.number(edf, "edf", np.nextafter(0.0, 1.0), "a positive number")
    elif infinite:
        own = np.inf
    frame = contrasts.frame.drop(columns=["statistic", "p_value"])
    d = frame["estimate"] / sd
    se = np.sqrt((frame["std_error"] / sd) ** 2 + d**2 / (2.0 * own))
    half = t_quantile(0.5 + 0.5 * level, frame["df"].to_numpy()) * se
    frame = frame.assign(estimate=d, std_error=se, conf_low=d - half, conf_high=d + half)
    known = f", with {own:.4g} degrees of freedom" if np.isfinite(own) else ", taken as known"
    lines = [note for note in means.notes if not note.startswith("NOTE: Results may")]
    lines += [f"sigma used for effect sizes: {sd:.4g}{known}"]
    lines += [means.ddf_note] if means.ddf_note else []
    return EffectSizes(frame, (*lines, f"Confidence level used: {level:g}"))


def total_sd(fit: Fit) -> tuple[float, float]:
    """Return the standard deviation of a response about its population mean, and its df.

    The variance is that of all random effects, averaged over the rows, and of the residual;
    Satterthwaite's degrees of freedom are ``2 v^2 / Var(v)``, by the delta method.
    """
    rule, sigma2 = linear_rule(fit), fit.estimates.sigma**2

    def of_rows(rows: Fit) -> np.ndarray:
        z = {t: term.z for t, term in enumerate(rows.terms)}
        return random_variance_slopes(fit, z, rows.frame.n)

    slope = row_mean(fit, of_rows)
    slope[-1] += 2.0 * sigma2
    v = averaged_variance(fit)
    spread = float(slope @ rule.covariance @ slope)
    return float(np.sqrt(v)), 2.0 * v**2 / spread if spread > 0 else np.inf
