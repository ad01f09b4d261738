"""Likelihood profiles as they print."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from mixef import checks
from mixef.inference.intervals.profile import USUAL, Curves, limits, normal_quantile
from mixef.text.numbers import format_common
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class Profile(PrintedTable, Curves):
    """Likelihood profiles of a fit's parameters, as the method ``profile`` returns them.

    Attributes
    ----------
    curves : tuple of Curve
    names : tuple of str
        Of all parameters, as in `to_frame`.
    kinds : tuple of str
    estimates : ndarray (K,)
        Of all parameters; by maximum likelihood.
    cutoff : float
        The absolute zeta that the curves come to.
    note : str
        What differs from the fit.
    scale : {"natural", "log", "variance"}
        How standard deviations and sigma are given.
    """

    @classmethod
    def of(cls, curves: Curves) -> Profile:
        """Return profiles that print."""
        return cls(**{field.name: getattr(curves, field.name) for field in fields(curves)})

    def to_table(self, digits: int = 5) -> Table:
        """Return estimates and intervals as a table: 95 %, or as far as the profile goes."""
        digits = checks.digits(digits)
        z = normal_quantile(USUAL)
        level = USUAL if z <= self.cutoff else self.level
        intervals = self.confint(level)
        middle = [self.value(curve.name, 0.0) for curve in self.curves]
        cells = np.column_stack([np.array(middle, dtype=float), intervals.to_numpy()])
        rows = [
            [cell.strip() for cell in format_common([round(x, 12) for x in row], digits)]
            for row in cells.tolist()
        ]
        title = "Likelihood profile" + (f" {self.note}" if self.note else "")
        return Table(("Estimate", *limits(level)), rows, index=list(intervals.index), title=title)
