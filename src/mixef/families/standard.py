"""The families that R's glm has, the negative binomial, and those of a user's own."""

from collections.abc import Callable

from mixef.families.continuous import Gamma, Gaussian, InverseGaussian
from mixef.families.counts import Binomial, NegativeBinomial, Poisson
from mixef.families.family import Family
from mixef.families.user import UserFamily

__all__ = [
    "FAMILIES",
    "Binomial",
    "Gamma",
    "Gaussian",
    "InverseGaussian",
    "NegativeBinomial",
    "Poisson",
    "UserFamily",
]

#: In lower case; the negative binomial goes by several names.
FAMILIES: dict[str, Callable[..., Family]] = {
    "binomial": Binomial,
    "bernoulli": Binomial,
    "poisson": Poisson,
    "gamma": Gamma,
    "inverse.gaussian": InverseGaussian,
    "inversegaussian": InverseGaussian,
    "gaussian": Gaussian,
    "normal": Gaussian,
    "negative.binomial": NegativeBinomial,
    "negativebinomial": NegativeBinomial,
    "negative binomial": NegativeBinomial,
    "nbinom2": NegativeBinomial,
}
