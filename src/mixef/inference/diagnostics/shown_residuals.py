"""Residuals as pictures show them: of a type, with what they are drawn against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from mixef import checks
from mixef.errors import DataError, FitError
from mixef.estimation.fit import Fit
from mixef.inference.diagnostics.simulated_residuals import simulated_residuals
from mixef.inference.residuals import RESIDUALS, residual_values

SIMULATED = "simulated"
TYPES = (*RESIDUALS, SIMULATED)
DRAWS = 250


@dataclass(frozen=True, eq=False)
class ShownResiduals:
    """Residuals (n,) of a type and the means (n,) that they are drawn against.

    Attributes
    ----------
    type : str
    values, fitted : ndarray (n,)
    standard : ndarray (n,)
        The same on the scale of a standard normal variable.
    conditional : bool
        Whether the means are at the conditional modes; else random effects are at zero.
    """

    type: str
    values: np.ndarray
    fitted: np.ndarray
    standard: np.ndarray
    conditional: bool

    def __repr__(self) -> str:
        return f"<ShownResiduals: {self.type}, {len(self.values)} rows>"

    @property
    def centre(self) -> float:
        """What they are around."""
        return 0.0 if self.conditional else 0.5


def shown_residuals(
    fit: Fit, type: str | None, seed: int | np.random.Generator | None
) -> ShownResiduals:
    """Return the residuals of a type; by default what a picture of such a model needs.

    These are residuals of the response in a linear model, and simulated ones in others, or those
    of the deviance where the family has no draws.
    """
    if type is None and not fit.is_linear:
        try:
            return _simulated(fit, seed)
        except (FitError, DataError):  # a family of a user's own, without draws
            type = "deviance"
    type = checks.option("response" if type is None else type, "type", TYPES)
    if type == SIMULATED:
        return _simulated(fit, seed)
    checks.generator(seed)
    values = residual_values(fit, type)
    standard = residual_values(fit, "pearson") if type == "response" else values
    return ShownResiduals(type, values, fit.mu, standard / fit.estimates.sigma, True)


def _simulated(fit: Fit, seed: int | np.random.Generator | None) -> ShownResiduals:
    found = simulated_residuals(fit, DRAWS, seed)
    u, half = found.draws.scaled, 0.5 / DRAWS
    mean = np.asarray(fit.family.link.inverse(fit.fixed_predictor), dtype=float)
    standard = scipy.special.ndtri(np.clip(u, half, 1.0 - half))
    return ShownResiduals(SIMULATED, u, mean, standard, False)
