"""Whether a model fits: simulated residuals with their tests, and a report of its health."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
