"""What single rows and groups do to a fit: leverage, deletion, Cook's distance."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
