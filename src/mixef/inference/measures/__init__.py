"""Measures of a model as a whole: shares of variance, collinearity, criteria of several models."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
