"""What a criterion determines at one set of parameters, on the user's scale."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Estimates:
    """What a criterion determines at one set of parameters, on the user's scale.

    The arrays are read-only.

    Attributes
    ----------
    par : ndarray (k,)
        Covariance parameters; of a linear model relative to sigma.
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
        What was minimized.
    unscaled_vcov : ndarray (p, p)
        ``(X'V^-1 X)^-1``: the covariance of beta over sigma^2 in a linear model, at the working
        weights in a generalized one.
    effects : tuple of ndarray (l_t, s_t)
        Conditional modes b, one array a term.
    pwrss, ussq, ldL2, ldRX2 : float
        Penalized weighted residual sum of squares, ``|u|^2``, ``log|M|``, ``log|X'V^-1 X|``.
    u : ndarray (q,) or None
        Spherical modes of the scaled problem, from which a generalized fit finds them again.
    eta, mu : ndarray (n,) or None
        Linear predictor (offset included) and mean at the modes; a linear fit makes them at need.
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
    pwrss: float
    ussq: float
    ldL2: float
    ldRX2: float
    u: np.ndarray | None = None
    eta: np.ndarray | None = None
    mu: np.ndarray | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            for array in value if isinstance(value, tuple) else (value,):
                if isinstance(array, np.ndarray):
                    array.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()
