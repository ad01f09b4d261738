"""SciPy's searches, for comparison with Newton's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

from mixef.estimation.search.criteria import Criterion
from mixef.estimation.search.optimize import Recorder, SearchResult, Step, StopReason
from mixef.estimation.search.trust_region import Quadratic


def scipy_search(
    criterion: Criterion,
    par: np.ndarray,
    method: str,
    max_evaluations: int = 1000,
    trace: Callable[[Step], None] | None = None,
) -> SearchResult:
    """Minimize by one of SciPy's searches, for comparison.

    Parameters
    ----------
    method : str
        "L-BFGS-B", which uses the exact gradient, or a derivative-free method.
    """
    recorder = Recorder(trace, None)
    with_gradient = method == "L-BFGS-B"

    def evaluate(x: np.ndarray) -> float | tuple[float, np.ndarray]:
        f = criterion.value(x)
        g = criterion.derivatives()[0] if with_gradient and np.isfinite(f) else None
        recorder.add(x, f, g)
        return (f, np.zeros_like(x) if g is None else g) if with_gradient else f

    options = {
        "L-BFGS-B": {"maxfun": max_evaluations, "ftol": 1e-15, "gtol": 1e-6},
        "Nelder-Mead": {"maxfev": max_evaluations, "xatol": 1e-7, "fatol": 1e-9},
        "Powell": {"maxfev": max_evaluations, "xtol": 1e-7, "ftol": 1e-14},
        "COBYLA": {"maxiter": max_evaluations, "tol": 1e-8},
    }[method]
    found = scipy.optimize.minimize(
        evaluate, par, method=method, jac=with_gradient, options=options
    )
    f = criterion.value(found.x)
    g, H = criterion.derivatives()
    here, log = Quadratic(g, H, criterion.scale(found.x)), tuple(recorder.log)
    reason = _reason_of(found, max_evaluations)
    return SearchResult(found.x, f, g, H, len(log), log, reason, here.promise, here)


def _reason_of(found: scipy.optimize.OptimizeResult, max_evaluations: int) -> StopReason:
    """Tell why SciPy stopped; its status codes differ by method and release."""
    if found.success:
        return StopReason.TOLERANCE
    return StopReason.EVALUATIONS if found.nfev >= max_evaluations else StopReason.GAVE_UP
