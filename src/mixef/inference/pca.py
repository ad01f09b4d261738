"""Principal components of the random-effects covariances."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.linalg import block_diag

from mixef.estimation.fit import Fit
from mixef.text.numbers import format_fixed
from mixef.text.printed import Printed, PrintedTable
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class PrincipalComponents(PrintedTable):
    """Principal components of one grouping factor's relative covariance.

    Attributes
    ----------
    sdev : ndarray (s,)
        Relative standard deviations of the components, decreasing; zero for a direction that
        the model has but the data do not show.
    rotation : DataFrame (s, s)
        Each component's coefficients.
    """

    sdev: np.ndarray
    rotation: pd.DataFrame

    @property
    def importance(self) -> pd.DataFrame:
        """Standard deviations and (cumulative) shares of the variance."""
        variance = self.sdev**2
        total = variance.sum()
        share = variance / total if total > 0 else variance
        rows = {
            "Standard deviation": self.sdev,
            "Proportion of Variance": share,
            "Cumulative Proportion": np.cumsum(share),
        }
        names = [f"PC{i + 1}" for i in range(len(share))]
        return pd.DataFrame.from_dict(rows, orient="index", columns=names)

    def to_table(self) -> Table:
        """Return the printed table: `importance`."""
        rows = [format_fixed(row, 4) for row in self.importance.to_numpy()]
        return Table(list(self.importance.columns), rows, list(self.importance.index))


class ComponentsByGroup(Printed, dict[str, PrincipalComponents]):
    """Principal components by grouping factor."""

    def tables(self) -> list[Table]:
        """Return one table a grouping factor, with its name above."""
        return [replace(part.to_table(), title=group) for group, part in self.items()]


def principal_components(fit: Fit) -> ComponentsByGroup:
    """Return the principal components of ``lam lam'``, one a grouping factor."""
    out = ComponentsByGroup()
    for group, members in fit.groups.items():
        lam = block_diag(*[fit.estimates.lams[t] for t in members])
        names = [name for t in members for name in fit.terms[t].columns]
        left, sdev, _ = np.linalg.svd(lam)
        components = [f"PC{i + 1}" for i in range(len(sdev))]
        out[group] = PrincipalComponents(sdev, pd.DataFrame(left, index=names, columns=components))
    return out
