"""One model by every optimizer, and one regression a group: `all_fit` and `lm_list`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mixef import checks
from mixef.arguments import frame_of, model_call, names_for, with_data_read
from mixef.families.convert import make_family
from mixef.hints import refuse_unknown
from mixef.inference.refits.all_fit import MAX_EVALUATIONS, AllFit, attempts, compare
from mixef.inference.refits.lm_list import grouped_formula, separate_fits
from mixef.inference.refits.separate import SeparateRegressions
from mixef.mixedmodel import MixedModel, fit_of


def all_fit(
    fit: MixedModel,
    optimizers: Sequence[str] | None = None,
    *,
    start_from_mle: bool = False,
    start: Any = None,
    max_evaluations: int = MAX_EVALUATIONS,
    n_jobs: int = 1,
    progress: bool | None = None,
    **unknown: Any,
) -> AllFit:
    """Fit a model again with every optimizer, to see whether they agree.

    Parameters
    ----------
    fit : LinearMixedModel or GeneralizedLinearMixedModel
        Its data are used again, not read again.
    optimizers : sequence of str, optional
        Some of "newton", "L-BFGS-B", "Nelder-Mead", "Powell" and "COBYLA"; all by default.
    start_from_mle : bool
        Start at the estimates of ``fit``, or where a fit starts by itself: at moment estimates,
        which in balanced data are the optimum.
    start : array (k,) or dict, optional
        Start elsewhere; as in `lmer` and `glmer`.
    max_evaluations : int
        Evaluations of the criterion after which a search stops.
    n_jobs : int
        Processes; -1 for one a core.
    progress : bool, optional
        Show a progress bar; by default where it takes long.

    Returns
    -------
    AllFit
        An optimizer that fails is kept with its error.

    Raises
    ------
    ValueError
        For an optimizer that is not known.

    Examples
    --------
    >>> from mixef import all_fit, lmer, load_dataset
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> fits = all_fit(fit, ["newton", "L-BFGS-B", "Powell"])
    >>> fits.agree
    True
    >>> fits.summary().llik.round(4).tolist()
    [-871.8141, -871.8141, -871.8141]
    """
    refuse_unknown(unknown, all_fit)
    tried = attempts(
        fit_of(fit, "fit"), optimizers, start_from_mle, start, max_evaluations, n_jobs, progress
    )
    models = {a.optimizer: type(fit)(a.fit) for a in tried if a.fit is not None}
    return AllFit(models, compare(fit.formula, tried))


def lm_list(
    formula: str,
    data: Any = None,
    family: Any = None,
    *,
    pool: bool = True,
    weights: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    contrasts: dict[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> SeparateRegressions:
    """Fit a regression of its own to each level of a grouping factor.

    All groups are fitted at once. Factors are coded, and bases such as ``poly(x, 2)`` are made,
    from all rows, so that a coefficient means the same in every group.

    Parameters
    ----------
    formula : str
        ``"y ~ x | g"``: one grouping factor right of the bar.
    data : DataFrame
        pandas, polars, pyarrow, or a dict of arrays.
    family : Family, type or str, optional
        A generalized linear model with this family; a linear model by default.
    pool : bool
        Whether the groups share one residual variance (or dispersion) in standard errors, tests
        and intervals. A family without a dispersion has none to share.
    weights, offset : str or array (n,), optional
        Prior weights, and a known part of the linear predictor.
    subset : str or array, optional
        Rows to use.
    na_action : {"omit", "exclude", "fail"}
        What is done with rows that have missing values.
    contrasts : dict, optional
        From factor to "treatment", "sum", "helmert", "poly" or a matrix.
    env : dict, optional
        As in `lmer`: the names that text may use; ``{}`` for none.

    Returns
    -------
    SeparateRegressions

    Raises
    ------
    FormulaError
        If the formula does not have the form ``y ~ x | g``.
    DataError
        If the rows of no group determine all coefficients.

    Warns
    -----
    DataWarning
        Naming the groups that lack a coefficient, did not converge, or are separated.

    References
    ----------
    J. C. Pinheiro and D. M. Bates (2000), Mixed-Effects Models in S and S-PLUS, section 4.1.

    Examples
    --------
    >>> from mixef import lm_list, load_dataset
    >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
    >>> fits.coef().loc["308"].round(3).to_dict()
    {'(Intercept)': 244.193, 'Days': 21.765}
    >>> round(fits.sigma, 4), fits.df_residual
    (25.5918, 144)
    """
    refuse_unknown(unknown, lm_list)
    pool = checks.flag(pool, "pool")
    names = names_for(env, sys._getframe(1))
    call = model_call(data, names, weights=weights, offset=offset, subset=subset,
                      na_action=na_action, contrasts=contrasts)  # fmt: skip
    parsed = grouped_formula(formula)
    call = with_data_read(parsed, call)
    frame = frame_of(parsed, call, names)
    chosen = None if family is None else make_family(family)
    return separate_fits(parsed, frame, chosen, pool, call)
