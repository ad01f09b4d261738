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
from mixef.functions.all_fit import all_fit
from mixef.functions.anova import anova
from mixef.functions.exact_rlrt import exact_rlrt
from mixef.functions.lm_list import lm_list
from mixef.functions.resampling import pb_test, power
from mixef.functions.simulate_from import simulate_from
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
    "all_fit",
    "anova",
    "datasets",
    "exact_rlrt",
    "glmer",
    "glmer_nb",
    "lm_list",
    "lmer",
    "load_dataset",
    "pb_test",
    "power",
    "simulate_from",
]
__version__ = "0.1.0"
