"""What all groups of methods share."""

from __future__ import annotations

from mixef.inference.observations import AnyFit


class Methods:
    """A group of methods of a fitted model."""

    _fit: AnyFit
