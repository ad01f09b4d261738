"""What a criterion determines at one set of parameters, on the user's scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Estimates:
    """What a criterion determines at one set of parameters, on the user's scale.

    The arrays are read-only.
    """

    par: np.ndarray  # (k,): covariance parameters; of a linear model relative to sigma
    theta: np.ndarray  # each term's lower triangle, column by column
    lams: tuple[np.ndarray, ...]  # each (s_t, s_t): templates, one a term
    beta: np.ndarray  # (p,)
    extra: Any  # auxiliary parameters: a number, a tuple of several; None without any
    sigma: float  # square root of the dispersion; 1 for families without
    objective: float  # what was minimized
    #: Standard error of ``objective``; 0 where it is exact.
    objective_se: float
    #: (p, p): ``(X'V^-1 X)^-1``: the covariance of beta over sigma^2 in a linear model, at the
    #: working weights in a generalized one.
    unscaled_vcov: np.ndarray
    effects: tuple[np.ndarray, ...]  # each (l_t, s_t): conditional modes b, one array a term
    #: `pwrss`, `ussq`, `ldL2`, `ldRX2`: penalized weighted residual sum of squares, ``|u|^2``,
    #: ``log|M|``, ``log|X'V^-1 X|``.
    pwrss: float
    ussq: float
    ldL2: float
    ldRX2: float
    #: (q,): spherical modes of the scaled problem, from which a generalized fit finds them again.
    u: np.ndarray | None = None
    #: `eta`, `mu`: (n,); linear predictor (offset included) and mean at the modes; a linear fit
    #: makes them at need.
    eta: np.ndarray | None = None
    mu: np.ndarray | None = None

    def __post_init__(self) -> None:
        for value in vars(self).values():
            for array in value if isinstance(value, tuple) else (value,):
                if isinstance(array, np.ndarray):
                    array.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()
