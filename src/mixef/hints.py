"""Words of other programs, and what they are called here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature
from typing import Any

from mixef.errors import ArgumentError

_TERM = 'name groups in the formula, as in "y ~ x + (1 | g)"'
_GROUPINGS = ("groups", "group", "vc_formula", "random", "re_formula")
_FAMILY = "for another family than the Gaussian use glmer(..., family=...)"
_TABLE = "coef_table()"
_ZERO = "zero inflation is not there; the family 'nbinom2' has more zeros than 'poisson'"
CATEGORIES = (
    "models of several or ordered categories are not there; fit a binomial one to each step, as of "
    "whether the response is above a level"
)
_CONTRASTS = "the result has contrast(), and pairs(adjust=)"
_WRITTEN = "the result has to_latex(), to_markdown(), to_html(), to_great_tables() and to_frame()"

#: What a fit of statsmodels, pymer4, lme4 or MixedModels.jl has, and what ours has in its place.
ATTRIBUTES = {
    "AICc": "aicc", "rsquared": "r2()",
    "AIC": "aic", "BIC": "bic", "logLik": "loglik", "llf": "loglik", "log_likelihood": "loglik",
    "REMLcrit": "objective", "remlcrit": "objective",
    "params": "fixef()", "fe_params": "fixef()", "coefficients": "fixef()", "coef_": "fixef()",
    "bse": f"{_TABLE}['Std. Error']", "bse_fe": f"{_TABLE}['Std. Error']",
    "std_errors": f"{_TABLE}['Std. Error']",
    "tvalues": f"{_TABLE}, which has t or z values", "pvalues": f"{_TABLE}, which has p values",
    "p_values": f"{_TABLE}, which has p values", "coefs": _TABLE, "coeftable": _TABLE,
    "conf_int": "confint()", "cov_params": "vcov()", "normalized_cov_params": "vcov()",
    "resid": "residuals()", "resids": "residuals()", "fittedvalues": "fitted()",
    "fits": "fitted()", "fitted_values": "fitted()",
    "random_effects": "ranef()", "random_effects_cov": "ranef(condVar=True).condVar",
    "bse_re": "VarCorr()", "cov_re": "VarCorr()", "vcomp": "VarCorr()", "ranef_var": "VarCorr()",
    "ranef_corr": "VarCorr()", "scale": "sigma, whose square is the residual variance",
    "df_resid": "df_residual", "n_groups": "ngrps()", "isSingular": "is_singular()",
    "singular": "is_singular()", "getCall": "formula and update()", "refitML": "refit_ml()",
    "bootMer": "bootstrap()", "get_prediction": "predict(..., se_fit=True)",
    "get_influence": "influence(), hatvalues() and cooks_distance()",
    "vcovCR": "vcov(robust='CR2', cluster=...)", "vcovHC": "vcov(robust='CR2', cluster=...)",
    "coef_test": f"with_vcov('CR2').{_TABLE}", "Wald_test": "with_vcov('CR2').contest(L)",
    "get_robustcov_results": "with_vcov('CR2', cluster=...)",
    "f_test": "contest(L)", "wald_test": "contest(L)", "t_test": "contest(L, joint=False)",
    "t_test_pairwise": "contest(L)", "post_hoc": "emmeans(...).pairs()",
    "lsmeans": "emmeans()", "ls_means": "emmeans()", "marginal_means": "emmeans()",
    "contrast": "emmeans(...).contrast()", "pairs": "emmeans(...).pairs()", "slopes": "emtrends()",
    "data": "augment()",
    "simulateResiduals": "simulated_residuals()", "check_model": "check()",
    "check_collinearity": "vif()",
    "check_convergence": "convergence", "check_singularity": "is_singular()",
    **{f"check_{what}": "check()" for what in (
        "autocorrelation", "heteroscedasticity", "homogeneity", "normality", "outliers",
        "overdispersion", "zeroinflation",
    )},
    **{f"test{what}": "simulated_residuals(), which has such a test" for what in (
        "Uniformity", "Dispersion", "Outliers", "ZeroInflation", "Quantiles", "Categorical",
        "TemporalAutocorrelation", "SpatialAutocorrelation",
    )},
    "warnings": "convergence", "optinfo": "convergence",
    "fit": "summary(); lmer and glmer have fitted the model, and update() fits another one",
    "extractAIC": "aic", "rstandard": "rstudent()", "is_reml": "REML", "isREML": "REML",
    "call": "formula", "terms": "model_matrix()", "design_matrix": "model_matrix()",
    **{name: f"getME('{name}')" for name in ("X", "Z", "Zt", "y", "u", "b", "Lambda", "L")},
    "logLike": "loglik", "grps": "ngrps()", "convergence_status": "convergence",
    "result_fit": _TABLE, "result_fit_stats": "glance()", "result_anova": "anova()",
    "result_boots": "bootstrap()", "result_emmeans": "emmeans()", "result_vif": "vif()",
    "empredict": "emmeans(..., at=)", "marginal_estimates": "emmeans()",
    "marginal_contrasts": "emmeans(...).pairs()",
    "set_factors": "update(data=) with text or categories for factors",
    "set_contrasts": "update(contrasts=)", "set_transforms": "update() with scale(x) or center(x)",
    "β": "beta", "σ": "sigma",
    "θ": "theta", "loglikelihood": "loglik", "dof": "npar",
    "dof_residual": "df_residual", "optsum": "convergence", "issingular": "is_singular()",
    "coefnames": "fixef().index", "stderror": f"{_TABLE}['Std. Error']", "leverage": "hatvalues()",
    "varest": "VarCorr()", "sdest": "sigma", "raneftables": "ranef()",
    "modelmatrix": "model_matrix()",
    "condVar": "ranef(condVar=True).condVar", "parametricbootstrap": "bootstrap()",
    "plot_summary": "plot()", "plot_model": "plot.effects(x)", "ggpredict": "plot.effects(x)",
    "emmip": "plot.effects(x, by=)", "qqmath": "plot.qq()", "qqnorm": "plot.qq()",
    "dotplot": "plot.caterpillar()", "caterpillar": "plot.caterpillar()",
    "qqcaterpillar": "plot.caterpillar(qq=True)", "shrinkageplot": "plot.shrinkage()",
    "zetaplot": "plot.profile_zeta()", "xyplot": "plot.profile_zeta()",
    "densityplot": "plot.profile_density()", "splom": "plot.profile_pairs()",
}  # fmt: skip

#: What other packages offer beside fits, and where it is here; methods of fits are found by name.
NAMES = {
    "lmerControl": "LmerControl", "glmerControl": "GlmerControl", "allFit": "all_fit",
    "lmList": "lm_list", "PBmodcomp": "pb_test", "exactRLRT": "exact_rlrt",
    "KRmodcomp": "fit.contest(L, ddf='kenward-roger')", "deltaMethod": "delta_method",
    "lFormula": "model_matrices", "glFormula": "model_matrices", "powerSim": "power",
    "powerCurve": "power", "modelsummary": "etable", "compare_performance": "compare",
    "binomial": "Binomial, or family='binomial'", "poisson": "Poisson, or family='poisson'",
    **dict.fromkeys(("Lmer", "mixedlm", "MixedLM", "MixedModel", "lme", "glmmTMB"),
                    'lmer or glmer, with groups in the formula, as in "y ~ x + (1 | g)"'),
    **dict.fromkeys(("clm", "clmm", "clmm2", "polr", "OrderedModel"),
                    f"glmer(..., family='binomial'); {CATEGORIES}"),
    **dict.fromkeys(("BinomialBayesMixedGLM", "PoissonBayesMixedGLM"), "glmer(..., family=...)"),
}  # fmt: skip

#: Arguments that other programs have, and what ours are called, where a function has them.
ARGUMENTS = {
    "newparams": "new_params", "params": "new_params",
    "nsim": "n", "nboot": "n", "n_boot": "n", "B": "n", "FUN": "fn", "func": "fn",
    "statistic": "fn", "random_state": "seed", "rng": "seed", "cores": "n_jobs", "ncpus": "n_jobs",
    "se": "se_fit", "conf_level": "level", "level": "conf_level", "alpha": "level",
    "exog": "newdata", "new_data": "newdata", "data": "newdata",
    "exposure": "offset, its logarithm",
    "nsims": "n", "cl": "n_jobs", "parallel": "n_jobs",
    "meth_tab": "optimizers", "methods": "optimizers", "optimizer": "optimizers",
    "maxfun": "max_evaluations", "maxiter": "max_evaluations",
    "effect_size": "params", "sig_level": "alpha", "largeModel": "large", "smallModel": "small",
    "null_model": "small", "names": "model_names", "confint": "level", "r_matrix": "L",
    "labels": "rename", "coef_rename": "rename", "coef_map": "rename", "coef_omit": "drop",
    "model_heads": "model_names", "coef_fmt": "show", "coefstat": "show",
    "signif_code": "stars", "signif_codes": "stars", "fitstat": "stats", "gof_map": "stats",
    "model_stats": "stats", "caption": "title", "fmt": "digits",
    "lmer_df": "ddf", "mode": "ddf",
    "freq_weights": "weights", "var_weights": "weights", "missing": "na_action",
    "re_formula": "re_form", "allow_new_levels": "new_levels, as \"population\"",
    "use_rfx": "re_form, as \"~0\" for none", "num_datasets": "n", "new_re_levels": "new_levels",
    "cov_reduce": "at", "wts": "weights", "conf_method": "method",
}  # fmt: skip

#: Arguments that take more to say, by function and name.
ADVICE = {
    **{(own, name): _TERM for own in ("lmer", "glmer") for name in _GROUPINGS},
    ("lmer", "family"): _FAMILY,
    ("lmer", "nAGQ"): f"the integral of a linear model is exact; {_FAMILY}",
    ("lmer", "method"): "write REML=True or REML=False",
    ("glmer", "REML"): (
        "a generalized linear mixed model is fitted by maximum likelihood; leave REML out, or use "
        "lmer for a Gaussian response"
    ),
    ("glmer", "link"): 'name the link with the family, as in family="binomial(probit)"',
    ("glmer_nb", "family"): (
        "it fits the negative binomial family only; use glmer(..., family=...), or link= for "
        "another link"
    ),
    **{
        (own, name): text
        for own in ("lmer", "glmer")
        for name, text in (
            ("ziformula", _ZERO),
            ("zi", _ZERO),
            ("dispformula", "variances that depend on predictors are not there; give weights="),
            ("devFunOnly", "a fit has it as getME('devfun')"),
            ("fast", "nAGQ=0 is the fast fit of a generalized model"),
        )
    },
    **{("emmeans", name): _CONTRASTS for name in ("p_adjust", "adjust", "contrasts", "contr")},
    ("predict", "random_only"): "take the difference to predict(re_form='~0')",
    **{("etable", name): _WRITTEN for name in ("type", "output", "file_name", "tex", "file")},
}
# Generalized models share their advice.
_KIN = {"glmer_nb": "glmer", "lm_list": "glmer"}


def attribute_hint(kind: str, name: str) -> str | None:
    """Return the message for an attribute that other programs have; None if it is not known."""
    here = ATTRIBUTES.get(name)
    return None if here is None else f"{kind} has no attribute {name!r}: use {here}"


def name_hint(name: str, fit: type) -> str | None:
    """Return where a name of other packages is here: a name, or a method of class `fit`."""
    here = NAMES.get(name) or (f"fit.{ATTRIBUTES[name]}" if name in ATTRIBUTES else None)
    if here is None and not name.startswith("_") and hasattr(fit, name):
        here = f"fit.{name}" + ("()" if callable(getattr(fit, name)) else "")
    return None if here is None else f"module 'mixef' has no attribute {name!r}: use {here}"


def refuse_unknown(unknown: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Refuse arguments that a function does not have, with the word for what was meant."""
    own = function.__name__
    for name in unknown:
        advice = ADVICE.get((own, name)) or ADVICE.get((_KIN.get(own, own), name))
        raise ArgumentError(f"{own} has no {name}: {advice or _closest(name, function)}")


def _closest(name: str, function: Callable[..., Any]) -> str:
    """Return the argument that was meant, or all that there are."""
    kinds = ("self", "unknown", "changes")
    known = [text for text in signature(function).parameters if text not in kinds]
    word = ARGUMENTS.get(name, "")
    if word.split(",")[0] in known:
        return f"use {word.replace(',', '=,', 1) if ',' in word else word + '='}"
    plain = {text.lower(): text for text in known}
    close = get_close_matches(name.lower(), plain, n=1, cutoff=0.75)
    return f"use {plain[close[0]]}=" if close else f"its arguments are {', '.join(known)}"
