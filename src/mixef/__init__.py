"""Linear and generalized linear mixed models from an lme4 formula."""

from mixef.control import GlmerControl, LmerControl
from mixef.datasets import datasets, load_dataset
from mixef.estimation.quadrature import GHrule
from mixef.families.family import Family
from mixef.families.link import Link, UserLink
from mixef.families.standard import (
    Binomial,
    Gamma,
    Gaussian,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
    UserFamily,
)
from mixef.glmm import GeneralizedLinearMixedModel, glmer, glmer_nb
from mixef.lmm import LinearMixedModel, lmer

__all__ = [
    "Binomial",
    "Family",
    "GHrule",
    "Gamma",
    "Gaussian",
    "GeneralizedLinearMixedModel",
    "GlmerControl",
    "InverseGaussian",
    "LinearMixedModel",
    "Link",
    "LmerControl",
    "NegativeBinomial",
    "Poisson",
    "UserFamily",
    "UserLink",
    "datasets",
    "glmer",
    "glmer_nb",
    "lmer",
    "load_dataset",
]
__version__ = "0.1.0"
