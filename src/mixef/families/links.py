"""The links of R's families, and the reading of whatever a user gives as a link.

Derivatives are elementary; the names are R's (McCullagh and Nelder, 1989, Generalized Linear
Models, section 4.3 for the links of probabilities). Tails are exact: a probability that underflows
keeps its logarithm, and ``complement`` has all the digits that ``1 - inverse`` loses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy

from mixef.checks import shown
from mixef.errors import ArgumentError
from mixef.families.link import Link, UserLink, link_from_parts, parts_of
from mixef.families.special import log1mexp

# Above this, exp(-exp(eta)) is zero in floating point, with all derivatives.
_FLAT = 10.0
# Below this, a complementary log-log probability is exp(eta) to rounding.
_LINEAR = -40.0


class Logit(Link):
    """``log(mu / (1 - mu))``; ``d_inverse`` stays positive up to ``|eta|`` of 700."""

    name = "logit"
    mean_range = (0.0, 1.0)
    latent_variance = np.pi**2 / 3.0

    def link(self, mu: np.ndarray) -> np.ndarray:
        """Return the log odds."""
        return scipy.special.logit(mu)

    def inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the probability."""
        e = np.exp(-np.abs(eta))  # which is several times faster than SciPy's expit
        return np.where(np.greater(eta, 0.0), 1.0, e) / (1.0 + e)

    def complement(self, eta: np.ndarray) -> np.ndarray:
        """Return the probability of a failure."""
        return self.inverse(np.negative(eta))

    def log_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the log probability."""
        return scipy.special.log_expit(eta)

    def log_complement(self, eta: np.ndarray) -> np.ndarray:
        """Return the log probability of a failure."""
        return scipy.special.log_expit(np.negative(eta))

    def d_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``p q``."""
        e = np.exp(-np.abs(eta))
        return e / (1.0 + e) ** 2

    def d2_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``p q (q - p)``."""
        return -self.d_inverse(eta) * np.tanh(np.multiply(eta, 0.5))

    def d3_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``p q (1 - 6 p q)``."""
        pq = self.d_inverse(eta)
        return pq * (1.0 - 6.0 * pq)

    def d4_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``p q (q - p) (1 - 12 p q)``."""
        return self.d2_inverse(eta) * (1.0 - 12.0 * self.d_inverse(eta))


class Probit(Link):
    """The normal quantile; its density underflows to zero beyond ``|eta|`` of 38."""

    name = "probit"
    mean_range = (0.0, 1.0)
    latent_variance = 1.0

    def link(self, mu: np.ndarray) -> np.ndarray:
        """Return the normal quantile."""
        return scipy.special.ndtri(mu)

    def inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the normal distribution function."""
        return scipy.special.ndtr(eta)

    def complement(self, eta: np.ndarray) -> np.ndarray:
        """Return the normal upper tail."""
        return scipy.special.ndtr(np.negative(eta))

    def log_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the log probability."""
        return scipy.special.log_ndtr(eta)

    def log_complement(self, eta: np.ndarray) -> np.ndarray:
        """Return the log probability of a failure."""
        return scipy.special.log_ndtr(np.negative(eta))

    def d_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the normal density."""
        return np.exp(-0.5 * np.square(eta)) / np.sqrt(2 * np.pi)

    def d2_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``-eta`` times the normal density."""
        return np.negative(eta) * self.d_inverse(eta)

    def d3_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``eta^2 - 1`` times the normal density."""
        return (np.square(eta) - 1.0) * self.d_inverse(eta)

    def d4_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``3 eta - eta^3`` times the normal density."""
        return eta * (3.0 - np.square(eta)) * self.d_inverse(eta)


class CLogLog(Link):
    """``log(-log(1 - mu))``, the link of grouped survival times."""

    name = "cloglog"
    mean_range = (0.0, 1.0)
    latent_variance = np.pi**2 / 6.0

    def link(self, mu: np.ndarray) -> np.ndarray:
        """Return the log of the cumulative hazard."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(-np.log1p(np.negative(mu)))

    def inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the probability."""
        return -np.expm1(-_hazard(eta))

    def complement(self, eta: np.ndarray) -> np.ndarray:
        """Return ``exp(-exp(eta))``."""
        return np.exp(-_hazard(eta))

    def log_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the log probability."""
        return np.where(np.less(eta, _LINEAR), eta, log1mexp(-_hazard(np.maximum(eta, _LINEAR))))

    def log_complement(self, eta: np.ndarray) -> np.ndarray:
        """Return ``-exp(eta)``."""
        with np.errstate(over="ignore"):
            return -np.exp(eta)

    def d_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``exp(eta - t)`` with ``t = exp(eta)``."""
        eta = np.minimum(eta, _FLAT)
        return np.exp(eta - np.exp(eta))

    def d2_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``(1 - t) exp(eta - t)``."""
        return self.d_inverse(eta) * (1.0 - _hazard(eta))

    def d3_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``(1 - 3 t + t^2) exp(eta - t)``."""
        t = _hazard(eta)
        return self.d_inverse(eta) * (1.0 + t * (t - 3.0))

    def d4_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ``(1 - 7 t + 6 t^2 - t^3) exp(eta - t)``."""
        t = _hazard(eta)
        return self.d_inverse(eta) * (1.0 - t * (7.0 - t * (6.0 - t)))


def _hazard(eta: np.ndarray) -> np.ndarray:
    """Return ``exp(eta)``, held where all that is made of it is zero or one."""
    return np.exp(np.minimum(eta, _FLAT))


class Cauchit(Link):
    """The Cauchy quantile ``tan(pi (mu - 1/2))``, for heavy tails."""

    name = "cauchit"
    mean_range = (0.0, 1.0)

    def link(self, mu: np.ndarray) -> np.ndarray:
        """Return the Cauchy quantile."""
        mu = np.asarray(mu, dtype=float)
        with np.errstate(divide="ignore"):
            tail = 1.0 / np.tan(np.pi * np.where(mu < 0.5, mu, 1.0 - mu))
        return np.where(mu < 0.5, -tail, tail)

    def inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the Cauchy distribution function."""
        return np.arctan2(1.0, np.negative(eta)) / np.pi

    def complement(self, eta: np.ndarray) -> np.ndarray:
        """Return the Cauchy upper tail."""
        return np.arctan2(1.0, eta) / np.pi

    def d_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the Cauchy density."""
        return 1.0 / (np.pi * (1.0 + np.square(eta)))

    def d2_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the derivative of the Cauchy density."""
        return np.multiply(eta, -2.0) / (np.pi * (1.0 + np.square(eta)) ** 2)

    def d3_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the second derivative of the Cauchy density."""
        square = np.square(eta)
        return (6.0 * square - 2.0) / (np.pi * (1.0 + square) ** 3)

    def d4_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the third derivative of the Cauchy density."""
        square = np.square(eta)
        return 24.0 * eta * (1.0 - square) / (np.pi * (1.0 + square) ** 4)


class Log(Link):
    """``log(mu)``; a mean beyond 1e308 is infinite, without a warning."""

    name = "log"
    mean_range = (0.0, np.inf)

    def link(self, mu: np.ndarray) -> np.ndarray:
        """Return the logarithm."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(mu)

    def inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the exponential."""
        with np.errstate(over="ignore"):
            return np.exp(eta)

    def complement(self, eta: np.ndarray) -> np.ndarray:
        """Return ``1 - exp(eta)``."""
        with np.errstate(over="ignore"):
            return -np.expm1(eta)

    def log_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the linear predictor itself."""
        return np.asarray(eta, dtype=float)

    def log_complement(self, eta: np.ndarray) -> np.ndarray:
        """Return ``log(1 - exp(eta))``, NaN where that is no probability."""
        return log1mexp(eta)

    d_inverse = d2_inverse = d3_inverse = d4_inverse = inverse


class Identity(Link):
    """``mu`` itself."""

    name = "identity"

    def link(self, mu: np.ndarray) -> np.ndarray:
        """Return the mean."""
        return np.asarray(mu, dtype=float)

    def inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the linear predictor."""
        return np.asarray(eta, dtype=float)

    def d_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return ones."""
        return np.ones(np.shape(eta))

    def d2_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return zeros."""
        return np.zeros(np.shape(eta))

    d3_inverse = d4_inverse = d2_inverse


class _Power(Link):
    """``mu^p`` for linear predictors above zero, with derivatives in closed form."""

    power: float
    mean_range = (0.0, np.inf)

    def link(self, mu: np.ndarray) -> np.ndarray:
        """Return the mean's power."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(mu, dtype=float) ** self.power

    def inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the linear predictor's root."""
        return self._term(eta, 0)

    def d_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the first derivative of the root."""
        return self._term(eta, 1)

    def d2_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the second derivative of the root."""
        return self._term(eta, 2)

    def d3_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the third derivative of the root."""
        return self._term(eta, 3)

    def d4_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the fourth derivative of the root."""
        return self._term(eta, 4)

    def _term(self, eta: np.ndarray, order: int) -> np.ndarray:
        exponent = 1.0 / self.power
        factor = np.prod(exponent - np.arange(order))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return factor * np.asarray(eta, dtype=float) ** (exponent - order)

    def valid(self, eta: np.ndarray) -> bool:
        """Return whether all linear predictors are finite and positive."""
        return bool((np.isfinite(eta) & np.greater(eta, 0.0)).all())


class Inverse(_Power):
    """``1 / mu``; means keep the sign of their linear predictors, which must not be zero."""

    name = "inverse"
    power = -1.0
    mean_range = (-np.inf, np.inf)

    def valid(self, eta: np.ndarray) -> bool:
        """Return whether all linear predictors are finite and not zero."""
        return bool((np.isfinite(eta) & np.not_equal(eta, 0.0)).all())


class Sqrt(_Power):
    """``sqrt(mu)``, for linear predictors above zero."""

    name = "sqrt"
    power = 0.5


class InverseSquare(_Power):
    """``1 / mu^2``, for linear predictors above zero."""

    name = "1/mu^2"
    power = -2.0


LINKS: dict[str, type[Link]] = {
    cls.name: cls
    for cls in (Logit, Probit, CLogLog, Cauchit, Log, Identity, Inverse, Sqrt, InverseSquare)
}
# statsmodels' classes, in lower case, that are not called as in R.
_STATSMODELS = {"cauchy": "cauchit", "inversepower": "inverse", "inverse_power": "inverse"}
_STATSMODELS |= {"inversesquared": "1/mu^2", "inverse_squared": "1/mu^2"}
_PROBABILITIES = ("CDFLink", "LogLog", "loglog")
_POWERS = {1.0: "identity", -1.0: "inverse", 0.5: "sqrt", -2.0: "1/mu^2"}


def make_link(spec: Any) -> Link:
    """Return the link that a user means.

    Parameters
    ----------
    spec : Link, type, str, mapping, tuple or object
        A link or its class; R's name of one; a link of statsmodels or its class; functions
        ``(link, inverse, d_inverse, ...)`` or a dict with these names (and ``name``); or any
        object with methods ``link`` and ``inverse`` (and ``d_inverse``, ``d2_inverse``,
        ``d3_inverse``, ``d4_inverse``, ``complement``, ``mean_range``, ``name``).

    Returns
    -------
    Link

    Raises
    ------
    ValueError
        If there is no such link.

    Examples
    --------
    >>> import numpy as np
    >>> from mixef.families.links import make_link
    >>> make_link("probit")
    <link 'probit'>
    >>> make_link((np.log, np.exp, np.exp)).d_inverse(np.array([0.0]))
    array([1.])
    """
    if isinstance(spec, type) and issubclass(spec, Link):
        return spec()
    if isinstance(spec, Link):
        return spec
    if isinstance(spec, str):
        if (name := spec.strip().lower()) in LINKS:
            return LINKS[name]()
        raise ArgumentError(f"there is no link {spec!r}; {_EXPECTED}")
    cls = spec if isinstance(spec, type) else type(spec)
    if cls.__module__.split(".")[0] == "statsmodels":
        return _from_statsmodels(cls() if spec is cls else spec)
    if isinstance(spec, tuple | list) and len(spec) > 1:
        return UserLink("user", spec[0], spec[1], tuple(spec[2:]))
    given = dict(spec) if isinstance(spec, Mapping) else parts_of(spec)
    if "link" in given and "inverse" in given and not isinstance(spec, type):
        return link_from_parts(given)
    raise ArgumentError(f"link is {shown(spec)}; {_EXPECTED}")


_EXPECTED = (
    f"expected one of {', '.join(map(repr, LINKS))}, or a link of your own: UserLink(name, link, "
    "inverse)"
)


def _from_statsmodels(spec: Any) -> Link:
    """Return our link for statsmodels' one, or one made of its functions."""
    kind = type(spec).__name__
    name = _STATSMODELS.get(kind.lower(), kind.lower())
    if kind == "Power":
        name = _POWERS.get(float(spec.power), f"mu^{spec.power:g}")
    if name in LINKS:
        return LINKS[name]()
    if kind in ("NegativeBinomial", "nbinom") or not hasattr(spec, "inverse_deriv"):
        raise ArgumentError(f"statsmodels' link {kind} is not one that mixef has; {_EXPECTED}")
    means = (0.0, 1.0) if kind in _PROBABILITIES else (-np.inf, np.inf)
    return UserLink(name, spec, spec.inverse, spec.inverse_deriv, mean_range=means)
