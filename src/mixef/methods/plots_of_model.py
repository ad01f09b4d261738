"""Pictures of what a fitted model says: effects, profiles, factors."""

from __future__ import annotations

from mixef.estimation.fit import Fit


class ModelPlots:
    """Pictures of what a fitted model says."""

    _fit: Fit
