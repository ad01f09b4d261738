"""What is read off a fit."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
