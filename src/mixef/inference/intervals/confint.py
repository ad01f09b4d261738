"""Confidence intervals of all parameters, by profile, curvature or bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import refuse_chosen
from mixef.inference.intervals.named import chosen, named_parameters
from mixef.inference.intervals.profile import interval_curves
from mixef.inference.intervals.wald import wald_limits
from mixef.inference.resampling.bootstrap import boot_intervals
from mixef.inference.resampling.bootstrap_result import LIMITS
from mixef.inference.tails import limit_names

METHODS = ("profile", "wald", "boot")


def confidence_intervals(
    fit: Fit,
    parm: Any = None,
    level: float = 0.95,
    method: str = "profile",
    *,
    n: int = 500,
    seed: int | np.random.Generator | None = None,
    boot_type: str = "perc",
    signames: bool = False,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Return confidence limits (k, 2), one row a parameter; see the method ``confint``."""
    method, signames = checks.option(method, "method", METHODS), checks.flag(signames, "signames")
    n_jobs, progress = checks.work(n_jobs, progress)
    n, rng, level = checks.whole(n, "n"), checks.generator(seed), checks.level(level)
    boot_type = checks.option(boot_type, "boot_type", LIMITS)
    places, known = chosen(fit, parm, signames), named_parameters(fit)
    names = [known[a].sign if signames else known[a].name for a in places]
    if method != "wald" and any(known[a].kind == "beta" for a in places):
        what = f"intervals of coefficients with method={method!r} are"
        refuse_chosen(fit, what, "use method='wald', or ")
    if method == "profile":
        return interval_curves(fit, parm, level, n_jobs, progress, signames).confint(level)
    if method == "wald":
        limits = wald_limits(fit, places, level)
        return pd.DataFrame(limits, index=names, columns=limit_names(level))
    limited = boot_intervals(fit, level, n, rng, boot_type, n_jobs, progress)
    return limited.iloc[places].set_axis(names, axis=0)
