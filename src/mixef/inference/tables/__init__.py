"""Frames after broom, fits side by side, and reports in sentences."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
