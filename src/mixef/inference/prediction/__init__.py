"""Fitted values and predictions, with their uncertainty."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
