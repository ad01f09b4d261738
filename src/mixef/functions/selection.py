"""Tests of random terms, backward elimination, and functions of coefficients."""

from __future__ import annotations

from typing import Any

from mixef.hints import refuse_unknown
from mixef.inference.hypotheses import delta_method as functions
from mixef.inference.hypotheses import ranova as tests
from mixef.inference.hypotheses.anova import AnovaTable
from mixef.inference.hypotheses.elimination import Elimination, eliminate
from mixef.mixedmodel import MixedModel, fit_of


def ranova(
    fit: MixedModel,
    reduce_terms: bool = True,
    *,
    n_jobs: int = 1,
    progress: bool | None = None,
    **unknown: Any,
) -> AnovaTable:
    """Test the random terms by likelihood ratios, each left out or reduced.

    A term with several parts, ``(x + z | g)``, is tested without each part that no other part
    contains, and so is ``(x || g)`` without its intercept; ``(0 + f | g)`` of a factor is tested
    against ``(1 | g)``; any other term is left out.

    Parameters
    ----------
    fit : LinearMixedModel or GeneralizedLinearMixedModel
        A fit by REML is compared by REML criteria, as its fixed effects stay.
    reduce_terms : bool
        False leaves terms out as a whole.
    n_jobs : int
        Processes to refit on; -1 for one a core.
    progress : bool, optional
        Show a progress bar; by default where it takes long.

    Returns
    -------
    AnovaTable
        Columns npar, logLik, AIC, LRT, Df, Pr(>Chibarsq), Pr(>Chisq), the whole model in the row
        ``<none>``. Pr(>Chisq), which is lmerTest's, takes the statistic for chi-square with Df
        degrees of freedom and is too large, as a variance of zero is the end of its range.
        Pr(>Chibarsq) is right for many levels where one variance is left out: by an even mixture of
        chi-squares with Df - 1 and Df degrees of freedom. It is NaN where several variances go at
        once, whose mixture depends on the data; `pb_test` and `exact_rlrt` have p values for small
        samples.

    Raises
    ------
    TypeError
        For something that is no fitted model.

    References
    ----------
    A. Kuznetsova, P. B. Brockhoff and R. H. B. Christensen (2017), lmerTest package: tests in
    linear mixed effects models, Journal of Statistical Software 82(13). D. O. Stram and J. W. Lee
    (1994), Variance components testing in the longitudinal mixed effects model, Biometrics 50,
    1171-1177.

    Examples
    --------
    >>> from mixef import lmer, load_dataset, ranova
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> print(ranova(fit))
    ANOVA-like table for random-effects: Single term deletions
    <BLANKLINE>
    Model:
    Reaction ~ Days + (Days | Subject)
                             npar  logLik    AIC    LRT Df Pr(>Chibarsq) Pr(>Chisq)
    <none>                      6 -871.81 1755.6
    Days in (Days | Subject)    4 -893.23 1794.5 42.837  2     2.793e-10   4.99e-10 ***
    ---
    Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
    Pr(>Chisq): chi-square with Df, as lmerTest's; too large, as variances are zero under the null
    Pr(>Chibarsq): even mixture of chi-squares with Df - 1 and Df, for one such variance
    """
    refuse_unknown(unknown, ranova)
    return tests.ranova(fit_of(fit, "fit"), reduce_terms, n_jobs, progress)


def step(
    fit: MixedModel,
    ddf: str | None = "auto",
    alpha_random: float = 0.1,
    alpha_fixed: float = 0.05,
    reduce_random: bool = True,
    reduce_fixed: bool = True,
    keep: Any = None,
    **unknown: Any,
) -> Elimination:
    """Reduce a model backward: random terms first, then terms of the fixed effects.

    Of the reductions of `ranova`, by Pr(>Chisq), the one with the largest p value goes as long as
    that is above ``alpha_random``; then of the terms that ``drop1`` tests (no other term contains
    them) as long as it is above ``alpha_fixed``, by F tests, or likelihood ratios of a generalized
    model.

    Parameters
    ----------
    fit : LinearMixedModel or GeneralizedLinearMixedModel
    ddf : {"auto", "satterthwaite", "kenward-roger"}
        Denominator degrees of freedom of F tests, as in the method ``anova``.
    alpha_random, alpha_fixed : float
        p values above which terms go.
    reduce_random, reduce_fixed : bool
        Whether to reduce the random effects, and the fixed ones.
    keep : str or sequence of str, optional
        Terms of the fixed effects that stay, with those that they contain: labels, or a formula
        ``"~ a + b"``.

    Returns
    -------
    Elimination
        The tables ``random`` and ``fixed``, whose column Eliminated numbers the steps and is 0 for
        what stays, and the ``model`` that is left. A model keeps its last random term, as without
        it it is no mixed model; a note says where it could go.

    Raises
    ------
    FormulaError
        For terms to keep that are not in the model.
    ValueError
        For p values and degrees of freedom that there are not.

    Notes
    -----
    Estimates, standard errors and p values of a model that was chosen by its data are too good: the
    choice is no part of them.

    References
    ----------
    A. Kuznetsova, P. B. Brockhoff and R. H. B. Christensen (2017), lmerTest package: tests in
    linear mixed effects models, Journal of Statistical Software 82(13).

    Examples
    --------
    >>> from mixef import lmer, load_dataset, step
    >>> cake = load_dataset("cake")
    >>> fit = lmer("angle ~ recipe * temp + (1 | recipe:replicate) + (1 | replicate)", cake)
    >>> steps = step(fit)
    >>> print(steps)
    Backward reduced random-effect table
    <BLANKLINE>
                           Eliminated npar  logLik    AIC    LRT Df Pr(>Chibarsq) Pr(>Chisq)
    <none>                               9 -832.68 1683.4
    (1 | recipe:replicate)          0    8 -836.53 1689.1  7.689  1      0.002778   0.005557 **
    (1 | replicate)                 0    8 -851.63 1719.3 37.900  1     3.724e-10  7.448e-10 ***
    ---
    Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
    <BLANKLINE>
    Backward reduced fixed-effect table
    Degrees of freedom by Satterthwaite's method
    <BLANKLINE>
                Eliminated  Sum Sq Mean Sq NumDF DenDF F value Pr(>F)
    recipe:temp          1    1.74    0.87     2   222  0.0417 0.9592
    recipe               2   65.35   32.68     2    28  1.5781 0.2242
    temp                 0 1966.71 1966.71     1   224 94.9759 <2e-16 ***
    ---
    Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
    <BLANKLINE>
    Model found:
    angle ~ temp + (1 | recipe:replicate) + (1 | replicate)
    >>> round(float(steps.model.beta[1]), 3)
    0.158
    """
    refuse_unknown(unknown, step)
    return eliminate(
        fit_of(fit, "fit"), type(fit), ddf, alpha_random, alpha_fixed, reduce_random, reduce_fixed,
        keep,
    )  # fmt: skip


def delta_method(
    fit: MixedModel,
    expressions: Any,
    names: Any = None,
    *,
    null: Any = 0.0,
    ddf: str | None = "auto",
    level: float = 0.95,
    **unknown: Any,
) -> functions.DeltaMethod:
    """Return functions of the parameters, with standard errors by the delta method.

    Parameters
    ----------
    fit : LinearMixedModel or GeneralizedLinearMixedModel
    expressions : str, sequence of str, or dict
        Expressions of coefficients by name, such as ``"b1 / b2"``, or a dict from names to them:
        with + - * / ^, and exp, log, sqrt, plogis, pnorm and the like. A name that is none in R
        goes in backquotes, ``"-`poly(Days, 2)1` / 2"``; ``(Intercept)`` and ``a:b`` need none.
        Standard deviations, correlations and sigma (or what the family has) are there by the names
        that they have in `confint`.
    names : sequence of str, optional
        What the expressions are called; by default their text.
    null : float or array (m,)
        Values that they are tested against.
    ddf : {"auto", "satterthwaite", "kenward-roger", None}
        Degrees of freedom of t tests and intervals, as in `coef_table`, of the expression's
        tangent; None, generalized models, and expressions of covariance parameters have normal
        quantiles.
    level : float
        Of the confidence limits.

    Returns
    -------
    DeltaMethod
        ``frame`` has estimate, std_error, statistic, df, p_value, conf_low and conf_high, one row
        an expression; ``vcov`` their covariance, ``gradient`` the exact derivatives.

    Raises
    ------
    FormulaError
        For names that are no parameters, and functions without a derivative here.
    ValueError
        For expressions that are not smooth at the estimates, and other arguments that do not fit.
    FitError
        Where the covariance of the parameters is not known.

    Notes
    -----
    The covariance of the coefficients is the one that their tests go by. A ratio whose denominator
    may be zero has no moments, and a variance of zero is no null hypothesis for a z test: see
    `bootstrap`, and `ranova`.

    References
    ----------
    J. Fox and S. Weisberg (2019), An R Companion to Applied Regression, section 5.1.4.

    Examples
    --------
    >>> from mixef import delta_method, lmer, load_dataset
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> print(delta_method(fit, {"relative": "100 * Days / (Intercept)"}))
    Delta method, t tests with Satterthwaite's method
             Estimate Std. Error df 2.5 % 97.5 % t value Pr(>|t|)
    relative   4.1635     0.6403 17 2.813  5.514   6.503 5.42e-06 ***
    ---
    Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
    >>> sd = "`sd_(Intercept)|Subject`"
    >>> share = delta_method(fit, f"{sd}^2 / ({sd}^2 + sigma^2)", ["share"])
    >>> share.frame.loc["share", ["estimate", "std_error"]].round(3).tolist()
    [0.483, 0.124]
    """
    refuse_unknown(unknown, delta_method)
    return functions.delta_method(fit_of(fit, "fit"), expressions, names, null, ddf, level)
