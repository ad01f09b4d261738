"""What is refitted to draws: bootstrap, tests by simulation, power."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
