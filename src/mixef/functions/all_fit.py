"""One model by every optimizer: `all_fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixef.hints import refuse_unknown
from mixef.inference.refits.all_fit import MAX_EVALUATIONS, AllFit, attempts, compare
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
