"""Marginal means, and what is made of them: contrasts, letters, effect sizes, joint tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError
from mixef.inference.hypotheses.ddf import approximation
from mixef.inference.marginal.adjustments import check_adjust
from mixef.inference.marginal.coefficients import check_method, default_adjustment
from mixef.inference.marginal.contrasts import contrasted, interaction_contrasts
from mixef.inference.marginal.effect_sizes import EffectSizes, effect_sizes
from mixef.inference.marginal.joint import JointTests, term_tests
from mixef.inference.marginal.letters import SIGNS, LetterDisplay, letter_display
from mixef.inference.marginal.linear_functions import LinearFunctions
from mixef.inference.marginal.questions import TESTS, Question
from mixef.text.printed import Printed
from mixef.text.tables import Table

TYPES = ("link", "response")
TYPE_SPELLINGS = {
    "lp": "link", "linear": "link", "linear.predictor": "link", "mu": "response",
    "unlink": "response",
}  # fmt: skip


def check_type(value: Any) -> bool:
    """Return whether a type is that of the response."""
    return bool(checks.option(value, "type", TYPES, TYPE_SPELLINGS) == "response")


@dataclass(frozen=True, eq=False, repr=False)
class MarginalMeans(LinearFunctions):
    """Means on a grid, their contrasts, or slopes.

    They print as in R's emmeans. ``to_frame()`` has a row an estimate: the levels that it is for,
    ``estimate``, ``std_error``, ``df`` (infinite for z tests), ``conf_low`` and ``conf_high``, and
    ``statistic`` and ``p_value`` where tests are asked for.
    """

    def pairs(
        self,
        adjust: str = "tukey",
        by: Any = None,
        *,
        reverse: bool = False,
        simple: Any = None,
        type: str | None = None,
    ) -> Any:
        """Compare all pairs of means; see `contrast`.

        Parameters
        ----------
        adjust : str
        by, simple, type
            As in `contrast`.
        reverse : bool
            Later means less earlier ones.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("angle ~ recipe + temp + (1 | recipe:replicate)", load_dataset("cake"))
        >>> print(fit.emmeans("recipe").pairs())
        contrast estimate   SE df t.ratio p.value
        A - B      1.4778 2.46 42   0.602  0.8200
        A - C      1.5222 2.46 42   0.620  0.8102
        B - C      0.0444 2.46 42   0.018  0.9998
        <BLANKLINE>
        Degrees-of-freedom method: satterthwaite
        P value adjustment: tukey method for comparing a family of 3 estimates
        """
        method = "revpairwise" if checks.flag(reverse, "reverse") else "pairwise"
        return self.contrast(method, adjust, by, simple=simple, type=type)

    def contrast(
        self,
        method: Any = "eff",
        adjust: str | None = None,
        by: Any = None,
        *,
        interaction: Any = None,
        simple: Any = None,
        ref: Any = None,
        type: str | None = None,
    ) -> Any:
        """Return contrasts of the estimates, inside of groups.

        Parameters
        ----------
        method : str, dict or DataFrame
            "pairwise", "revpairwise", "trt.vs.ctrl" (the first one by default), "trt.vs.ctrlk"
            (the last one), "consec", "poly", "eff", "del.eff", "mean_chg", "helmert", "identity",
            or coefficients by the name of the contrast (a column each in a frame).
        adjust : str, optional
            "tukey", "sidak", "bonferroni", "holm", "hochberg", "hommel", "fdr", "BY", "scheffe",
            "dunnettx", "mvt" or "none"; by default what goes with the method.
        by : str or list of str, optional
            Factors whose combinations are compared inside of; by default those of the estimates,
            and ``[]`` for none.
        interaction : str or list of str, optional
            Methods for the factors, one for all or one for each: contrasts of contrasts, without
            adjustment by default.
        simple : str or list of str, optional
            The factors to compare, by all others; "each" for one after the other.
        ref : str, int or list, optional
            The levels that "trt.vs.ctrl" compares with, or their positions from 0.
        type : {"link", "response"}, optional
            By default that of the estimates. Differences of logarithms are ratios on the scale of
            the response, and those of logits odds ratios; others stay what they are.

        Returns
        -------
        MarginalMeans
            A dict of them for ``simple="each"``.

        Notes
        -----
        "dunnettx" is the distribution for comparisons with a control whose correlations are one
        half, without R's approximation to it; "mvt" takes the correlations that there are, and is
        good to 1e-4 (2e-4 for 60 contrasts or more that are independent) and the same in every
        run.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...             load_dataset("cbpp"), family="binomial")
        >>> odds = fit.emmeans("period", type="response").contrast("trt.vs.ctrl", adjust="mvt")
        >>> odds.to_frame()[["contrast", "estimate"]].round(3).to_numpy().tolist()
        [['period2 / period1', 0.371], ['period3 / period1', 0.323], ['period4 / period1', 0.206]]
        """
        on_response = self.on_response if type is None else check_type(type)
        if simple is not None:
            return self._simple(simple, method, adjust, ref, type)
        means = replace(self._grouped(by), on_response=on_response and self.scale is not None)
        if interaction is not None:
            made = interaction_contrasts(means, interaction)
            chosen = "none" if adjust is None else check_adjust(adjust)
        else:
            method = check_method(method)
            made = contrasted(means, method, ref)
            chosen = default_adjustment(method) if adjust is None else check_adjust(adjust)
        asked = Question(level=self.question.level, adjust=chosen, shows=TESTS)
        return replace(made, question=asked, on_response=on_response and made.scale is not None)

    def _grouped(self, by: Any) -> MarginalMeans:
        """Return the estimates with other groups."""
        if by is None:
            return self
        known = list(self.labels.columns)
        names = tuple(dict.fromkeys(checks.names(by, "by")))
        for name in names:
            checks.key(name, "by", known)
        if len(names) == len(known):
            raise ArgumentError(
                f"by has all of {', '.join(known)}; expected one of them to be left to compare"
            )
        return replace(self, by=names)

    def _simple(self, simple: Any, method: Any, adjust: Any, ref: Any, type: Any) -> Any:
        """Return contrasts of some factors by all others."""
        known = list(self.labels.columns)
        if isinstance(simple, str) and simple == "each":
            made = {
                f"simple contrasts for {name}": self.contrast(
                    method, adjust, simple=name, ref=ref, type=type
                )
                for name in self.names
            }
            return Several(made)
        names = [checks.key(n, "simple", known) for n in checks.names(simple, "simple")]
        others = [name for name in known if name not in names]
        return self.contrast(method, adjust, others, ref=ref, type=type)

    def joint_tests(self) -> JointTests:
        """Test each factor of the estimates and each interaction of them, by groups.

        The hypotheses are that the contrasts of an effect are zero, averaged equally over the other
        factors; so main effects are those of type III in a model without covariates. The
        denominator is that of the joint test of all contrasts (Fai and Cornelius, or Kenward and
        Roger).
        """
        return term_tests(self)

    def cld(
        self,
        adjust: str = "tukey",
        alpha: float = 0.05,
        letters: str = SIGNS,
        reverse: bool = False,
    ) -> LetterDisplay:
        """Return a compact letter display: means that share a sign are not shown to differ.

        Parameters
        ----------
        adjust : str
            Of the comparisons of all pairs, as in `contrast`.
        alpha : float
            The level of the tests.
        letters : str
            The signs; digits first by default, as in R.
        reverse : bool
            The largest mean first.
        """
        return letter_display(self, self.pairs(adjust), alpha, letters, reverse)

    def eff_size(
        self,
        sigma: float | None = None,
        edf: float | None = None,
        method: Any = "pairwise",
        level: float | None = None,
    ) -> EffectSizes:
        """Return differences in units of a standard deviation, with its uncertainty.

        Parameters
        ----------
        sigma : float, optional
            By default, in a linear model, that of a response about the mean of the population:
            of all random effects, averaged over the rows, and of the residual.
        edf : float, optional
            The degrees of freedom of ``sigma``. By default Satterthwaite's for the default sigma,
            and infinity for one that is given.
        method : str, dict or DataFrame
            As in `contrast`.
        level : float, optional
            Of the limits.
        """
        contrasts = self.contrast(method, "none", type="link")
        return effect_sizes(self, contrasts, sigma, edf, level)

    def regrid(self) -> MarginalMeans:
        """Return the estimates on the scale of the response, for contrasts of these.

        Their standard errors are by the delta method, and so are those of contrasts, such as
        differences of probabilities.
        """
        if self.scale is None:
            return self
        estimate, _, _ = self._estimated
        value, slope = self.scale.back(estimate)
        L = slope[:, None] * self.L
        kept = np.where(self.is_estimable[:, None], L, 0.0)[:, self.fit.kept]
        constant = value - kept @ approximation(self.fit, self.ddf).beta
        return replace(
            self, L=L, offset=constant, scale=None, on_response=False, kind=self.scale.word
        )


class Several(Printed, dict[str, Any]):
    """Results by name, which print one below the other."""

    def tables(self) -> list[Table]:
        """Return the tables of all, with their names above."""
        out: list[Table] = []
        for name, result in self.items():
            first, *rest = result.tables()
            title = name if first.title is None else f"{name}\n{first.title}"
            out += [replace(first, title=title), *rest]
        return out
