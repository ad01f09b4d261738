"""Parameters of a family besides the mean: dispersions, shapes, precisions, degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mixef.errors import ArgumentError, FitError
from mixef.families.link import Link
from mixef.families.links import make_link

# The values of a family's auxiliary parameters, as its methods take them: a number, a tuple of
# several, None where there are none (or the one is known).
Extra = Any


@dataclass(frozen=True)
class Auxiliary:
    """A parameter of a family besides the mean, which is estimated.

    Attributes
    ----------
    name : str
    link : str
        The search moves ``link(value)``, which every number is the link of.
    """

    name: str
    link: str = "log"

    @cached_property
    def _link(self) -> Link:
        return make_link(self.link)

    @property
    def label(self) -> str:
        """What the search's coordinate is called."""
        return f"{self.link}({self.name})"

    def coordinate(self, value: float) -> float:
        """Return where the search has a value."""
        return float(self._link.link(np.asarray(value)))

    def value(self, coordinate: float) -> float:
        """Return the value at a coordinate of the search."""
        return float(self._link.inverse(np.asarray(coordinate)))

    def slope(self, value: float) -> float:
        """Return the derivative of the value for its coordinate."""
        return float(self._link.d_inverse(np.asarray(self.coordinate(value))))

    @property
    def expected(self) -> str:
        """What values the parameter can have, for messages."""
        lower, upper = self._link.mean_range
        if (lower, upper) == (0.0, np.inf):
            return "a positive number"
        return f"a number between {lower:g} and {upper:g}"

    def is_possible(self, value: float) -> bool:
        """Return whether the parameter can have a value."""
        lower, upper = self._link.mean_range
        return lower < value < upper


DISPERSION = Auxiliary("dispersion")


class WithAuxiliary:
    """What a family does with its auxiliary parameters."""

    @property
    def name(self) -> str:
        """R's name of the family."""
        return type(self).__name__

    @property
    def auxiliary(self) -> tuple[Auxiliary, ...]:
        """The parameters besides the mean that are estimated."""
        return ()

    @property
    def has_dispersion(self) -> bool:
        """Whether there is a dispersion phi, which divides scores and weights of all rows."""
        return self.auxiliary == (DISPERSION,)

    @property
    def first_extra(self) -> Extra:
        """Auxiliary parameters to look for a mean with, before there are moment estimates."""
        return joined([1.0] * len(self.auxiliary))

    @property
    def starts_at_moments(self) -> bool:
        """Whether coefficients are looked for at moment estimates of auxiliary parameters.

        These have the unit of the response, or the mean depends on them.
        """
        return self.has_dispersion

    def extra_at(self, coordinates: np.ndarray) -> Extra:
        """Return the auxiliary parameters at coordinates (E,) of the search."""
        pairs = zip(self.auxiliary, coordinates, strict=True)
        return joined([parameter.value(at) for parameter, at in pairs])

    def coordinates(self, extra: Extra) -> list[float]:
        """Return the coordinates (E,) of the search at auxiliary parameters."""
        pairs = zip(self.auxiliary, separate(extra), strict=True)
        return [parameter.coordinate(value) for parameter, value in pairs]

    def check_extra(self, extra: Extra) -> None:
        """Raise where a search has led to values that the auxiliary parameters cannot have."""
        for parameter, value in zip(self.auxiliary, separate(extra), strict=False):
            if not parameter.is_possible(value):
                raise FitError(f"the {parameter.name} has left its domain: {value:g}")

    def named(self, extra: Extra) -> dict[str, float]:
        """Return auxiliary parameters by name."""
        if not self.auxiliary:
            return {}
        names = [parameter.name for parameter in self.auxiliary]
        return dict(zip(names, separate(extra), strict=True))

    def name_at(self, extra: Extra) -> str:
        """Return the name with values of auxiliary parameters, save a dispersion."""
        if not self.auxiliary or self.has_dispersion:
            return self.name
        return f"{self.name}({', '.join(f'{n} = {v:.5g}' for n, v in self.named(extra).items())})"

    def remedy(self, flat: tuple[str, ...]) -> str | None:
        """Say what to do where the data leave auxiliary parameters open, by their labels."""
        return None

    def dispersion(self, extra: Extra = None) -> float:
        """Return ``extra`` for a family with a dispersion, 1 for the others."""
        if not self.has_dispersion:
            return 1.0
        if extra is None:
            raise ArgumentError(
                f"the {self.name} family needs its dispersion: pass extra, a number"
            )
        return extra


def separate(extra: Extra) -> tuple[float, ...]:
    """Return the values of auxiliary parameters one by one."""
    if extra is None:
        return ()
    return extra if isinstance(extra, tuple) else (extra,)


def joined(values: Sequence[float]) -> Extra:
    """Return the values of auxiliary parameters as a family takes them; 1 where there are none."""
    return (float(values[0]) if len(values) else 1.0) if len(values) < 2 else tuple(values)
