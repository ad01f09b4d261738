"""Exact tests of variance components."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef.hints import refuse_unknown
from mixef.inference.hypotheses import rlrt
from mixef.mixedmodel import MixedModel, fit_of
from mixef.text.numbers import format_number, format_pvalue
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table


def exact_rlrt(
    fit: MixedModel,
    term: str | None = None,
    *,
    fit_alone: MixedModel | None = None,
    null: MixedModel | None = None,
    n: int = 10_000,
    seed: int | np.random.Generator | None = None,
    **unknown: Any,
) -> ExactTest:
    """Test whether the variance of one random-effects term is zero, without asymptotics.

    The statistic is the difference of the REML criteria without and with the term. Its
    finite-sample distribution under the null is that of the supremum of a function of one
    variable and independent chi-squares, which are drawn n times. It is exact where the
    term is the only one. With other terms, which the null has too, it is the distribution of the
    model with the tested term alone, which approximates well (Greven et al. 2008).

    Parameters
    ----------
    fit : LinearMixedModel
        The model with all its terms. A fit by maximum likelihood is refitted by REML.
    term : str, optional
        The term to test, with one column: ``"(1 | g)"``, or its grouping factor; the only one by
        default. Other terms are taken for nuisance.
    fit_alone, null : LinearMixedModel, optional
        The model with the tested term alone, which is another way to name it, and that without
        the term. Neither is needed: the null is fitted here.
    n : int
        Draws.
    seed : int or Generator, optional

    Returns
    -------
    ExactTest

    Raises
    ------
    DataError, FormulaError
        For a generalized model, a term with several columns, a term that is not there, or models
        that differ in more than the tested term.

    References
    ----------
    C. M. Crainiceanu and D. Ruppert (2004), Likelihood ratio tests in linear mixed models with
    one variance component, Journal of the Royal Statistical Society B 66, 165-185.
    S. Greven, C. M. Crainiceanu, H. Kuechenhoff and A. Peters (2008), Restricted likelihood ratio
    testing for zero variance components in linear mixed models, Journal of Computational and
    Graphical Statistics 17, 870-891.

    Examples
    --------
    >>> from mixef import exact_rlrt, lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> test = exact_rlrt(fit, seed=1)
    >>> round(test.statistic, 4), test.p_value < 0.01
    (6.369, True)
    """
    refuse_unknown(unknown, exact_rlrt)
    others = (("fit_alone", fit_alone), ("null", null))
    alone, smaller = (None if model is None else fit_of(model, name) for name, model in others)
    return ExactTest(rlrt.exact_rlrt(fit_of(fit, "fit"), term, alone, smaller, n, seed))


class ExactTest(PrintedTable):
    """An exact restricted likelihood-ratio test, made by `exact_rlrt`.

    Examples
    --------
    >>> from mixef import exact_rlrt, lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> print(str(exact_rlrt(fit, seed=1)).splitlines()[0])
    Exact restricted likelihood-ratio test: the variance of (1 | Batch) is zero
    """

    def __init__(self, result: rlrt.ExactRLRT):
        self._result = result

    @property
    def term(self) -> str:
        """The term whose variance is zero under the null."""
        return self._result.term

    @property
    def statistic(self) -> float:
        """REML criterion of the null less that of the model; 0 at the boundary."""
        return self._result.statistic

    @property
    def p_value(self) -> float:
        """Probability of such a statistic or a larger one, ``(1 + k) / (1 + n)`` from k draws."""
        return self._result.p_value

    @property
    def error(self) -> float:
        """Monte Carlo standard error of the p value."""
        return self._result.error

    @property
    def n(self) -> int:
        """Draws from the distribution under the null."""
        return self._result.n

    @property
    def p_zero(self) -> float:
        """Probability under the null that the statistic is zero, by the draws."""
        return self._result.p_zero

    @property
    def nuisance(self) -> tuple[str, ...]:
        """Terms that the null has too; the distribution is exact where there are none."""
        return self._result.nuisance

    @property
    def draws(self) -> np.ndarray:
        """The draws of the statistic under the null (n,)."""
        return self._result.draws.copy()

    def to_frame(self) -> pd.DataFrame:
        """Return one row: statistic, p value, its error, and the share of zeros.

        Examples
        --------
        >>> from mixef import exact_rlrt, lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> list(exact_rlrt(fit, n=100, seed=1).to_frame())
        ['RLRT', 'p.value', 'p.error', 'p.zero', 'n']
        """
        values = {"RLRT": self.statistic, "p.value": self.p_value, "p.error": self.error,
                  "p.zero": self.p_zero, "n": self.n}  # fmt: skip
        return pd.DataFrame(values, index=pd.Index([f"({self.term})"], name="term"))

    def to_table(self) -> Table:
        """Return the printed table: the statistic and its p value."""
        kind = "Exact restricted likelihood-ratio test"
        note = f"p value by {self.n} draws, with a Monte Carlo error of {self.error:.2g}"
        if self.nuisance:
            listed = " and ".join(f"({label})" for label in self.nuisance)
            kind = "Restricted likelihood-ratio test"
            note += f"\nThe distribution is approximate: the null has {listed}"
        cells = (
            format_number(round(self.statistic, 5), 5),
            format_pvalue([self.p_value], 4)[0],
            format_number(self.p_zero, 3),
        )
        return Table(
            columns=("RLRT", "p-value", "P(RLRT = 0)"),
            rows=[cells],
            index=(f"({self.term})",),
            title=f"{kind}: the variance of ({self.term}) is zero",
            note=note,
        )
