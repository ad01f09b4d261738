"""The methods of a fitted model by theme; each is a few lines that call inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.late import modules_of

__getattr__ = modules_of(__name__)


class Methods:
    """A group of methods of a fitted model."""

    _fit: Fit
    #: The function that fits such models.
    _function: Callable[..., Any]

    def __init__(self, fit: Fit):
        if not isinstance(fit, Fit):
            name = self._function.__name__
            raise checks.refusal("fit", fit, f"what {name} makes: call {name}(formula, data)")
        self._fit = fit
