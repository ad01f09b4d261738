"""Response distributions and link functions."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
