"""The methods of a fitted model by theme; each is a few lines that call inference."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
