"""Exact tests of variance components."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef.hints import refuse_unknown
from mixef.inference.hypotheses import rlrt
from mixef.mixedmodel import MixedModel, fit_of


def exact_rlrt(
    fit: MixedModel,
    term: str | None = None,
    *,
    fit_alone: MixedModel | None = None,
    null: MixedModel | None = None,
    n: int = 10_000,
    seed: int | np.random.Generator | None = None,
    **unknown: Any,
) -> rlrt.ExactTest:
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
    return rlrt.exact_rlrt(fit_of(fit, "fit"), term, alone, smaller, n, seed)
