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
from mixef.mixedmodel import MixedModel


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


def _of_one(model: Any, type: str | int | None, ddf: str | None) -> AnovaTable:
    if not isinstance(model, MixedModel):
        raise ArgumentError(
            "anova got one regression of statsmodels; expected a mixed model, or two or more models"
        )
    return model.anova(type="III" if type is None else type, ddf=ddf)
