"""Linear and generalized linear mixed models from an lme4 formula.

Importing mixef loads little more than NumPy and pandas: each name below is loaded where it is
first asked for (`PEP 562 <https://peps.python.org/pep-0562>`_).
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mixef.datasets import datasets, load_dataset
from mixef.late import load

if TYPE_CHECKING:  # what _HOMES says, for editors and type checkers
    from mixef.control import GlmerControl, LmerControl
    from mixef.estimation.generalized.quadrature import GHrule
    from mixef.families.family import Family
    from mixef.families.link import Link, UserLink
    from mixef.families.standard import (
        Beta,
        BetaBinomial,
        Binomial,
        Gamma,
        Gaussian,
        InverseGaussian,
        NegativeBinomial,
        NegativeBinomial1,
        Poisson,
        StudentT,
        UserFamily,
    )
    from mixef.functions.anova import anova, compare
    from mixef.functions.fits import all_fit, lm_list
    from mixef.functions.model_matrices import model_matrices
    from mixef.functions.resampling import exact_rlrt, pb_test, power
    from mixef.functions.selection import delta_method, ranova, step
    from mixef.functions.simulate_from import simulate_from
    from mixef.functions.tables import etable, report
    from mixef.glmm import GeneralizedLinearMixedModel, glmer, glmer_nb
    from mixef.lmm import LinearMixedModel, lmer

_HOMES = {
    "control": ("GlmerControl", "LmerControl"),
    "estimation.generalized.quadrature": ("GHrule",),
    "families.family": ("Family",),
    "families.link": ("Link", "UserLink"),
    "families.standard": (
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
    ),
    "functions.anova": ("anova", "compare"),
    "functions.fits": ("all_fit", "lm_list"),
    "functions.model_matrices": ("model_matrices",),
    "functions.resampling": ("exact_rlrt", "pb_test", "power"),
    "functions.selection": ("delta_method", "ranova", "step"),
    "functions.simulate_from": ("simulate_from",),
    "functions.tables": ("etable", "report"),
    "glmm": ("GeneralizedLinearMixedModel", "glmer", "glmer_nb"),
    "lmm": ("LinearMixedModel", "lmer"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Beta",
    "BetaBinomial",
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
    "NegativeBinomial1",
    "Poisson",
    "StudentT",
    "UserFamily",
    "UserLink",
    "all_fit",
    "anova",
    "compare",
    "datasets",
    "delta_method",
    "etable",
    "exact_rlrt",
    "glmer",
    "glmer_nb",
    "lm_list",
    "lmer",
    "load_dataset",
    "model_matrices",
    "pb_test",
    "power",
    "ranova",
    "report",
    "simulate_from",
    "step",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name, or a module of mixef, where it is first asked for."""
    if name in _HOME:
        value = getattr(load(f"{__name__}.{_HOME[name]}"), name)
    elif find_spec(f"{__name__}.{name}") is not None:
        value = load(f"{__name__}.{name}")
    else:
        raise AttributeError(_hint(name) or f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _hint(name: str) -> str | None:
    """Return where a name of other packages is here; None if it is not known."""
    if name.startswith("_"):
        return None
    found: str | None = load(f"{__name__}.hints").name_hint(
        name, load(f"{__name__}.lmm").LinearMixedModel
    )
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
