"""Responses drawn from fits or from parameters."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
