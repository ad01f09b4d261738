"""What all groups of methods share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mixef.estimation.fit import Fit


class Methods:
    """A group of methods of a fitted model."""

    _fit: Fit
    #: The function that fits such models.
    _function: Callable[..., Any]

    def __init__(self, fit: Fit):
        self._fit = fit
