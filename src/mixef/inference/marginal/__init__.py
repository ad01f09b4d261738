"""Marginal means: estimates on a grid of predictors, their contrasts, slopes and tests."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
