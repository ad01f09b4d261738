"""Linear functions of the fixed effects, with what is asked of them: limits and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import (
    NAMES,
    REFITTED,
    approximation,
    check_ddf,
    is_refitted,
    method_name,
    t_tests,
)
from mixef.inference.marginal.adjustments import Family, check_adjust, of_limits
from mixef.inference.marginal.estimability import estimable
from mixef.inference.marginal.joint import JointTests, joint_test
from mixef.inference.marginal.printed_means import one_table, tables
from mixef.inference.marginal.questions import BOTH, LIMITS, TESTS, Question, check_side
from mixef.inference.marginal.scales import Scale
from mixef.late import picture
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table

MEAN, CONTRAST = "emmean", "contrast"


@dataclass(frozen=True, eq=False, repr=False)
class LinearFunctions(PrintedFrame):
    """Linear functions of the fixed effects, each with a label: means, contrasts or slopes."""

    fit: Fit
    labels: pd.DataFrame  # (m, k): what each estimate is for, as the data hold it
    by: tuple[str, ...]  # the labels that tell groups apart, each a family of tests of its own
    L: np.ndarray  # (m, P): for all columns of the design
    offset: np.ndarray  # (m,): what is added to ``L beta``
    kind: str = MEAN  # the name of the estimates in print
    scale: Scale | None = None  # of the response, where that is another one
    on_response: bool = False  # whether estimates are shown on the scale of the response
    #: (m,): how many means a row is one of all pairs of; None for other sets
    pairs_of: np.ndarray | None = None
    question: Question = field(default_factory=Question)
    ddf: str | None = "auto"
    notes: tuple[str, ...] = ()  # lines below the table

    # ------------------------------------------------------------------ numbers

    @property
    def names(self) -> list[str]:
        """The columns of labels that are not of groups."""
        return [name for name in self.labels.columns if name not in self.by]

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """The rows of each group."""
        if not self.by:
            return [np.arange(len(self.labels))]
        made = self.labels.groupby(list(self.by), sort=False, observed=True).indices
        return sorted((np.asarray(rows) for rows in made.values()), key=lambda rows: rows[0])

    @cached_property
    def _estimated(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Estimates, standard errors and df (m,) on the linear scale; NaN where not estimable."""
        out = np.full((3, len(self.L)), np.nan)
        known = self.is_estimable
        if known.any():
            tests = t_tests(self.fit, self.L[known][:, self.fit.kept], None, self.ddf)
            out[:, known] = tests.estimate + self.offset[known], tests.std_error, tests.df
        return out[0], out[1], out[2]

    @cached_property
    def is_estimable(self) -> np.ndarray:
        """Which estimates (m,) the design says anything about."""
        return estimable(self.fit, self.L)

    def vcov(self) -> np.ndarray:
        """Return the covariance (m, m) of the estimates on the linear scale."""
        L = np.where(self.is_estimable[:, None], self.L, np.nan)[:, self.fit.kept]
        return L @ approximation(self.fit, self.ddf).vcov @ L.T

    @property
    def used_scale(self) -> Scale | None:
        """The scale that estimates are transformed back to; None where they are not."""
        return self.scale if self.on_response else None

    @cached_property
    def _families(self) -> list[Family]:
        """The families of tests, one a group."""
        estimate, se, df = self._estimated
        q = self.question
        gap = estimate - q.null
        with np.errstate(divide="ignore", invalid="ignore"):
            if q.delta and q.side == 0:
                t = (np.abs(gap) - q.delta) / se
            else:
                t = (gap + q.side * q.delta) / se
        L = np.where(self.is_estimable[:, None], self.L, np.nan)[:, self.fit.kept]
        V, out = approximation(self.fit, self.ddf).vcov, []
        for rows in self.groups:
            k = None if self.pairs_of is None else int(self.pairs_of[rows[0]])
            out.append(Family(t[rows], df[rows], L[rows], V, k, q.tail))
        return out

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The numbers."""
        estimate, se, df = self._estimated
        low, high = self._limits()
        shown, spread, scale = estimate, se, self.used_scale
        if scale is not None:
            shown, slope = scale.back(estimate)
            spread = np.abs(slope) * se
            low, high = scale.limits(low, high)
        columns: dict[str, Any] = {name: self.labels[name].to_numpy() for name in self.labels}
        columns |= {"estimate": shown, "std_error": spread, "df": df}
        columns |= {"conf_low": low, "conf_high": high}
        if self.question.shows != LIMITS:
            columns |= {"statistic": self._gathered([f.t for f in self._families])}
            columns |= {"p_value": self._gathered(self._p_values())}
        return pd.DataFrame(columns)

    def _p_values(self) -> list[np.ndarray]:
        return [f.p_values(f.rule(self.question.adjust)[0]) for f in self._families]

    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the confidence limits (m,), (m,) on the linear scale."""
        estimate, se, _ = self._estimated
        q, sided = self.question, []
        for family in self._families:
            one = family if family.side == q.side else replace(family, side=q.side)
            sided.append(one.critical(of_limits(one.rule(q.adjust)[0]), q.level))
        half = self._gathered(sided) * se
        low = np.where(np.isnan(estimate), np.nan, -np.inf) if q.side < 0 else estimate - half
        high = np.where(np.isnan(estimate), np.nan, np.inf) if q.side > 0 else estimate + half
        return low, high

    def _gathered(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return values by row (m,) of values by group."""
        out = np.full(len(self.labels), np.nan)
        for rows, part in zip(self.groups, parts, strict=True):
            out[rows] = part
        return out

    # ------------------------------------------------------------------ questions

    def test(
        self,
        null: float = 0.0,
        delta: float = 0.0,
        side: str | int = "two-sided",
        adjust: str | None = None,
        joint: bool = False,
    ) -> Self | JointTests:
        """Test the estimates, on the linear scale.

        Parameters
        ----------
        null : float
            The value that is tested; on the scale of the link, also where means are shown on that
            of the response.
        delta : float
            A margin. With it a small p value says that the estimate is within ``delta`` of ``null``
            (two-sided: equivalence), that it is not below ``null - delta`` (">":
            non-inferiority), or not above ``null + delta`` ("<": non-superiority).
        side : {"two-sided", "<", ">"}
            Also "equivalence", "nonsup" and "noninf".
        adjust : str, optional
            As in `contrast`; what the estimates have by default.
        joint : bool
            One F test that all estimates of a group are ``null``.
        """
        null = checks.number(null, "null")
        delta = checks.number(delta, "delta", 0.0, "a number that is not negative")
        if checks.flag(joint, "joint"):
            return joint_test(self, null)
        adjust = self.question.adjust if adjust is None else check_adjust(adjust)
        asked = replace(
            self.question, null=null, delta=delta, side=check_side(side), adjust=adjust, shows=TESTS
        )
        return replace(self, question=asked)

    def confint(
        self, level: float | None = None, adjust: str | None = None, side: str | int = "two-sided"
    ) -> Self:
        """Return the estimates with other confidence limits.

        Parameters
        ----------
        level : float, optional
        adjust : str, optional
            As in `contrast`: limits that hold for all estimates of a group at once. Rules that go
            by steps ("holm", "fdr" ...) have Bonferroni's.
        side : {"two-sided", "<", ">"}
            "<" has upper limits alone, ">" lower ones.
        """
        q = self.question
        level = q.level if level is None else checks.level(level)
        adjust = q.adjust if adjust is None else check_adjust(adjust)
        asked = replace(
            q, level=level, adjust=adjust, side=check_side(side), delta=0.0, shows=LIMITS
        )
        return replace(self, question=asked)

    def summary(self) -> Self:
        """Return the estimates with limits and tests both."""
        return replace(self, question=replace(self.question, shows=BOTH))

    def plot(self, ax: Any = None) -> Any:
        """Draw the estimates with their limits, a panel a group.

        Contrasts and slopes stand beside a line at zero, ratios beside one at 1 on a scale of
        logarithms.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw one group; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            A Figure where there are several groups.

        Raises
        ------
        ArgumentError
            For ``ax`` beside several groups.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("angle ~ recipe + temp + (1 | recipe:replicate)", load_dataset("cake"))
        >>> ax = fit.emmeans("recipe").plot()
        >>> ax.get_xlabel(), [text.get_text() for text in ax.get_yticklabels()]
        ('angle (degrees)', ['A', 'B', 'C'])
        >>> fit.emmeans("recipe").pairs().plot().get_xlabel()
        'Difference: angle (degrees)'
        """
        return picture("intervals.means")(self, ax)

    # ------------------------------------------------------------------ printing

    @property
    def ddf_note(self) -> str | None:
        """The line on degrees of freedom."""
        fit, rule = self.fit, check_ddf(self.fit, self.ddf)
        if fit.beta_covariance is not None:
            return f"Tests and limits: {method_name(fit, self.ddf)}"
        if rule is None:
            return "Degrees-of-freedom method: asymptotic" if fit.is_linear else None
        refitted = f" {REFITTED}" if is_refitted(self.fit, self.ddf) else ""
        return f"Degrees-of-freedom method: {NAMES[rule].lower()}{refitted}"

    def to_table(self) -> Table:
        """Return all estimates as one table."""
        return one_table(self)

    def tables(self) -> Sequence[Table]:
        """Return one table a group, with the notes below the last."""
        return tables(self)
