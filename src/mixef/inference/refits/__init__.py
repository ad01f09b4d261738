"""Further fits: of other responses, smaller models, other optimizers, single groups."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
