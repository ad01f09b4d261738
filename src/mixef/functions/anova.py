"""Comparing fitted models."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mixef import checks
from mixef.arguments import names_for
from mixef.errors import ArgumentError
from mixef.functions.names import names_of_models
from mixef.hints import refuse_unknown
from mixef.inference.hypotheses.anova import AnovaTable
from mixef.inference.hypotheses.likelihood_ratio import anova_of_models
from mixef.inference.hypotheses.ordinary import is_ordinary, ordinary_fit
from mixef.inference.measures.comparison import Comparison, compare_models
from mixef.mixedmodel import MixedModel, fit_of


def anova(
    *models: Any,
    refit: bool = True,
    model_names: Sequence[str] | None = None,
    type: str | int | None = None,
    ddf: str | None = "auto",
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> AnovaTable:
    """Compare models by likelihood-ratio tests, or test the terms of one.

    Parameters
    ----------
    *models : fitted models
        Two or more are sorted by their numbers of parameters, equal numbers by likelihood, and
        each is tested against the one before. Beside mixed models, regressions fitted by
        statsmodels (OLS, WLS, GLS, GLM, Logit, ...) can stand for models without random effects.
        For one mixed model the table is that of its method ``anova``.
    refit : bool
        Refit by ML what was fitted by REML. With False all models have to be REML fits with the
        same fixed effects.
    model_names : sequence of str, optional
        By default the names of the caller's variables.
    type, ddf
        For one model, as in its method ``anova``.
    env : dict, optional
        Names of models, from name to model; by default the caller's variables.

    Returns
    -------
    AnovaTable
        Columns npar, AIC, BIC, logLik, -2*log(L), Chisq, Df, Pr(>Chisq); its ``notes`` say what
        was refitted and where a p value is conservative because a variance is tested at zero. A
        row has a p value where it has more parameters than the one before and no smaller
        likelihood. That models are nested is not checked.

    Raises
    ------
    TypeError
        For something that is no fitted model.
    ValueError
        For names that do not fit.
    DataError
        For models of other rows, responses, weights, families or links, naming what differs; for
        REML fits that do not compare with ``refit=False``.

    Notes
    -----
    Likelihoods are those of full densities. So ``aic`` and ``bic`` compare between families and
    links of one response, where this test is refused; only a Poisson model lies within another
    family's, the negative binomial.

    Examples
    --------
    >>> from mixef import anova, lmer, load_dataset
    >>> sleepstudy = load_dataset("sleepstudy")
    >>> slope = lmer("Reaction ~ Days + (Days | Subject)", sleepstudy)
    >>> both = lmer("Reaction ~ Days + (Days || Subject)", sleepstudy)
    >>> print(anova(slope, both))
    refitting model(s) with ML (instead of REML)
    Data: sleepstudy
    Models:
    both: Reaction ~ Days + (Days || Subject)
    slope: Reaction ~ Days + (Days | Subject)
          npar    AIC    BIC  logLik -2*log(L)  Chisq Df Pr(>Chisq)
    both     5 1762.0 1778.0 -876.00    1752.0
    slope    6 1763.9 1783.1 -875.97    1751.9 0.0639  1     0.8004
    """
    refuse_unknown(unknown, anova)
    for model in models:
        if not (isinstance(model, MixedModel) or is_ordinary(model)):
            raise ArgumentError(
                f"anova got {checks.shown(model)}; expected fitted mixed models, or regressions "
                "fitted by statsmodels"
            )
    refit = checks.flag(refit, "refit")
    if not models:
        raise ArgumentError("anova got no model; expected one or more fitted models")
    if len(models) == 1:
        return _of_one(models[0], type, ddf)
    if type is not None or not (isinstance(ddf, str) and ddf == "auto"):
        raise ArgumentError(
            f"type and ddf are for tests of one model's terms, but anova got {len(models)} models; "
            "leave them out, or call the method anova of each"
        )
    names = names_of_models(models, model_names, names_for(env, sys._getframe(1)))
    read = [m._fit if isinstance(m, MixedModel) else ordinary_fit(m) for m in models]
    if not any(isinstance(m, MixedModel) for m in models):
        raise ArgumentError("anova got regressions of statsmodels only; expected a mixed model too")
    return anova_of_models(read, names, refit)


def compare(
    *models: MixedModel,
    by: str = "AICc",
    sort: bool = True,
    refit: bool = True,
    model_names: Sequence[str] | None = None,
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> Comparison:
    """Lay models of one response side by side: criteria with their weights, R2, sigma.

    Parameters
    ----------
    *models : LinearMixedModel or GeneralizedLinearMixedModel
        Two or more, of the same response on the same rows. They need not be nested, nor of one
        family, as likelihoods are those of full densities.
    by : {"AICc", "AIC", "BIC"}
        The criterion that models are judged by.
    sort : bool
        The best model first, or the order as given.
    refit : bool
        Compare fits by ML, also where models were fitted by REML. With False all models have to be
        REML fits with the same fixed effects.
    model_names : sequence of str, optional
        By default the names of the caller's variables.
    env : dict, optional
        Names of models, from name to model; by default the caller's variables.

    Returns
    -------
    Comparison
        Columns npar, logLik, AIC, AICc, BIC, delta, weight, R2_marginal, R2_conditional, sigma.
        Weights are ``exp(-delta / 2)`` over their sum (Burnham and Anderson 2002). R2 and sigma are
        those of the models as given.

    Raises
    ------
    TypeError
        For something that is no fitted model.
    ValueError
        For fewer than two models, names that do not fit, or another criterion.
    DataError
        For models of other rows, responses or weights, naming what differs; for REML fits that do
        not compare with ``refit=False``.

    References
    ----------
    K. P. Burnham and D. R. Anderson (2002), Model Selection and Multimodel Inference, 2nd edition,
    Springer, chapter 2.

    Examples
    --------
    >>> from mixef import compare, lmer, load_dataset
    >>> sleepstudy = load_dataset("sleepstudy")
    >>> slopes = lmer("Reaction ~ Days + (Days | Subject)", sleepstudy)
    >>> levels = lmer("Reaction ~ Days + (1 | Subject)", sleepstudy)
    >>> print(compare(levels, slopes))
    Models:
    slopes: Reaction ~ Days + (Days | Subject)
    levels: Reaction ~ Days + (1 | Subject)
           npar  logLik    AIC   AICc    BIC  delta weight R2_marginal R2_conditional  sigma
    slopes    6 -875.97 1763.9 1764.4 1783.1  0.000  1.000       0.279          0.799 25.592
    levels    4 -897.04 1802.1 1802.3 1814.9 37.882  0.000       0.280          0.704 30.991
    delta and weight by AICc
    refitting model(s) with ML (instead of REML)
    logLik and criteria are by ML, R2 and sigma of the fits as given
    """
    refuse_unknown(unknown, compare)
    if len(models) < 2:
        count = "one model" if models else "no model"
        raise ArgumentError(f"compare got {count}; expected two or more fitted models")
    fits = [fit_of(model, f"model {i + 1}") for i, model in enumerate(models)]
    names = names_of_models(models, model_names, names_for(env, sys._getframe(1)))
    return compare_models(fits, names, by, sort, refit)


def _of_one(model: Any, type: str | int | None, ddf: str | None) -> AnovaTable:
    if not isinstance(model, MixedModel):
        raise ArgumentError(
            "anova got one regression of statsmodels; expected a mixed model, or two or more models"
        )
    return model.anova(type="III" if type is None else type, ddf=ddf)
