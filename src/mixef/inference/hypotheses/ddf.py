"""F and t tests of linear hypotheses, by several rules for denominator degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from scipy.linalg.lapack import dgejsv

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.kenward_roger import kenward_roger
from mixef.inference.tails import f_tail, t_quantile, t_tail

EQUAL = 1e-8
# Degrees of freedom of which t is the normal distribution.
LARGEST = 1e15


@dataclass(frozen=True)
class Satterthwaite:
    """What Satterthwaite's approximation needs of a fit.

    The variance of ``l'beta`` is a function of the covariance parameters phi. By the delta method
    its own variance is ``g'Ag``, with the slopes g and the asymptotic covariance A of phi, and the
    scaled chi-square of the same two moments has ``2 (l'Vl)^2 / g'Ag`` degrees of freedom
    (eq-beyond-satterthwaite in docs/theory).

    References
    ----------
    F. G. Giesbrecht and J. C. Burns (1985), Two-stage analysis based on a mixed model,
    Biometrics 41, 477-486. A. H. Fai and P. L. Cornelius (1996), Approximate F-tests of multiple
    degree of freedom hypotheses, Journal of Statistical Computation and Simulation 54, 363-378.
    """

    beta: np.ndarray  # (p,)
    vcov: np.ndarray  # (p, p): V, the covariance of beta
    # (K, p, p): derivatives of V for phi: the scaled covariance parameters and log sigma
    slopes: np.ndarray
    # (K, K): A, twice the inverse Hessian of -2 log L (of the REML criterion for a REML fit)
    covariance: np.ndarray

    def row_df(self, L: np.ndarray) -> np.ndarray:
        """Return the degrees of freedom (m,) of every row of L (m, p) by itself."""
        variance = np.einsum("mi,ij,mj->m", L, self.vcov, L, optimize=True)
        slope = np.einsum("mi,kij,mj->mk", L, self.slopes, L, optimize=True)
        spread = np.einsum("mk,kl,ml->m", slope, self.covariance, slope, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 2.0 * variance**2 / spread

    def joint(self, D: np.ndarray) -> tuple[float, float]:
        """Return denominator df and scaling of F, for directions D (q, p) with ``D V D' = I``.

        F is a mean of q squared t statistics, so its expectation is ``E / q``, where E is the sum
        of ``nu / (nu - 2)``, and F with d degrees of freedom has expectation ``d / (d - 2)``.
        """
        nu = np.minimum(self.row_df(D), LARGEST)
        if np.ptp(nu) <= EQUAL * nu.max():
            return float(nu.mean()), 1.0
        if not (nu > 2.0).all():
            return 2.0, 1.0  # a t statistic with so few has no variance, nor F an expectation
        # E - q, as a sum without cancellation.
        excess = float((2.0 / (nu - 2.0)).sum())
        return 2.0 * (len(nu) + excess) / excess, 1.0


def satterthwaite(fit: Fit) -> Satterthwaite:
    """Return what Satterthwaite's approximation needs of a fit, by ML or REML."""
    covariance, _ = fit.search_covariance()
    return Satterthwaite(fit.estimates.beta, fit.model_vcov, fit.curvature.vcov_slopes, covariance)


AUTO, SATTERTHWAITE, KENWARD_ROGER = "auto", "satterthwaite", "kenward-roger"
NAMES = {SATTERTHWAITE: "Satterthwaite", KENWARD_ROGER: "Kenward-Roger"}
# What every table says whose numbers are not those of the fit by maximum likelihood.
REFITTED = "on a refit by REML"
_SPELLINGS = {name: name for name in NAMES} | {
    "kr": KENWARD_ROGER, "lme4": None, "asymptotic": None,
}  # fmt: skip
# A row of a hypothesis of which less is left, beside the others and in standard errors, depends
# on them.
DEPENDENT = 1e-8


class Approximation(Protocol):
    """A rule for the distribution of test statistics."""

    @property
    def beta(self) -> np.ndarray:
        """Coefficients (p,) that are tested."""

    @property
    def vcov(self) -> np.ndarray:
        """Their covariance (p, p), which standard errors and F come from."""

    def row_df(self, L: np.ndarray) -> np.ndarray:
        """Return the degrees of freedom (m,) of every row of L (m, p) by itself."""

    def joint(self, D: np.ndarray) -> tuple[float, float]:
        """Return denominator degrees of freedom and scaling of F, for directions (q, p)."""


class ChosenCovariance(Protocol):
    """A covariance that was chosen for the tests of a fit, in the place of the model's own."""

    @property
    def matrix(self) -> np.ndarray:
        """The covariance (p, p) of the coefficients."""

    @property
    def rules(self) -> tuple[str | None, ...]:
        """Its rules for degrees of freedom, by name; the first is taken for "auto"."""

    @property
    def label(self) -> str:
        """What it is, in a few words."""

    def method(self, rule: str | None, joint: bool) -> str:
        """Return what tests by a rule are, in words."""

    def approximation(self, fit: Fit, rule: str) -> Approximation:
        """Return the approximation by a rule."""


@dataclass(frozen=True)
class Asymptotic:
    """Normal and chi-square distributions, which take the covariance parameters as known."""

    beta: np.ndarray
    vcov: np.ndarray

    def row_df(self, L: np.ndarray) -> np.ndarray:
        """Return infinity for every row of L (m, p)."""
        return np.full(len(L), np.inf)

    def joint(self, D: np.ndarray) -> tuple[float, float]:
        """Return infinite degrees of freedom and no scaling."""
        return np.inf, 1.0


@dataclass(frozen=True)
class FTest:
    """A joint test of linear hypotheses."""

    # F; ``num_df`` times it is the chi-square statistic where ``den_df`` is infinite
    statistic: float
    num_df: int  # Independent rows of the hypothesis
    den_df: float
    p_value: float


@dataclass(frozen=True)
class TTests:
    """Tests of every row of a linear hypothesis by itself."""

    estimate: np.ndarray  # (m,): ``L beta``, the right-hand side not taken off
    std_error: np.ndarray  # (m,): infinite df stand for a z test
    df: np.ndarray  # (m,)
    statistic: np.ndarray  # (m,)

    @property
    def p_value(self) -> np.ndarray:
        """Two-sided p values (m,)."""
        return t_tail(self.statistic, self.df)

    def limits(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the confidence limits (m,), (m,) of ``L beta``."""
        half = t_quantile(0.5 + 0.5 * level, self.df) * self.std_error
        return self.estimate - half, self.estimate + half


def check_ddf(fit: Fit, ddf: Any) -> str | None:
    """Return the rule's name: "satterthwaite", "kenward-roger", or None for asymptotic tests.

    "auto" is Satterthwaite's for a linear model and asymptotic for a generalized one. Spellings of
    lmerTest ("Satterthwaite", "Kenward-Roger", "KR", "lme4") are taken too. A covariance that was
    chosen for the fit has rules of its own.
    """
    chosen, linear = fit.beta_covariance, fit.is_linear
    if chosen is not None:
        return _rule_of_chosen(chosen, ddf)
    known = (*NAMES, None) if linear else (None,)
    rule = checks.option(ddf, "ddf", (AUTO, *known), _SPELLINGS)
    if rule == AUTO:
        return SATTERTHWAITE if linear else None
    if rule is not None and not linear:
        raise ArgumentError(
            f"ddf is {ddf!r}, but a generalized model has z tests and chi-square tests, without "
            "denominator degrees of freedom; expected None"
        )
    return rule


def _rule_of_chosen(chosen: ChosenCovariance, ddf: Any) -> str | None:
    """Return the name of one of the rules that a chosen covariance has."""
    known = tuple(dict.fromkeys((AUTO, *NAMES, *chosen.rules, None)))
    rule = checks.option(ddf, "ddf", known, _SPELLINGS)
    if rule == AUTO:
        return chosen.rules[0]
    if rule not in chosen.rules:
        raise ArgumentError(
            f"ddf is {ddf!r}, which is for the model's own covariance, but tests of this fit go by "
            f"{chosen.label}; expected {checks.either((AUTO, *chosen.rules))}, or "
            "with_vcov(None) for the model's own"
        )
    return rule


def refuse_chosen(fit: Fit, what: str, instead: str = "") -> None:
    """Refuse what goes by the model, for a fit for which another covariance was chosen."""
    if fit.beta_covariance is not None:
        raise ArgumentError(
            f"{what} by the model, but tests of this fit go by {fit.beta_covariance.label}; "
            f"{instead}call with_vcov(None) for the model's own covariance"
        )


def approximation(fit: Fit, ddf: str | None = "auto") -> Approximation:
    """Return the rule for the distribution of test statistics of a fit, computed once a fit.

    It goes by the covariance that was chosen for the fit, if one was. Kenward and Roger's rule is
    for REML: an ML fit is refitted, and what is tested are the coefficients of the refit.
    """
    rule = check_ddf(fit, ddf)
    if rule is None:
        return Asymptotic(fit.estimates.beta, fit.vcov)
    if fit.beta_covariance is not None:
        chosen: Approximation = fit.beta_covariance.approximation(fit, rule)
        return chosen
    return model_approximation(fit, rule)


def model_approximation(fit: Fit, rule: str) -> Approximation:
    """Return a rule for the model's own covariance, computed once a fit."""
    fit = fit if fit.whole is None else fit.whole
    made = _MADE.setdefault(fit, {})
    if rule not in made:
        tested = tested_fit(fit, rule)
        made[rule] = satterthwaite(tested) if rule == SATTERTHWAITE else kenward_roger(tested)
    return made[rule]


def has_z_tests(fit: Fit, ddf: str | None = "auto") -> bool:
    """Tell whether tests are z and chi-square tests with p values.

    Without a rule, a linear model has lme4's t values alone, unless a covariance was chosen.
    """
    rule = check_ddf(fit, ddf)
    return rule is None and not (fit.is_linear and fit.beta_covariance is None)


def is_refitted(fit: Fit, ddf: str | None = "auto") -> bool:
    """Tell whether tests are those of a refit by REML: Kenward and Roger's, of an ML fit."""
    return check_ddf(fit, ddf) == KENWARD_ROGER and not fit.REML


def column_name(fit: Fit, ddf: str | None = "auto") -> str | None:
    """Name what the numbers of a frame are by, where it is not the fit and its model alone."""
    if fit.beta_covariance is not None:
        label: str = fit.beta_covariance.label
        return label
    return REFITTED if is_refitted(fit, ddf) else None


def tested_fit(fit: Fit, ddf: str | None) -> Fit:
    """Return the fit whose coefficients are tested: itself, or its refit by REML, made once."""
    if not is_refitted(fit, ddf):
        return fit
    if fit not in _REFITTED:
        # without the warnings that the fit itself has given
        _REFITTED[fit] = fit.again(REML=True, control=fit.control.quiet())
    return _REFITTED[fit]


def method_name(fit: Fit, ddf: str | None = "auto", joint: bool = False) -> str | None:
    """Name the rule, and what it was applied to if not to the fit; None for asymptotic tests.

    A chosen covariance is always named.
    """
    rule = check_ddf(fit, ddf)
    if fit.beta_covariance is not None:
        method: str = fit.beta_covariance.method(rule, joint)
        return method
    if rule is None:
        return None
    return f"{NAMES[rule]}'s method" + (f" {REFITTED}" if is_refitted(fit, rule) else "")


# By fit, so that pickles of fits stay small.
_MADE: WeakKeyDictionary[Fit, dict[str, Approximation]] = WeakKeyDictionary()
_REFITTED: WeakKeyDictionary[Fit, Fit] = WeakKeyDictionary()


def f_test(fit: Fit, L: Any, rhs: Any = None, ddf: str | None = "auto") -> FTest:
    """Test ``L beta = rhs`` jointly, for L (m, p) of the estimated coefficients and rhs (m,).

    Right-hand sides are zeros by default. Rows of L may depend on each other, if they do not
    contradict each other. The result is NaN where L has no rows, or only zeros.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))._fit
    >>> test = f_test(fit, [[0.0, 1.0]])
    >>> round(test.statistic, 2), test.num_df, round(test.den_df, 3), test.p_value < 1e-5
    (45.85, 1, 17.0, True)
    """
    L, rhs = checked_hypothesis(fit, L, rhs)
    rule = approximation(fit, ddf)
    D, d = _directions(fit, L, L @ rule.beta - rhs)
    q = len(D)
    if not q or not np.isfinite(D).all():
        return FTest(np.nan, q, np.nan, np.nan)
    variance = D @ rule.vcov @ D.T
    sizes = np.linalg.eigvalsh(variance)
    if not sizes[0] > DEPENDENT * sizes[-1]:  # fewer clusters than directions
        return FTest(np.nan, q, np.nan, np.nan)
    den_df, scaling = rule.joint(D)
    with np.errstate(over="ignore"):  # of a right-hand side that is far from everything
        F = scaling * float(d @ np.linalg.solve(variance, d)) / q
    return FTest(F, q, den_df, float(f_tail(F, q, den_df)))


def t_tests(fit: Fit, L: Any, rhs: Any = None, ddf: str | None = "auto") -> TTests:
    """Test every row of ``L beta = rhs`` by itself; see `f_test`."""
    L, rhs = checked_hypothesis(fit, L, rhs)
    rule = approximation(fit, ddf)
    estimate = L @ rule.beta
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.sqrt(np.einsum("mi,ij,mj->m", L, rule.vcov, L, optimize=True))
        t = (estimate - rhs) / se
    return TTests(estimate, se, rule.row_df(L), t)


def checked_hypothesis(fit: Fit, L: Any, rhs: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return L (m, p) and its right-hand side (m,) as finite floats."""
    p = len(fit.kept)
    L = np.atleast_2d(checks.numbers(L, "L", "finite numbers, names or equations"))
    right = np.zeros(len(L)) if rhs is None else checks.numbers(rhs, "rhs")
    if L.ndim != 2 or L.shape[1] != p:
        raise ArgumentError(
            f"L has shape {L.shape}; expected {p} columns, one for each estimated coefficient: "
            + ", ".join(fit.fixed_names)
        )
    if right.ndim == 0:
        right = np.full(len(L), float(right))
    if right.shape != (len(L),):
        raise ArgumentError(
            f"rhs has shape {right.shape}; expected ({len(L)},), one value a row of L"
        )
    return L, right


def _directions(fit: Fit, L: np.ndarray, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return D (q, p), of unit covariance and as many as L has independent rows, and ``D beta``.

    They are the principal axes of ``L V L'``, each divided by its standard deviation; the second
    is the gap ``L beta - rhs`` along them.
    """
    half = L @ _root(fit.model_vcov)
    size = np.sqrt(np.einsum("mi,mi->m", half, half))
    if not np.isfinite(half).all():
        return np.full((1, L.shape[1]), np.nan), np.full(1, np.nan)
    rank = _rank(L * np.sqrt(fit.model_vcov.diagonal()))
    if not rank:
        return np.empty((0, L.shape[1])), np.empty(0)
    U, S = _left_axes(half)
    U, S = U[:, :rank], S[:rank]
    along = U.T @ gap
    lost = np.abs(gap - U @ along).max(initial=0.0)
    if lost > 1e-6 * max(float(np.abs(gap).max(initial=0.0)), float(size.max(initial=0.0))):
        raise ArgumentError(
            "rows of L that depend on each other have right-hand sides that contradict each "
            "other; give equal hypotheses equal values, or leave one out"
        )
    return (U / S).T @ L, along / S


def _left_axes(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return left singular vectors (m, k) and singular values (k,) of A (m, p), descending.

    By Jacobi's method (Z. Drmac and K. Veselic, 2008, SIAM Journal on Matrix Analysis and
    Applications 29, 1322-1342), which keeps the small values of rows in very different units.
    """
    tall = A.shape[0] > A.shape[1]
    # joba=2: rows and columns may be scaled apart.
    values, left, right, work, _, info = dgejsv(A if tall else A.T, joba=2, jobu=0, jobv=0)
    if info != 0:
        left, values, _ = np.linalg.svd(A, full_matrices=False)
        return left, values
    return left if tall else right, values * (work[0] / work[1])


def _rank(L: np.ndarray) -> int:
    """Return the number of independent rows of L (m, p), whatever their scale."""
    size = np.sqrt(np.einsum("mi,mi->m", L, L))
    if not size.any():
        return 0
    unit = L[size > 0] / size[size > 0, None]
    return int((np.linalg.svd(unit, compute_uv=False) > DEPENDENT).sum())


def _root(V: np.ndarray) -> np.ndarray:
    """Return C (p, p) with ``V = C C'``; NaN where V is no covariance."""
    try:
        return np.linalg.cholesky(V)
    except np.linalg.LinAlgError:
        return np.full(V.shape, np.nan)
