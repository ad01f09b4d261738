"""The numbers of a generalized fit on the user's scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class GeneralizedEstimates:
    """What the criterion determines at one set of parameters, on the user's scale.

    The arrays are read-only.

    Attributes
    ----------
    par : ndarray (k,)
        Covariance parameters, on the scale of the linear predictor.
    theta : ndarray
        Each term's lower triangle, column by column.
    lams : tuple of ndarray (s_t, s_t)
        Templates, one a term.
    beta : ndarray (p,)
    extra : float or None
        Dispersion or shape, where the family has one that is estimated.
    sigma : float
        Square root of the dispersion; 1 for families without.
    objective : float
        -2 log L, fully normalised.
    unscaled_vcov : ndarray (p, p)
        ``(X'V^-1 X)^-1`` at the working weights.
    effects : tuple of ndarray (l_t, s_t)
        Conditional modes b, one array a term.
    eta, mu : ndarray (n,)
        Linear predictor (offset included) and mean at the modes.
    log_density : float
        ``log f(y | u)`` at the modes.
    pwrss, ussq, ldL2, ldRX2 : float
        Penalized weighted residual sum of squares, ``|u|^2``, ``log|M|``, ``log|X'V^-1 X|``.
    """

    par: np.ndarray
    theta: np.ndarray
    lams: tuple[np.ndarray, ...]
    beta: np.ndarray
    extra: float | None
    sigma: float
    objective: float
    unscaled_vcov: np.ndarray
    effects: tuple[np.ndarray, ...]
    eta: np.ndarray
    mu: np.ndarray
    log_density: float
    pwrss: float
    ussq: float
    ldL2: float
    ldRX2: float

    def __post_init__(self) -> None:
        arrays = (self.par, self.theta, self.beta, self.unscaled_vcov, self.eta, self.mu)
        for array in (*arrays, *self.lams, *self.effects):
            array.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()
