"""Linear and generalized linear mixed models from an lme4 formula."""

from mixef.control import LmerControl
from mixef.datasets import datasets, load_dataset
from mixef.lmm import LinearMixedModel, lmer

__all__ = ["LinearMixedModel", "LmerControl", "datasets", "lmer", "load_dataset"]
__version__ = "0.1.0"
