"""What a link function can do, and the link that a user builds from functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError
from mixef.families.differences import derivative as differences
from mixef.text.made import Made, range_text

Function = Callable[[np.ndarray], Any]
DERIVATIVES = ("d_inverse", "d2_inverse", "d3_inverse", "d4_inverse")
PARTS = ("name", "link", "inverse", *DERIVATIVES, "complement", "mean_range")


class Link(Made, ABC):
    """The link ``eta = link(mu)`` between a mean and its linear predictor.

    A subclass gives ``link`` and ``inverse``, and whichever derivatives it can; the base class
    differences the highest one that is given (see `mixef.families.differences.derivative` for
    the accuracy). In the upper tail of a link whose mean tends to 1 these differences are only
    exact to 1e-13 in absolute terms. All methods work element by element on arrays of any shape.

    Attributes
    ----------
    name : str
        R's name of the link.
    mean_range : tuple of float
        The open interval of the means that the link covers.
    latent_variance : float or None
        Of a link of probabilities: the variance of the distribution whose distribution function
        the inverse link is. None where there is none, or it has no variance.

    Examples
    --------
    >>> from mixef.families.link import Link
    >>> class LogLog(Link):
    ...     name = "loglog"
    ...     mean_range = (0.0, 1.0)
    ...     def link(self, mu):
    ...         return -np.log(-np.log(mu))
    ...     def inverse(self, eta):
    ...         return np.exp(-np.exp(-eta))
    >>> round(float(LogLog().d_inverse(0.0)), 10)  # exp(-1)
    0.3678794412
    """

    name: str = "user"
    mean_range: tuple[float, float] = (-np.inf, np.inf)
    latent_variance: float | None = None

    @abstractmethod
    def link(self, mu: np.ndarray) -> np.ndarray:
        """Return the linear predictor of a mean."""

    @abstractmethod
    def inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the mean of a linear predictor."""

    def complement(self, eta: np.ndarray) -> np.ndarray:
        """Return ``1 - inverse(eta)``, with all digits in the links of probabilities."""
        return 1.0 - self.inverse(eta)

    def log_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the logarithm of the mean, finite in the tails where a subclass can."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(self.inverse(eta))

    def log_complement(self, eta: np.ndarray) -> np.ndarray:
        """Return ``log(1 - inverse(eta))``, finite in the tails where a subclass can."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(self.complement(eta))

    def d_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the first derivative of the mean for the linear predictor."""
        return self._derivative(eta, 1)

    def d2_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the second derivative of the mean for the linear predictor."""
        return self._derivative(eta, 2)

    def d3_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the third derivative of the mean for the linear predictor."""
        return self._derivative(eta, 3)

    def d4_inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the fourth derivative of the mean for the linear predictor."""
        return self._derivative(eta, 4)

    def bend(self, eta: np.ndarray) -> float:
        """Return the change of a linear predictor over which the mean curves; inf for a line.

        The median over the rows of the shorter of ``|f' / f''|`` and
        the root of the first over the third derivative, for the inverse link f.
        """
        with np.errstate(all="ignore"):
            first = np.abs(self.d_inverse(eta))
            second, third = np.abs(self.d2_inverse(eta)), np.abs(self.d3_inverse(eta))
            bends = np.minimum(first / second, np.sqrt(first / third))
        finite = bends[np.isfinite(bends)]
        if not finite.size:
            return np.inf
        finite.sort()
        half = len(finite) // 2
        return 0.5 * float(finite[half] + finite[-1 - half])

    def valid(self, eta: np.ndarray) -> bool:
        """Return whether all linear predictors are in the link's domain."""
        return isfinite(np.abs(eta).max(initial=0.0))

    def known(self) -> tuple[Function, ...]:
        """Return the inverse and those of its derivatives that are not differences, in order."""
        functions: list[Function] = [self.inverse]
        for name in DERIVATIVES:
            if getattr(type(self), name) is getattr(Link, name):
                break
            functions.append(getattr(self, name))
        return tuple(functions)

    def _derivative(self, eta: np.ndarray, order: int) -> np.ndarray:
        known = self.known()
        if order < len(known):
            return np.asarray(known[order](eta), dtype=float)
        return differences(known[-1], eta, order - len(known) + 1)

    def _identity(self) -> tuple:
        return (type(self), self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return f"<link {self.name!r}>"

    def _facts(self) -> dict[str, str]:
        return {"Link": self.name, "Means": range_text(self.mean_range)}


class UserLink(Link):
    """A link from a user's own functions.

    Parameters
    ----------
    name : str
    link, inverse : callable
        The linear predictor of a mean, and back; both take and return arrays.
    derivative : callable or sequence of callable, optional
        The first derivative of ``inverse``, or its first to fourth; the rest is differenced.
    complement : callable, optional
        ``1 - inverse(eta)`` with all digits, for a link of probabilities.
    mean_range : tuple of float
        The open interval of the means that the link covers; a mean that rounds to one of its
        ends is then no error.

    Raises
    ------
    ValueError
        If one of the functions cannot be called.

    Examples
    --------
    >>> from mixef.families.link import UserLink
    >>> from scipy.stats import t
    >>> robit = UserLink("robit", t(4).ppf, t(4).cdf, derivative=t(4).pdf, mean_range=(0, 1))
    >>> robit
    <link 'robit'>
    """

    def __init__(
        self,
        name: str,
        link: Function,
        inverse: Function,
        derivative: Function | Sequence[Function] | None = None,
        complement: Function | None = None,
        mean_range: tuple[float, float] = (-np.inf, np.inf),
    ) -> None:
        name, derivatives = checks.text(name, "name"), _as_tuple(derivative)
        given = {"link": link, "inverse": inverse}
        given |= dict(zip(DERIVATIVES, derivatives, strict=False))
        if complement is not None:
            given["complement"] = complement
        for role, function in given.items():
            if not callable(function):
                raise ArgumentError(
                    f"{role} of the link {name!r} is {checks.shown(function)}; expected a function "
                    "of an array"
                )
        if len(derivatives) > len(DERIVATIVES):
            raise ArgumentError(
                f"the link {name!r} has {len(derivatives)} derivatives; expected at most "
                f"{len(DERIVATIVES)}, from the first on"
            )
        self.name = name
        self.mean_range = checks.interval(mean_range, "mean_range")
        self._link = link
        self._known = (inverse, *derivatives)
        self._complement = complement

    def link(self, mu: np.ndarray) -> np.ndarray:
        """Return the linear predictor of a mean, from the user's function."""
        return np.asarray(self._link(mu), dtype=float)

    def inverse(self, eta: np.ndarray) -> np.ndarray:
        """Return the mean of a linear predictor, from the user's function."""
        return np.asarray(self._known[0](eta), dtype=float)

    def complement(self, eta: np.ndarray) -> np.ndarray:
        """Return ``1 - inverse(eta)``, from the user's function if there is one."""
        if self._complement is None:
            return super().complement(eta)
        return np.asarray(self._complement(eta), dtype=float)

    def known(self) -> tuple[Function, ...]:
        """Return the inverse and the derivatives that the user gave."""
        return self._known

    def _identity(self) -> tuple:
        return (UserLink, self.name, self._link, self._known, self._complement, self.mean_range)


def _as_tuple(derivative: Function | Sequence[Function] | None) -> tuple[Function, ...]:
    if derivative is None:
        return ()
    return tuple(derivative) if isinstance(derivative, Sequence) else (derivative,)


def parts_of(thing: Any) -> dict[str, Any]:
    """Return those of a link's parts that an object has as attributes."""
    return {part: getattr(thing, part) for part in PARTS if hasattr(thing, part)}


def link_from_parts(parts: dict[str, Any]) -> UserLink:
    """Return the link made of named parts, of which ``link`` and ``inverse`` are needed.

    Raises
    ------
    ValueError
        If a part is unknown, or a derivative is given without those below it.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ArgumentError(f"a link has no part {unknown[0]!r}; its parts are {', '.join(PARTS)}")
    rest = dict(parts)
    derivatives = [rest.pop(name) for name in DERIVATIVES if name in rest]
    if missing := [name for name in DERIVATIVES[: len(derivatives)] if name not in parts]:
        raise ArgumentError(
            f"a link's derivatives are given from the first on, but {missing[0]} is missing"
        )
    return UserLink(str(rest.pop("name", "user")), derivative=derivatives, **rest)
