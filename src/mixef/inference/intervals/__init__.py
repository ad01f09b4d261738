"""Confidence intervals: profiles of the likelihood, curvature, bootstrap."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
