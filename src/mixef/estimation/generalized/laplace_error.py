"""How far Laplace's approximation is from the integral: the next terms of its expansion.

With observed weights W_o at the mode, ``M_o = U'W_o U + I``, ``H = U M_o^-1 U'``, ``h = diag(H)``
and derivatives of the weights for eta, the log of the integral is Laplace's plus

    - sum h^2 W'' / 8  +  c'Hc / 8  +  sum_ij W'_i W'_j H_ij^3 / 12  +  ...,      c = h W'

(L. Tierney and J. B. Kadane, 1986, Journal of the American Statistical Association 81, 82-86). The
third sum is taken as ``c'Hc / 12``, which it is for one scalar effect a row. Where ``log|M|`` has
expected weights, half its difference from ``log|M_o|`` comes on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixef.estimation.generalized.passes import ErrorSums
from mixef.estimation.generalized.pirls import RowModel

# The expansion is one in the reciprocal of what the data say of an effect: it is good while its
# next terms are a small part of the effective number of effects.
LARGE = 0.15


@dataclass(frozen=True)
class LaplaceError:
    """The next terms of the expansion of a log-likelihood."""

    shift: float  # Their sum, roughly what the log-likelihood lacks
    size: float  # The sum of their sizes
    effective: float  # Effective number of random effects, ``tr(U M^-1 U'W_o)``

    @property
    def ratio(self) -> float:
        """The terms' size beside the effective number of effects."""
        return self.size / abs(self.effective) if self.effective else 0.0

    @property
    def is_large(self) -> bool:
        """Whether the approximation is poor."""
        return not self.ratio < LARGE


def laplace_error(
    model: RowModel, lams: Sequence[np.ndarray], sums: ErrorSums, between: float
) -> LaplaceError:
    """Return the next terms at the mode, where the factor stands at ``M_o``.

    Parameters
    ----------
    sums : ErrorSums
        With h as it is in ``log|M|``.
    between : float
        ``log|M| - log|M_o|``.
    """
    right = model.groups.layout.multiply(lams, sums.c_z, transpose=True)
    bound = float(right @ model.factor.solve(right))
    terms = (0.5 * between, -sums.second / 8.0, bound * 5.0 / 24.0)
    return LaplaceError(sum(terms), sum(map(abs, terms)), sums.effective)
