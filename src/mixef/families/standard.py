"""The families by name: R's, the negative binomial, and those of a user's own."""

from mixef.families.continuous import Gamma, Gaussian, InverseGaussian
from mixef.families.counts import Binomial, Poisson
from mixef.families.dispersed import BetaBinomial, NegativeBinomial1
from mixef.families.family import Family
from mixef.families.negative_binomial import NegativeBinomial
from mixef.families.proportions import Beta
from mixef.families.robust import StudentT
from mixef.families.user import UserFamily

__all__ = [
    "FAMILIES",
    "Beta",
    "BetaBinomial",
    "Binomial",
    "Gamma",
    "Gaussian",
    "InverseGaussian",
    "NegativeBinomial",
    "NegativeBinomial1",
    "Poisson",
    "StudentT",
    "UserFamily",
]

_CLASSES: tuple[type[Family], ...] = (
    Binomial, Poisson, Gamma, InverseGaussian, Gaussian, NegativeBinomial, NegativeBinomial1,
    Beta, BetaBinomial, StudentT,
)  # fmt: skip
#: One name a family, as a user writes it.
NAMES = tuple(c.name if isinstance(c.name, str) else c.spellings[-1] for c in _CLASSES)
#: From the names of a family, in lower case, to its class.
FAMILIES: dict[str, type[Family]] = {
    name: cls
    for cls in _CLASSES
    for name in (*([cls.name.lower()] if isinstance(cls.name, str) else []), *cls.spellings)
}
