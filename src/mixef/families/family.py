"""What a family of distributions can do: densities, variances, deviances, starting values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from mixef.errors import ArgumentError, DataError, FitError
from mixef.families.auxiliary import Extra, WithAuxiliary
from mixef.families.differences import derivative
from mixef.families.link import Link
from mixef.families.links import make_link
from mixef.families.special import times
from mixef.text.made import Made, range_text

Information = Literal["expected", "observed"]


@dataclass(frozen=True, init=False, repr=False)
class Family(WithAuxiliary, Made, ABC):
    """A distribution of the response given its mean, with a link.

    A subclass gives ``variance``, ``unit_deviance`` and ``unit_normalizer``; then the log density
    of a row is ``-unit_deviance / (2 dispersion) + unit_normalizer``. Where the density has
    another form, it gives ``unit_kernel`` as well. Methods that start with ``unit_`` take arrays
    that broadcast, and no weights.

    In all other methods ``y`` is (n,), ``eta`` and ``mu`` are (n,) or (n, k), and ``weights`` is
    (n,) or None for ones. A weight multiplies the log density of its row: **a weight of k equals
    k copies of the row, in every family**. For a binomial response the weights are the numbers of
    trials and ``y`` is the share of successes. ``extra`` is the value of the auxiliary parameter
    that is estimated, or a tuple of the values of several, and is ignored where there is none.

    Attributes
    ----------
    link : Link
    name : str
        R's name of the family.
    canonical_link : str or None
    auxiliary : tuple of Auxiliary
        The parameters besides the mean that are estimated.
    spellings : tuple of str
        Other names than `name` that text may call the family by, in lower case.
    has_trials : bool
        Whether the response is a share of successes, and weights are numbers of trials.
    is_count : bool
        Whether responses are whole numbers, 0 or more.
    knows_expected : bool
        Whether weights can be by expected information too.
    edges : tuple of float
        Responses that a mean may come as near to as it likes.
    support : {"whole", "real", "positive", "unit"} or None
        Where responses are, for quantiles by `cdf`; None where that is not known.
    more_dispersed : str or None
        What else to do about counts that vary more than the family has it; None where a summary
        says nothing of that.
    divides_dispersion : bool
        Whether draws take weights of any size, by which they divide the dispersion.
    information : {"expected", "observed"}
        Which information gives the weights of PIRLS and ``log|M|``: "expected" as in lme4,
        "observed" as in TMB. With a canonical link they are the same.
    mean_range : tuple of float
        The open interval of possible means.
    closed : bool
        Whether the density stays finite as a mean underflows to an end of that interval.
    """

    link: Link

    spellings: ClassVar[tuple[str, ...]] = ()
    has_trials: ClassVar[bool] = False
    is_count: ClassVar[bool] = False
    edges: ClassVar[tuple[float, ...]] = ()
    knows_expected: ClassVar[bool] = True
    support: ClassVar[str | None] = None
    more_dispersed: ClassVar[str | None] = None
    divides_dispersion: ClassVar[bool] = False

    @property
    def has_stand_in(self) -> bool:
        """Whether expected weights only stand in for the expected information."""
        return False

    def __init__(self, link: Any) -> None:
        self._set(link=make_link(link))

    @property
    def canonical_link(self) -> str | None:
        """Name of the canonical link, None if there is none."""
        return None

    @property
    def information(self) -> Information:
        """Which information gives the weights of PIRLS."""
        return "observed" if self.auxiliary else "expected"

    @property
    def counts_copies(self) -> bool:
        """Whether a weight of k stands for k copies of a row, in place of a smaller variance."""
        return True

    @property
    def mean_range(self) -> tuple[float, float]:
        """The open interval of possible means."""
        return self.link.mean_range

    @property
    def closed(self) -> bool:
        """Whether the density stays finite as a mean underflows to an end of the interval."""
        return False

    @property
    def is_canonical(self) -> bool:
        """Whether the link is the canonical one."""
        return self.canonical_link is not None and self.link == make_link(self.canonical_link)

    @cached_property
    def canonical_ratio(self) -> float:
        """``mu' / V`` with the canonical link, which is one number, whatever the mean."""
        mean = self.initial_mean(np.array([0.5]))
        slope = self.link.d_inverse(self.link.link(mean))
        return float(np.round(slope / self.variance(mean), 9)[0])

    # ------------------------------------------------------------------ of a unit weight

    @abstractmethod
    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the variance function V; the variance of y is ``dispersion * V``."""

    @abstractmethod
    def unit_deviance(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the deviance of each row, non-negative and zero at ``mu = y``."""

    @abstractmethod
    def unit_normalizer(self, y: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the part of each row's log density that is free of the mean."""

    def unit_kernel(
        self, y: np.ndarray, eta: np.ndarray, mu: np.ndarray, extra: Extra = None
    ) -> np.ndarray:
        """Return the part of each row's log density that depends on the mean."""
        return self.unit_deviance(y, mu, extra) / (-2.0 * self.dispersion(extra))

    def mean_and_kernel(
        self, y: np.ndarray, eta: np.ndarray, extra: Extra = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return means and `unit_kernel` (n,), which may have slow parts in common.

        None outside the domain of link or family.
        """
        mu = self.link.inverse(eta)
        if not (self.link.valid(eta) and self.valid_mean(mu)):
            return None
        return mu, self.unit_kernel(y, eta, mu, extra)

    def unit_by_extra(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the derivative of each row's log density for ``extra`` at a fixed mean."""
        if not self.auxiliary or extra is None:
            return np.zeros(np.broadcast_shapes(np.shape(y), np.shape(mu)))
        eta = self.link.link(mu)

        def log_density(value: Any) -> np.ndarray:
            return self.unit_kernel(y, eta, mu, value) + self.unit_normalizer(y, value)

        return derivative(log_density, extra, scale=abs(extra) or 1.0)

    # ------------------------------------------------------------------ of the mean

    def d_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the first derivative of the variance function for the mean."""
        return derivative(lambda m: self.variance(m, extra), mu, 1)

    def d2_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the second derivative of the variance function for the mean."""
        return derivative(lambda m: self.variance(m, extra), mu, 2)

    def d3_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the third derivative of the variance function for the mean."""
        return derivative(lambda m: self.variance(m, extra), mu, 3)

    def variance_by_extra(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the derivative of the variance function for ``extra``, zero for a dispersion."""
        return np.zeros(np.shape(mu))

    def d_variance_by_extra(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the derivative of ``d_variance`` for ``extra``, zero for a dispersion."""
        return np.zeros(np.shape(mu))

    def variance_at(self, eta: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the variance function from the linear predictor too, exact in the tails."""
        return self.variance(mu, extra)

    def valid_mean(self, mu: np.ndarray) -> bool:
        """Return whether all means are possible.

        A mean that a link reaches only by rounding (a logit beyond 37) is possible.
        """
        mu = np.asarray(mu)
        least, most = float(mu.min()), float(mu.max())  # NaN if there is one
        (lower, upper), reach = self.mean_range, self.link.mean_range
        above = least > lower or (self.closed and least == lower == reach[0])
        below = most < upper or (self.closed and most == upper == reach[1])
        return above and below and -np.inf < least and most < np.inf

    def possible(self, mu: np.ndarray) -> np.ndarray:
        """Return which means are possible, element by element; see `valid_mean`."""
        (lower, upper), reach = self.mean_range, self.link.mean_range
        with np.errstate(invalid="ignore"):
            above = np.greater(mu, lower)
            below = np.less(mu, upper)
            if self.closed and lower == reach[0]:
                above |= np.equal(mu, lower)
            if self.closed and upper == reach[1]:
                below |= np.equal(mu, upper)
        return above & below & np.isfinite(mu)

    def refuse_copies(self, w: np.ndarray) -> None:
        """Raise where the distribution of a mean of w responses is asked for, which has no form."""
        if np.any(w != 1.0):
            raise ArgumentError(
                f"the mean of several responses of the {self.name} family has no distribution "
                "function; leave out weights= of new rows, or simulate"
            )

    def spread(self, mu: np.ndarray, weights: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the standard deviation of the mean of w responses."""
        w = self.effective_weights(weights, extra)
        assert w is not None
        return np.sqrt(self.dispersion(extra) * self.variance(mu, extra) / w)

    def effective_weights(
        self, weights: np.ndarray | None, extra: Extra, copies: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Return by what the variance of a row is smaller than a single response's."""
        return weights

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the distribution function at y of the mean of w responses with means mu."""
        raise NotImplementedError

    # ------------------------------------------------------------------ draws

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw responses: the mean of ``w`` independent copies of a row with weight w.

        Their variance is ``dispersion * V(mu) / w``. So a binomial response is a share of w
        trials, and w times a Poisson response is Poisson with mean ``w mu``.

        Parameters
        ----------
        rng : numpy.random.Generator
        mu : ndarray (n,) or (n, k)
            Possible means.
        weights : ndarray (n,), optional
            Positive.
        extra : float, optional
            Dispersion or shape.

        Returns
        -------
        ndarray, like ``mu``

        Raises
        ------
        FitError
            For a family that cannot be drawn from.
        DataError
            For weights that no copies can be drawn for, such as 1.5 trials.

        Notes
        -----
        The family's likelihood of such means has the right score for the mean at any weights. As a
        likelihood of the dispersion or shape it is that of copies which all have one value; an
        estimate of these from drawn responses is close to the value that they were drawn with
        only where the weights are 1 on average.

        Examples
        --------
        >>> import numpy as np
        >>> from mixef import Poisson
        >>> y = Poisson().random(np.random.default_rng(1), np.full(1000, 3.0), np.full(1000, 2.0))
        >>> bool((y % 0.5 == 0).all()), round(float(y.mean()), 1), round(float(y.var()), 1)
        (True, 3.0, 1.6)
        """
        raise FitError(
            f"the family {self.name} says nothing of how to draw from it; give it a method "
            "random(rng, mu, weights, extra), or a UserFamily its random="
        )

    # ------------------------------------------------------------------ of the data

    def log_kernel(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Return the part of each row's log density that depends on the mean, like ``mu``."""
        return weigh(weights, self.unit_kernel(by_row(y, mu), eta, mu, extra))

    def log_normalizer(
        self, y: np.ndarray, weights: np.ndarray | None = None, extra: Extra = None
    ) -> np.ndarray:
        """Return the part of each row's log density that is free of the mean (n,)."""
        return weigh(weights, self.unit_normalizer(y, extra))

    def log_density(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Return the normalized log density of each row, like ``mu``."""
        kernel = self.log_kernel(y, eta, mu, weights, extra)
        return kernel + by_row(self.log_normalizer(y, weights, extra), mu)

    def log_density_by_extra(
        self,
        y: np.ndarray,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Return the derivative of each row's log density for ``extra``, like ``mu``."""
        return weigh(weights, self.unit_by_extra(by_row(y, mu), mu, extra))

    def saturated(
        self, y: np.ndarray, weights: np.ndarray | None = None, extra: Extra = None
    ) -> np.ndarray:
        """Return the log density of each row at ``mu = y`` (n,)."""
        y = np.asarray(y, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.log_density(y, self.link.link(y), y, weights, extra)

    def initial_mean(self, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Return means (n,) close to the response, inside the family's and the link's domain."""
        y = np.asarray(y, dtype=float)
        mu = np.asarray(self._near(y, np.ones(len(y)) if weights is None else weights))
        lower = max(self.mean_range[0], self.link.mean_range[0])
        upper = min(self.mean_range[1], self.link.mean_range[1])
        size = float(np.abs(y).mean()) or 1.0
        margin = 0.1 * min(size, upper - lower)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            outside = (mu <= lower) | ~np.isfinite(self.link.link(mu))
        mu = np.where(outside, (lower if np.isfinite(lower) else 0.0) + margin, mu)
        return np.where(mu >= upper, upper - margin, mu)

    def initial_extra(
        self, y: np.ndarray, mu: np.ndarray, weights: np.ndarray | None = None
    ) -> Extra:
        """Return moment estimates of ``extra`` at given means: Pearson's over n."""
        variance = self.variance(mu, 1.0)
        pearson = np.average(np.square(y - mu) / variance, weights=weights)
        floor = 1e-10 * np.average(np.square(y) / variance, weights=weights)
        return float(max(pearson, floor)) or 1.0

    def check_response(
        self, y: np.ndarray, weights: np.ndarray | None = None, name: str = "y"
    ) -> None:
        """Raise if the response cannot come from the family, or the weights are no weights.

        Parameters
        ----------
        y : ndarray (n,)
        weights : ndarray (n,), optional
        name : str
            The response's name, for the message.

        Raises
        ------
        DataError
            Naming the column, the first value that is not possible, and the remedy.

        Warns
        -----
        DataWarning
            Where a count is not a whole number.
        """
        refuse(~np.isfinite(y), y, f"the response {name}", "finite numbers", "drop such rows")
        if weights is not None:
            bad = ~(np.isfinite(weights) & np.greater_equal(weights, 0.0))
            refuse(bad, weights, "weights", "finite numbers, 0 or more", "correct them")

    def row_deviances(
        self,
        y: np.ndarray,
        mu: np.ndarray,
        weights: np.ndarray | None,
        extra: Extra,
        copies: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the deviance (n,) of each row times its weight, not over the dispersion."""
        return weigh(weights, self.unit_deviance(y, mu, extra))

    # ------------------------------------------------------------------ for subclasses

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return means close to the response, not yet moved into the domain."""
        return 0.5 * (y + np.average(y, weights=weights if np.any(weights) else None))

    def _set(self, **values: Any) -> None:
        """Set fields of an object under construction."""
        for field, value in values.items():
            object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(link={self.link.name!r})"

    def _facts(self) -> dict[str, str]:
        named = {"Family": self.name, "Link": self.link.name, "Means": range_text(self.mean_range)}
        extra = ", ".join(parameter.name for parameter in self.auxiliary)
        return named | {"Estimated besides the mean": extra or "nothing"}


def by_row(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return values of rows (n,) so that they broadcast with ``like``, (n,) or (n, k)."""
    if isinstance(values, np.ndarray) and values.ndim == getattr(like, "ndim", 0):
        return values
    values = np.asarray(values, dtype=float)
    missing = np.ndim(like) - values.ndim
    return values.reshape(values.shape + (1,) * missing) if values.ndim and missing > 0 else values


def weigh(weights: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    """Return weights (n,) times values (n,) or (n, k); a row of weight zero counts nothing."""
    return values if weights is None else times(by_row(weights, values), values)


def refuse(bad: np.ndarray, values: np.ndarray, what: str, expected: str, remedy: str) -> None:
    """Raise a `DataError` for the first bad one of some values, if there is one."""
    if np.any(bad):
        row = int(np.argmax(bad))
        raise DataError(
            f"{what} has the value {np.asarray(values)[row]:.10g} in row {row} (rows counted from "
            f"0); expected {expected}: {remedy}"
        )
