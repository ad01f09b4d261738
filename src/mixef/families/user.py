"""A family that a user builds from functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from mixef import checks
from mixef.errors import ArgumentError, DataError, FitError
from mixef.families.auxiliary import DISPERSION, Auxiliary, Extra, separate
from mixef.families.density import DensityFamily
from mixef.families.differences import HALF, stencil
from mixef.families.family import Family, by_row, refuse, weigh
from mixef.families.link import Link
from mixef.families.whole_numbers import mean_of_copies

Function = Callable[..., Any]
# Steps of differences: for logs of auxiliary parameters, and for means beside the standard
# deviation or the distance from the end of the range.
STEP, SPACING = 1e-3, 0.05


@dataclass(frozen=True, init=False, repr=False)
class UserFamily(Family):
    """A family from a user's own functions of arrays.

    Parameters
    ----------
    name : str
    link : Link, str or anything that `mixef.families.links.make_link` reads
    variance : callable
        ``variance(mu)``, the variance function V.
    log_density : callable, optional
        ``log_density(y, mu)``, or ``log_density(y, mu, phi)`` with a dispersion: the normalized
        log density of each row.
    deviance : callable, optional
        ``deviance(y, mu)``, the unit deviance. At least one of the two is needed. Without
        ``log_density`` the fit is one by quasi-likelihood: log likelihoods are relative to the
        saturated model, or with a dispersion the extended quasi-likelihood of Nelder and Pregibon
        (1987, Biometrika 74), ``-(deviance / phi + log(2 pi phi V(y))) / 2``. Without
        ``deviance`` it is twice what the log density loses from ``mu = y``, times the dispersion.
    dispersion : bool
        Whether a dispersion phi is estimated: the variance is then ``phi V(mu)``.
    initial_mean : callable, optional
        ``initial_mean(y, weights)``, means to start from; by default half-way between the response
        and its mean.
    mean_range : tuple of float, optional
        The open interval of possible means, by default that of the link.
    auxiliary : sequence of str, optional
        Names of further positive parameters, which are estimated. With these, of which there may
        be none, ``()``, the family is **of any density**, and no exponential one: ``log_density``
        takes their values after ``y, mu``, ``variance`` and ``random`` after their own arguments,
        and the variance is that of the response. Derivatives are by differences.
    random : callable, optional
        ``random(rng, mu)``, or ``random(rng, mu, phi)`` with a dispersion: one response for each
        mean, drawn with the `numpy.random.Generator` ``rng``. Only simulation needs it.

    Raises
    ------
    ValueError
        If a function is missing or cannot be called.

    Examples
    --------
    A Laplace-like density that is smooth, with a scale:

    >>> import numpy as np
    >>> from mixef.families.user import UserFamily
    >>> sech = UserFamily(
    ...     "sech", "identity", auxiliary=["scale"],
    ...     log_density=lambda y, mu, s: -np.log(2 * s * np.cosh(0.5 * np.pi * (y - mu) / s)),
    ...     variance=lambda mu, s: s**2,
    ... )
    >>> [parameter.name for parameter in sech.auxiliary]
    ['scale']

    A Poisson family, in full and by its deviance:

    >>> import numpy as np
    >>> from scipy import special, stats
    >>> from mixef.families.user import UserFamily
    >>> family = UserFamily("count", "log", variance=np.abs, log_density=stats.poisson.logpmf)
    >>> family
    UserFamily('count', link='log')
    >>> y, mu = np.array([0.0, 3.0]), np.array([1.0, 2.0])
    >>> family.unit_deviance(y, mu).round(4)
    array([2.    , 0.4328])
    >>> quasi = UserFamily(
    ...     "quasi", "log", variance=np.abs, deviance=lambda y, mu: 2 * special.kl_div(y, mu)
    ... )
    >>> quasi.log_kernel(y, np.log(mu), mu).round(4)
    array([-1.    , -0.2164])
    """

    _name: str
    _variance: Function
    _deviance: Function | None
    _log_density: Function | None
    _initial_mean: Function | None
    _random: Function | None
    _dispersion: bool
    _range: tuple[float, float]

    def __new__(cls, *given: Any, auxiliary: Any = None, **parts: Any) -> Any:
        """Return a `UserDensity` where auxiliary parameters are named."""
        if auxiliary is None:
            return super().__new__(cls)
        names = checks.names(auxiliary, "auxiliary", "names of parameters, such as ['scale']")
        if not {"deviance", "dispersion"}.isdisjoint(parts) or "log_density" not in parts:
            raise ArgumentError(
                "a family with auxiliary parameters is told by its log_density= and variance=, "
                "without deviance= and dispersion="
            )
        return UserDensity(*given, auxiliary=names, **parts)

    def __init__(
        self,
        name: str,
        link: Any,
        *,
        variance: Function,
        deviance: Function | None = None,
        log_density: Function | None = None,
        dispersion: bool = False,
        initial_mean: Function | None = None,
        mean_range: tuple[float, float] | None = None,
        random: Function | None = None,
        auxiliary: None = None,
    ) -> None:
        super().__init__(link)
        name, dispersion = checks.text(name, "name"), checks.flag(dispersion, "dispersion")
        if deviance is None and log_density is None:
            raise ArgumentError(
                f"the family {name!r} has neither a log_density nor a deviance; give one of them"
            )
        given = {
            "variance": variance,
            "deviance": deviance,
            "log_density": log_density,
            "initial_mean": initial_mean,
            "random": random,
        }
        self._set(
            _name=name,
            _dispersion=dispersion,
            _range=_range(mean_range, self.link),
            **_functions(name, given, needed=("variance",)),
        )

    @property
    def name(self) -> str:
        """The name that the user gave."""
        return self._name

    @property
    def auxiliary(self) -> tuple[Auxiliary, ...]:
        """The dispersion, if the user asked for one."""
        return (DISPERSION,) if self._dispersion else ()

    @property
    def mean_range(self) -> tuple[float, float]:
        """The open interval of possible means."""
        return self._range

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the user's variance function."""
        return np.asarray(self._variance(mu), dtype=float) + np.zeros(np.shape(mu))

    def unit_deviance(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the user's deviance, or the one that follows from the log density."""
        y = by_row(y, mu)
        if self._deviance is not None:
            return np.asarray(self._deviance(y, mu), dtype=float)
        lost = self._density(y, y, extra) - self._density(y, mu, extra)
        return np.maximum(2.0 * self.dispersion(extra) * lost, 0.0)

    def unit_normalizer(self, y: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return zero, or the normalizer of the extended quasi-likelihood."""
        if self._log_density is not None or not self._dispersion:
            return np.zeros(np.shape(y))
        return -0.5 * np.log(2 * np.pi * self.dispersion(extra) * self.variance(y))

    def unit_kernel(
        self, y: np.ndarray, eta: np.ndarray, mu: np.ndarray, extra: Extra = None
    ) -> np.ndarray:
        """Return the user's log density, or minus half the scaled deviance."""
        if self._log_density is None:
            return super().unit_kernel(y, eta, mu, extra)
        return self._density(y, mu, extra)

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw by the user's function; weights have to be whole numbers of copies."""
        values = (self.dispersion(extra),) if self._dispersion else ()
        return drawn(self.name, self._random, rng, mu, weights, values)

    def check_response(
        self, y: np.ndarray, weights: np.ndarray | None = None, name: str = "y"
    ) -> None:
        """Raise if the response or the weights are not finite, or the density needs V(y) > 0."""
        super().check_response(y, weights, name)
        if self._log_density is None and self._dispersion:
            refuse(
                ~(self.variance(y) > 0),
                y,
                f"the response {name}",
                f"values at which the variance function of the family {self.name!r} is positive",
                "give the family its log_density",
            )

    def _density(self, y: np.ndarray, mu: np.ndarray, extra: Extra) -> np.ndarray:
        assert self._log_density is not None
        dispersion = (self.dispersion(extra),) if self._dispersion else ()
        return np.asarray(self._log_density(y, mu, *dispersion), dtype=float)

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if self._initial_mean is None:
            return super()._near(y, weights)
        return np.asarray(self._initial_mean(y, weights), dtype=float)

    def __repr__(self) -> str:
        return f"UserFamily({self.name!r}, link={self.link.name!r})"


@dataclass(frozen=True, init=False, repr=False)
class UserDensity(DensityFamily):
    """A family of any density from a user's functions; see `UserFamily`.

    Parameters
    ----------
    auxiliary : sequence of str
    name, link, log_density, variance, initial_mean, mean_range, random
        As of `UserFamily`.
    """

    _log_density: Function
    _variance: Function
    _initial_mean: Function | None
    _random: Function | None

    def __init__(
        self,
        name: str,
        link: Any,
        *,
        auxiliary: Sequence[str],
        log_density: Function,
        variance: Function,
        initial_mean: Function | None = None,
        mean_range: tuple[float, float] | None = None,
        random: Function | None = None,
    ) -> None:
        super().__init__(link)
        name = checks.text(name, "name")
        given = {
            "variance": variance,
            "log_density": log_density,
            "initial_mean": initial_mean,
            "random": random,
        }
        self._set(
            name=name,
            auxiliary=tuple(Auxiliary(own) for own in auxiliary),
            mean_range=_range(mean_range, self.link),
            **_functions(name, given, needed=("variance", "log_density")),
        )

    # What the base class has as properties, an object of this one holds.
    name = ""
    auxiliary = ()
    mean_range = (-np.inf, np.inf)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the user's variance."""
        values = self._values(extra)
        return np.asarray(self._variance(mu, *values), dtype=float) + np.zeros(np.shape(mu))

    def derivatives(
        self, y: np.ndarray, mu: np.ndarray, size: np.ndarray, extra: Extra, order: int, *by: int
    ) -> list[np.ndarray]:
        """Return derivatives of the log density by differences."""
        at = np.array(self.coordinates(extra)) if self.auxiliary else np.zeros(0)

        def density(m: np.ndarray, coordinates: np.ndarray, rest: tuple[int, ...]) -> np.ndarray:
            if not rest:
                values = self._values(self.extra_at(coordinates))
                return np.asarray(self._log_density(y, m, *values), dtype=float)
            step = STEP * (np.arange(len(coordinates)) == rest[0])
            ends = [density(m, coordinates + j * step, rest[1:]) for j in (-2, -1, 1, 2)]
            return (ends[0] - 8.0 * ends[1] + 8.0 * ends[2] - ends[3]) / (12.0 * STEP)

        if not order:
            return [density(mu, at, by)]
        reach = np.sqrt(self.variance(mu, extra))
        for end in self.mean_range:
            reach = np.minimum(reach, np.abs(mu - end))
        step, places = SPACING * reach, np.arange(-HALF, HALF + 1)
        nodes = mu + places.reshape((-1,) + (1,) * np.ndim(mu)) * step
        values = density(nodes, at, by)
        orders = range(1, order + 1)
        rest = [np.tensordot(stencil(HALF, k), values, 1) / step**k for k in orders]
        return [values[HALF], *rest]

    def initial_extra(
        self, y: np.ndarray, mu: np.ndarray, weights: np.ndarray | None = None
    ) -> Extra:
        """Return the values that fit best at given means."""

        def lost(coordinates: np.ndarray) -> float:
            values = self._values(self.extra_at(coordinates))
            total = float(np.sum(weigh(weights, self._log_density(y, mu, *values))))
            return -total if np.isfinite(total) else np.inf

        unit = np.log(float(np.std(y - mu)) or 1.0)
        starts = [np.full(len(self.auxiliary), t) for t in (0.0, unit)]
        best = min(starts, key=lost)
        return self.extra_at(scipy.optimize.minimize(lost, best, method="Nelder-Mead").x)

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw by the user's function; weights have to be whole numbers of copies."""
        return drawn(self.name, self._random, rng, mu, weights, self._values(extra))

    def _values(self, extra: Extra) -> tuple[float, ...]:
        return separate(extra) if self.auxiliary else ()

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if self._initial_mean is None:
            return super()._near(y, weights)
        return np.asarray(self._initial_mean(y, weights), dtype=float)

    def __repr__(self) -> str:
        return f"UserFamily({self.name!r}, link={self.link.name!r})"


def drawn(
    name: str,
    random: Function | None,
    rng: np.random.Generator,
    mu: np.ndarray,
    weights: np.ndarray | None,
    values: tuple[float, ...],
) -> np.ndarray:
    """Return draws by a user's function, means of as many as the whole weights say."""
    if random is None:
        raise FitError(
            f"the family {name!r} says nothing of how to draw from it; give its UserFamily "
            "random=, a function of a numpy Generator and means"
        )

    def draw(means: np.ndarray) -> np.ndarray:
        each = np.asarray(random(rng, means, *values), dtype=float)
        if each.shape != means.shape:
            raise DataError(
                f"random of the family {name!r} gave an array of shape {each.shape} for means "
                f"of shape {means.shape}; expected one response for each mean"
            )
        return each

    return mean_of_copies(draw, mu, weights)


def _functions(
    name: str, given: dict[str, Function | None], needed: tuple[str, ...]
) -> dict[str, Function | None]:
    """Return a user's functions by the names of their fields; those needed may not be None."""
    for role, function in given.items():
        if not callable(function) and (function is not None or role in needed):
            raise ArgumentError(
                f"{role} of the family {name!r} is {checks.shown(function)}; expected a function "
                "of arrays"
            )
    return {f"_{role}": function for role, function in given.items()}


def _range(given: Any, link: Link) -> tuple[float, float]:
    """Return the interval of possible means; the link's, unless the user gave one."""
    return link.mean_range if given is None else checks.interval(given, "mean_range")
