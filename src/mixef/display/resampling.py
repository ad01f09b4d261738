"""Parametric bootstrap tests and power as they print."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from mixef import checks
from mixef.display.bootstrap import counts_note
from mixef.inference.resampling.parametric_bootstrap import PBTestResult
from mixef.inference.resampling.power import PowerResult
from mixef.text.numbers import format_common, format_fixed, format_pvalue, significance_stars
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

METHOD_NAMES = {
    "t": "t or F test with Satterthwaite's method",
    "z": "z or chi-square test (Wald)",
    "lrt": "likelihood-ratio test",
}


@dataclass(frozen=True, eq=False, repr=False)
class PBTest(PrintedTable, PBTestResult):
    """A parametric bootstrap likelihood-ratio test, as `pb_test` returns it.

    Attributes
    ----------
    frame : DataFrame
        Rows LRT, PBtest, Bartlett, Gamma and F; columns stat, df, ddf, p_value.
    reference : ndarray (n,)
        Simulated statistics; NaN for those that failed.
    failures : Series
        How many failed, by message.
    n_unconverged : int
        Replicates of which a search did not end at an optimum.
    large, small : str
        Formulas.
    notes : tuple of str
    """

    @classmethod
    def of(cls, result: PBTestResult) -> PBTest:
        """Return a result that prints."""
        return cls(**{field.name: getattr(result, field.name) for field in fields(result)})

    def to_table(self, digits: int = 4) -> Table:
        """Return the tests as a table of text."""
        digits = checks.digits(digits)
        p = self.frame["p_value"].to_numpy()
        columns = [_some(self.frame[name].to_numpy(), digits) for name in ("stat", "df", "ddf")]
        cells = [*columns, format_pvalue(p, 3), significance_stars(p)]
        used = self.n - self.n_failed
        lines = [f"{used} replicates, {self.extreme} with a statistic as large or larger"]
        note = counts_note(self.n, 0, self.n_unconverged, self.failures)
        lines += [*([note] if note else []), *self.notes]
        return Table(
            ("stat", "df", "ddf", "Pr(>stat)", ""),
            list(zip(*cells, strict=True)),
            index=list(self.frame.index),
            align="rrrrl",
            title=(
                "Parametric bootstrap likelihood-ratio test\n"
                f"large: {self.large}\nsmall: {self.small}"
            ),
            note="\n".join(lines),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Power(PrintedTable, PowerResult):
    """Power over sizes of the sample, as `power` returns it.

    Attributes
    ----------
    frame : DataFrame
        One row a size: levels of grouping factors and rows within them as asked for, nobs,
        power, lower and upper limits (exact binomial, 95 %), n (replicates that count), failures.
    test : str
        The hypothesis.
    method : {"t", "z", "lrt"}
    alpha : float
    failures : Series
        How many replicates of all sizes failed, by message.
    """

    @classmethod
    def of(cls, result: PowerResult) -> Power:
        """Return a result that prints."""
        return cls(**{field.name: getattr(result, field.name) for field in fields(result)})

    def to_table(self) -> Table:
        """Return power and sizes as a table of text."""
        names = [str(name) for name in self.frame.columns]
        cells = [
            format_fixed(column, 3) if name in ("power", "lower", "upper") else
            [str(int(value)) for value in column]
            for name, column in ((name, self.frame[name].to_numpy()) for name in names)
        ]  # fmt: skip
        drawn = int(self.frame[["n", "failures"]].to_numpy().sum())
        return Table(
            names,
            list(zip(*cells, strict=True)),
            title=(
                f"Power of the {METHOD_NAMES[self.method]} for {self.test}, alpha = {self.alpha:g}"
            ),
            note=counts_note(drawn, 0, 0, self.failures) or None,
        )


def _some(values: np.ndarray, digits: int) -> list[str]:
    """Return numbers as text, and nothing for what is missing."""
    known = iter(format_common(values[~np.isnan(values)], digits + 1))
    return ["" if np.isnan(value) else next(known) for value in values]
