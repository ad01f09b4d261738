"""Options of a fit: the search, and what each check of the data or the end does."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from mixef import checks
from mixef.errors import MixefError, MixefWarning, warn
from mixef.text.made import Made

Action = Literal["ignore", "warn", "raise"]
ACTIONS = ("ignore", "warn", "raise")
INFORMATION = ("expected", "observed")
#: Searches by name; all but "newton" are SciPy's.
OPTIMIZERS = ("newton", "L-BFGS-B", "Nelder-Mead", "Powell", "COBYLA")
#: Factors of the random effects by name; "auto" takes the one that is foreseen to be fastest.
FACTORS = ("auto", "dense", "schur", "cholmod", "simplicial", "iterative")
#: Standard error of the criterion, where log|M| is an estimate.
OBJECTIVE_SE = 0.005


@dataclass(frozen=True)
class Control(Made):
    """Options that linear and generalized models share; each check is an `Action`.

    Attributes
    ----------
    optimizer : str
        "newton" (exact gradient, average information), or one of SciPy's "L-BFGS-B" (exact
        gradient), "Nelder-Mead", "Powell" and "COBYLA" (no derivatives).
    max_evaluations : int
        Evaluations of the criterion after which the search stops.
    check_nobs_vs_nlev : str
        A grouping factor has as many levels as there are observations.
    check_nobs_vs_nRE : str
        A term has as many random effects as there are observations.
    check_nlev_gtr_1 : str
        A grouping factor has one level only.
    check_nlev_gtreq_5 : str
        A grouping factor has fewer than five levels.
    check_rankX : str
        Fixed-effect columns are combinations of earlier ones; unless this raises they are dropped.
    check_scaleX : str
        Fixed-effect columns are on very different scales (harmless here: all are scaled inside).
    check_duplicate_terms : str
        A random-effects coefficient occurs twice for one grouping factor.
    check_conv_grad : str
        The exact gradient does not vanish at the end.
    check_conv_hess : str
        The curvature at the end is not that of a minimum, or is flat.
    check_conv_singular : str
        A random-effects covariance is singular.
    factor : str
        How the random effects are factored: "dense", by one LAPACK Cholesky factor; "schur", which
        eliminates one grouping factor first and keeps what is left dense; "cholmod" (with
        scikit-sparse) or "simplicial" (our own), which are sparse; "iterative": large crossed
        grouping factors are never factored (one by itself always is), and the criterion has a
        standard error, ``fit.objective_se``; or "auto", the one of the exact ones that is foreseen
        to be fastest, and "iterative" where an exact factor does not fit into memory, or would take
        long for two terms of one column each. All give the same estimates, standard errors and
        modes.
    objective_se : float
        The largest standard error of the criterion at the end, where ``factor`` is iterative: half
        of it takes four times the random vectors. Estimates do not depend on it.
    """

    optimizer: str = "newton"
    max_evaluations: int = 1000
    check_nobs_vs_nlev: Action = "raise"
    check_nobs_vs_nRE: Action = "raise"
    check_nlev_gtr_1: Action = "raise"
    check_nlev_gtreq_5: Action = "ignore"
    check_rankX: Action = "warn"
    check_scaleX: Action = "ignore"
    check_duplicate_terms: Action = "warn"
    check_conv_grad: Action = "warn"
    check_conv_hess: Action = "warn"
    check_conv_singular: Action = "warn"
    factor: str = field(default="auto", kw_only=True)
    objective_se: float = field(default=OBJECTIVE_SE, kw_only=True)

    def __post_init__(self) -> None:
        self._check("optimizer", checks.option, OPTIMIZERS)
        self._check("max_evaluations", checks.whole)
        self._check("factor", checks.option, FACTORS)
        self._check("objective_se", checks.number, 1e-9, "a number above 0")
        for each in fields(self):
            if each.name.startswith("check_"):
                self._check(each.name, checks.option, ACTIONS)

    def quiet(self, *but: str) -> Self:
        """Return the control with every check that only warns passed over, but for some."""
        checks = [each.name for each in fields(self) if each.name.startswith("check_")]
        loud = [name for name in checks if getattr(self, name) == "warn" and name not in but]
        return replace(self, **dict.fromkeys(loud, "ignore"))  # type: ignore[arg-type]

    def _facts(self) -> dict[str, str]:
        values = {each.name: str(getattr(self, each.name)) for each in fields(self)}
        return {type(self).__name__: "Value"} | values

    def _check(self, name: str, check: Any, *known: Any) -> None:
        object.__setattr__(self, name, check(getattr(self, name), name, *known))


@dataclass(frozen=True)
class LmerControl(Control):
    """Options of `lmer`; each check is one of "ignore", "warn" and "raise".

    The attributes are those of `Control`.

    Examples
    --------
    >>> from mixef import LmerControl
    >>> LmerControl(check_conv_singular="ignore").optimizer
    'newton'
    """


@dataclass(frozen=True)
class GlmerControl(Control):
    """Options of `glmer`; each check is one of "ignore", "warn" and "raise".

    The attributes are those of `Control`, and the following. For families without a scale
    (binomial, Poisson) a grouping factor may have one level an observation.

    Attributes
    ----------
    information : {"expected", "observed"}, optional
        The weights in ``log|M|``: by expected information, as in lme4, or by observed
        information, as in glmmTMB, which is Laplace's approximation to the letter. The two
        agree for canonical links. By default it is what the family says: expected for binomial
        and Poisson, observed for families with a scale or a shape.
    check_response_not_const : str
        All observations have one value.
    check_separation : str
        A combination of predictors separates the responses, so that coefficients are infinite.
    check_laplace : str
        Laplace's approximation is poor, or is that by expected information where the observed
        one leads nowhere; or quadrature has too few nodes.

    Examples
    --------
    >>> from mixef import GlmerControl
    >>> GlmerControl(information="observed").check_separation
    'warn'
    """

    information: str | None = None
    check_response_not_const: Action = "raise"
    check_separation: Action = "warn"
    check_laplace: Action = "warn"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("information", checks.option, (*INFORMATION, None))


def act(action: Action, message: str, error: type[MixefError], warning: type[MixefWarning]) -> None:
    """Do what a check's action says with its message."""
    if action == "raise":
        raise error(message)
    if action == "warn":
        warn(message, warning)
