"""Tests and power by simulation: `exact_rlrt`, `pb_test` and `power`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from mixef.estimation.fit import Fit
from mixef.hints import refuse_unknown
from mixef.inference.hypotheses import rlrt
from mixef.inference.resampling import parametric_bootstrap as testing
from mixef.inference.resampling import power as powers
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


def pb_test(
    fit: MixedModel,
    small: Any,
    n: int = 1000,
    seed: int | np.random.Generator | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
    **unknown: Any,
) -> testing.PBTest:
    """Test a smaller model against a larger one by the parametric bootstrap.

    Responses are simulated under the smaller model, both models are refitted to each of them, and
    the likelihood-ratio statistic is compared with those of the simulated responses. So the test
    needs no chi-square approximation: it serves for fixed effects in small samples, and for
    variance components, which are at the boundary under the smaller model. Models fitted by REML
    are refitted by ML.

    Parameters
    ----------
    fit : model
        The larger model.
    small : model, str, or regression
        A model within the larger one, for the same rows: a fitted mixed model; a formula, or a
        change such as ``". ~ . - Days"`` of the larger one's; or a fitted OLS, WLS or GLM of
        statsmodels. A formula may be without random effects (a linear, binomial or Poisson model).
        Of rows in an engine it is a mixed model, of variables that the larger one has too.
    n : int
        Replicates.
    seed : int or numpy.random.Generator, optional
    n_jobs : int
        Processes; -1 for one a core. The result does not depend on it.
    progress : bool, optional
        Show a progress bar; by default on a terminal, for work over two seconds.

    Returns
    -------
    PBTest
        With ``statistic``, ``p_value``, the simulated statistics ``reference``, and ``frame``,
        which has one row a test:

        * LRT, the chi-square test, for comparison;
        * PBtest, whose p value is ``(1 + extreme) / (1 + n)``, where extreme counts statistics as
          large as the observed one;
        * Bartlett, the statistic over the mean of the simulated ones, times df, by chi-square;
        * Gamma, by the gamma distribution of their mean and variance;
        * F, the statistic over df, by the F distribution with the mean of the simulated ones.

        The last three need fewer replicates for small p values, but they assume a form of the
        distribution that is wrong for variance components.

    Raises
    ------
    DataError
        If the models are not for the same rows, or the smaller one has as many parameters.
    FitError
        If all replicates fail. Single failures are counted, and shown.

    References
    ----------
    U. Halekoh and S. Hojsgaard (2014), A Kenward-Roger approximation and parametric bootstrap
    methods for tests in linear mixed models: the R package pbkrtest, Journal of Statistical
    Software 59(9).

    Examples
    --------
    >>> from mixef import lmer, load_dataset, pb_test
    >>> fit = lmer("Reaction ~ Days + I(Days**2) + (Days | Subject)", load_dataset("sleepstudy"))
    >>> test = pb_test(fit, ". ~ . - I(Days**2)", n=200, seed=1)
    >>> round(test.statistic, 2), 0.1 < test.p_value < 0.3
    (1.66, True)
    """
    refuse_unknown(unknown, pb_test)
    other = small._fit if isinstance(small, MixedModel) else small
    return testing.pb_test(
        fit_of(fit, "fit"), other, n, seed=seed, n_jobs=n_jobs, progress=progress
    )


def power(
    fit: MixedModel,
    test: Any,
    *,
    sizes: Mapping[str, Any] | None = None,
    within: Mapping[str, Any] | None = None,
    along: Mapping[str, Any] | None = None,
    n: int = 1000,
    alpha: float = 0.05,
    method: str | None = None,
    n_boot: int = 200,
    new_params: Mapping[str, Any] | None = None,
    seed: int | np.random.Generator | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
    **unknown: Any,
) -> powers.Power:
    """Simulate the power of a test, over sizes of the sample.

    Rows of every size are made from those of the fit, responses are simulated with the fit's or
    other parameters, and the model is refitted to each of them and tested.

    To plan a study without data, draw one response with `simulate_from`, fit the model to it, and
    give all parameters in `new_params`.

    Parameters
    ----------
    fit : model
    test : str, array, dict or function
        * A coefficient, a term (all of its columns), or linear hypotheses as ``contest`` takes
          them, such as ``"recipeB - recipeC"``.
        * A random-effects term, ``"(1 | Subject)"``: that it is not needed.
        * A smaller model, by the change that leads to it: ``". ~ . - Days"``, or
          ``". ~ . - (Days | Subject) + (1 | Subject)"``.
        * A function of a fitted model that returns a p value, or True where it rejects.
    sizes : dict, optional
        From grouping factor to its numbers of levels, as in ``{"Subject": [20, 40]}``. Further
        levels are copies of those that there are, with their rows; fewer are chosen so that
        predictors that differ between levels stay in balance. Factors nested in the copied one are
        copied with it; crossed ones are shared.
    within : dict, optional
        From grouping factor to the numbers of rows in each of its levels, which are its rows in
        order, over and over again. With `sizes`, all combinations are simulated.
    along : dict, optional
        From one numeric predictor to its numbers of values, as in ``{"Days": [5, 15]}``: the first
        ones, or further ones in steps of their mean distance, whose rows are copies of those with
        the last value.
    n : int
        Replicates of each size.
    alpha : float
        Level of the test.
    method : str, optional
        * "t" or "satterthwaite" (the default of hypotheses in linear models): t or F test with
          Satterthwaite's degrees of freedom, computed for every replicate.
        * "kenward-roger": the same with Kenward and Roger's covariance and degrees of freedom.
        * "z" (the default of hypotheses in generalized models): Wald test without degrees of
          freedom.
        * "lrt" (the default of smaller models): likelihood-ratio test by chi-square, of both models
          by ML. It is conservative for variances, which are at the boundary under the smaller
          model.
        * "pb": the likelihood ratio among those of ``n_boot`` responses that the smaller model
          draws, for each replicate anew.
        * "exact" (the default of a term with one column in a linear model): the restricted
          likelihood-ratio test of `exact_rlrt`.

        The first three are for smaller models too, where those differ in fixed effects alone.
    n_boot : int
        Responses of each parametric bootstrap.
    new_params : dict, optional
        Parameters to change: coefficients by name, as in ``{"Days": 5}``, and what ``simulate``
        takes as ``new_params``.
    seed : int or numpy.random.Generator, optional
    n_jobs : int
        Processes; -1 for one a core. The result does not depend on it.
    progress : bool, optional
        Show a progress bar; by default on a terminal, for work over two seconds.

    Returns
    -------
    Power
        Its ``frame`` has one row a size: levels, rows, power, its exact binomial 95 % limits, the
        replicates that count, and those that failed.

    Raises
    ------
    DataError
        If no model can be fitted to rows of a size.
    ArgumentError
        For a method that the test does not have.

    Notes
    -----
    After P. Green and C. J. MacLeod (2016), SIMR: an R package for power analysis of generalized
    linear mixed models by simulation, Methods in Ecology and Evolution 7(4), 493-498.

    Examples
    --------
    >>> from mixef import lmer, load_dataset, power
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> sizes, slope = {"Subject": [6, 18]}, {"Days": 5}
    >>> found = power(fit, "Days", sizes=sizes, new_params=slope, n=100, seed=1)
    >>> list(found.frame.columns)
    ['Subject', 'nobs', 'power', 'conf_low', 'conf_high', 'n', 'failures']
    >>> few, many = found.frame["power"]
    >>> 0.2 < few < 0.55 < many < 0.95
    True
    >>> smaller = ". ~ . - (Days | Subject) + (1 | Subject)"
    >>> found = power(fit, smaller, sizes={"Subject": 4}, n=50, seed=1)
    >>> found.method, float(found.frame["power"][0])
    ('lrt', 0.72)
    """
    refuse_unknown(unknown, power)
    own = fit_of(fit, "fit")
    if callable(test) and not isinstance(test, type):
        test = partial(_of_model, test, type(fit))
    return powers.power(
        own,
        test,
        sizes=sizes,
        within=within,
        along=along,
        n=n,
        alpha=alpha,
        method=method,
        n_boot=n_boot,
        new_params=new_params,
        seed=seed,
        n_jobs=n_jobs,
        progress=progress,
    )


def _of_model(test: Callable[[Any], Any], model: type, fit: Fit) -> Any:
    """Return what a function of a model says of a fit."""
    return test(model(fit))
