"""Power of a test, by simulation, over sizes of the sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import FitError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import refuse_chosen
from mixef.inference.refits.many import check_processes
from mixef.inference.resampling.bootstrap_result import counts_note
from mixef.inference.resampling.power_design import (
    Scenario,
    Size,
    generating_values,
    refuse_too_large,
    scenario,
    size_grid,
)
from mixef.inference.resampling.power_tests import METHODS, power_test
from mixef.late import picture
from mixef.text.numbers import format_fixed
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class Power(PrintedFrame):
    """Power over sizes of the sample.

    Attributes
    ----------
    frame : DataFrame
        One row a size: levels of grouping factors and rows within them as asked for, nobs,
        power, conf_low and conf_high (exact binomial, 95 %), n (replicates that count), failures.
    test : str
        What is tested.
    method : {"t", "kenward-roger", "z", "lrt", "pb", "exact", "function"}
    alpha : float
    failures : Series
        How many replicates of all sizes failed, by message.
    """

    frame: pd.DataFrame
    test: str
    method: str
    alpha: float
    failures: pd.Series

    def plot(self, ax: Any = None) -> Any:
        """Draw power against the first size that varies, with limits; a line at 0.8.

        Other sizes that vary have a series each.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Examples
        --------
        >>> from mixef import lmer, load_dataset, power
        >>> fit = lmer("Reaction ~ Days + (1 | Subject)", load_dataset("sleepstudy"))
        >>> ax = power(fit, "Days", sizes={"Subject": [4, 8]}, n=10, seed=1).plot()
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('Subject (number)', 'Power for Days = 0 (alpha = 0.05)')
        """
        return picture("resampling.power")(self, ax)

    def to_table(self) -> Table:
        """Return power and sizes as a table of text."""
        names = [str(name) for name in self.frame.columns]
        cells = [
            format_fixed(column, 3) if name in ("power", "conf_low", "conf_high") else
            [str(int(value)) for value in column]
            for name, column in ((name, self.frame[name].to_numpy()) for name in names)
        ]  # fmt: skip
        drawn = int(self.frame[["n", "failures"]].to_numpy().sum())
        heads = {"conf_low": "lower", "conf_high": "upper"}
        return Table(
            [heads.get(name, name) for name in names],
            list(zip(*cells, strict=True)),
            title=(f"Power of the {METHODS[self.method]} for {self.test}, alpha = {self.alpha:g}"),
            note=counts_note(drawn, 0, 0, self.failures) or None,
        )


def power(
    fit: Fit,
    test: Any,
    *,
    sizes: Mapping[str, Any] | None = None,
    within: Mapping[str, Any] | None = None,
    along: Mapping[str, Any] | None = None,
    n: int = 1000,
    alpha: float = 0.05,
    method: str | None = None,
    n_boot: int = 200,
    new_params: Mapping[str, Any] | None = None,
    seed: int | np.random.Generator | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> Power:
    """Simulate the power of a test; see the function of the package."""
    refuse_chosen(fit, "power simulates tests that are")
    n, rng, alpha = checks.count(n), checks.generator(seed), checks.proportion(alpha, "alpha")
    n_jobs, progress = checks.work(n_jobs, progress)
    check_processes(fit, n_jobs)
    fit, tested = power_test(fit, test, method, checks.whole(n_boot, "n_boot"))
    values = generating_values(fit, new_params)
    grid = size_grid(fit, sizes, within, along)
    for place in grid:
        refuse_too_large(fit, place, n)
    records, messages = [], Counter[str]()
    for seeded, place in zip(rng.integers(2**63, size=len(grid)), grid, strict=True):
        own = np.random.default_rng(seeded)
        at = scenario(fit, place, values, own)
        Y = at.draw(n, own)
        p_values, failed = tested.p_values(at, Y, own, n_jobs, progress)
        messages += failed
        records.append(_record(place, at, p_values <= alpha, ~np.isnan(p_values)))
    failures = pd.Series(dict(messages.most_common()), dtype=int, name="failures")
    table = pd.DataFrame(records)
    if not table["n"].all():
        raise FitError(f"all {n} replicates of a size failed, most by: {failures.index[0]}")
    return Power(table, tested.text, tested.method, alpha, failures)


def binomial_limits(hits: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % limits of a proportion.

    C. J. Clopper and E. S. Pearson (1934), The use of confidence or fiducial limits illustrated
    in the case of the binomial, Biometrika 26, 404-413.
    """
    tail = 0.025
    inverse = scipy.special.betaincinv
    lower = float(inverse(hits, n - hits + 1, tail)) if hits else 0.0
    upper = float(inverse(hits + 1, n - hits, 1.0 - tail)) if hits < n else 1.0
    return lower, upper


def _record(place: tuple[Size, ...], at: Scenario, hit: np.ndarray, counted: np.ndarray) -> dict:
    hits, n = int(hit.sum()), int(counted.sum())
    lower, upper = binomial_limits(hits, n) if n else (np.nan, np.nan)
    sizes = {size.label: size.count for size in place}
    return sizes | {
        "nobs": at.fit.frame.n,
        "power": hits / n if n else np.nan,
        "conf_low": lower,
        "conf_high": upper,
        "n": n,
        "failures": len(hit) - n,
    }
