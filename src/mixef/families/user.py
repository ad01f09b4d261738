"""A family that a user builds from functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import DataError, FitError
from mixef.families.family import Extra, Family, by_row, refuse
from mixef.families.whole_numbers import whole_copies

Function = Callable[..., Any]


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
    random : callable, optional
        ``random(rng, mu)``, or ``random(rng, mu, phi)`` with a dispersion: one response for each
        mean, drawn with the `numpy.random.Generator` ``rng``. Only simulation needs it.

    Raises
    ------
    ValueError
        If a function is missing or cannot be called.

    Examples
    --------
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
    ) -> None:
        super().__init__(link)
        name, dispersion = checks.text(name, "name"), checks.flag(dispersion, "dispersion")
        if deviance is None and log_density is None:
            raise ValueError(
                f"the family {name!r} has neither a log_density nor a deviance; give one of them"
            )
        given = {
            "variance": variance,
            "deviance": deviance,
            "log_density": log_density,
            "initial_mean": initial_mean,
            "random": random,
        }
        for role, function in given.items():
            if not callable(function) and (function is not None or role == "variance"):
                raise ValueError(
                    f"{role} of the family {name!r} is {checks.shown(function)}; expected a "
                    "function of arrays"
                )
        if mean_range is not None:
            mean_range = checks.interval(mean_range, "mean_range")
        self._set(
            _name=name,
            _dispersion=dispersion,
            _range=mean_range or self.link.mean_range,
            **{f"_{role}": function for role, function in given.items()},
        )

    @property
    def name(self) -> str:
        """The name that the user gave."""
        return self._name

    @property
    def extra(self) -> Extra | None:
        """The dispersion, if the user asked for one."""
        return "dispersion" if self._dispersion else None

    @property
    def mean_range(self) -> tuple[float, float]:
        """The open interval of possible means."""
        return self._range

    def variance(self, mu: np.ndarray, extra: float | None = None) -> np.ndarray:
        """Return the user's variance function."""
        return np.asarray(self._variance(mu), dtype=float) + np.zeros(np.shape(mu))

    def unit_deviance(
        self, y: np.ndarray, mu: np.ndarray, extra: float | None = None
    ) -> np.ndarray:
        """Return the user's deviance, or the one that follows from the log density."""
        y = by_row(y, mu)
        if self._deviance is not None:
            return np.asarray(self._deviance(y, mu), dtype=float)
        lost = self._density(y, y, extra) - self._density(y, mu, extra)
        return np.maximum(2.0 * self.dispersion(extra) * lost, 0.0)

    def unit_normalizer(self, y: np.ndarray, extra: float | None = None) -> np.ndarray:
        """Return zero, or the normalizer of the extended quasi-likelihood."""
        if self._log_density is not None or not self._dispersion:
            return np.zeros(np.shape(y))
        return -0.5 * np.log(2 * np.pi * self.dispersion(extra) * self.variance(y))

    def unit_kernel(
        self, y: np.ndarray, eta: np.ndarray, mu: np.ndarray, extra: float | None = None
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
        extra: float | None = None,
    ) -> np.ndarray:
        """Draw by the user's function; weights have to be whole numbers of copies."""
        if self._random is None:
            raise FitError(
                f"the family {self.name!r} says nothing of how to draw from it; give its "
                "UserFamily random=, a function of a numpy Generator and means"
            )
        extras = (self.dispersion(extra),) if self._dispersion else ()
        copies = np.ones(np.shape(mu)[0]) if weights is None else whole_copies(weights)
        rows = np.repeat(np.arange(len(copies)), copies.astype(np.int64))
        each = np.asarray(self._random(rng, mu[rows], *extras), dtype=float)
        if each.shape != mu[rows].shape:
            raise DataError(
                f"random of the family {self.name!r} gave an array of shape {each.shape} for means "
                f"of shape {mu[rows].shape}; expected one response for each mean"
            )
        if weights is None:
            return each
        first = np.cumsum(copies, dtype=np.int64) - copies.astype(np.int64)
        return np.add.reduceat(each, first, axis=0) / by_row(copies, mu)

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

    def _density(self, y: np.ndarray, mu: np.ndarray, extra: float | None) -> np.ndarray:
        assert self._log_density is not None
        dispersion = (self.dispersion(extra),) if self._dispersion else ()
        return np.asarray(self._log_density(y, mu, *dispersion), dtype=float)

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if self._initial_mean is None:
            return super()._near(y, weights)
        return np.asarray(self._initial_mean(y, weights), dtype=float)

    def __repr__(self) -> str:
        return f"UserFamily({self.name!r}, link={self.link.name!r})"
