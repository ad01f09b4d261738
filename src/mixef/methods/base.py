"""What all groups of methods share."""

from __future__ import annotations

from mixef.inference import observations


class Methods:
    """A group of methods of a fitted model."""

    _fit: observations.AnyFit
