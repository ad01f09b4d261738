"""What a search needs to know about the function that it minimizes."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np

from mixef.estimation.search.bends import CovarianceQuadratic
from mixef.estimation.search.trust_region import Quadratic
from mixef.terms.parametrization import Parametrization


class Criterion(Protocol):
    """What a search needs to know about the function that it minimizes."""

    def value(self, par: np.ndarray) -> float:
        """Return the criterion, and remember where."""

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient (k,) and information (k, k) where the last value was taken."""

    def scale(self, par: np.ndarray) -> np.ndarray:
        """Return the size (k,) of a change of each parameter that counts as large."""

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value."""


class MixedCriterion(Criterion, Protocol):
    """A criterion whose first parameters make the covariances of random effects."""

    parametrization: Parametrization

    def value(self, par: np.ndarray, gain: float = 0.0) -> float:
        """Return the criterion, which may be off by a small share of what the step promises."""

    @property
    def is_rough(self) -> bool:
        """Whether the last value is."""

    def refine(self) -> None:
        """Bring the last value to all digits."""

    def canonical(self, par: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the point with non-negative diagonals, those up to ``floor`` at zero."""

    @property
    def knows_hessian(self) -> bool:
        """Whether the information is the exact Hessian."""

    def turned(self, par: np.ndarray) -> tuple[Self, np.ndarray] | None:
        """Return the criterion on the principal axes at the last point, and the point in them.

        None where that does not help.
        """

    def sharper(self) -> np.ndarray | None:
        """Return a better Hessian than the information at the last value, if there is one."""

    def in_covariances(self) -> CovarianceQuadratic | None:
        """Return what derivatives at the last value foretell, by covariances; None if unknown."""

    def scored(self) -> np.ndarray | None:
        """Return where Fisher's scoring leads from the last value, if that takes no longer."""

    def runs_away(self) -> bool:
        """Tell whether the criterion falls for ever from where derivatives were taken last."""

    def is_beyond(self) -> bool:
        """Tell whether effects are so large there that responses hardly tell them from larger."""

    def within_error(self) -> bool:
        """Tell whether the gradient, where it was taken last, vanishes up to its own error."""

    def plain(self, other: Self, par: np.ndarray) -> np.ndarray:
        """Return the parameters of this criterion at those of a turned one."""

    def follow(self, other: Self, par: np.ndarray) -> None:
        """Take over what a turned criterion knows, which stands at the covariances of ``par``."""


class Axes(Criterion, Protocol):
    """Coordinates of a criterion that may change during a search."""

    @property
    def knows_hessian(self) -> bool:
        """Whether the information is the exact Hessian."""

    def value(self, par: np.ndarray, gain: float = 0.0) -> float:
        """Return the criterion, which may be off by a small share of what the step promises."""

    @property
    def is_rough(self) -> bool:
        """Whether the last value is."""

    def refine(self, par: np.ndarray) -> None:
        """Go to a point, where derivatives have all digits then."""

    def turn(self, par: np.ndarray) -> np.ndarray | None:
        """Change coordinates where that helps; return the point of the last value in them."""

    def back(self, par: np.ndarray) -> np.ndarray:
        """Return a point in the coordinates of the start."""

    def bent(
        self, par: np.ndarray, here: Quadratic, radius: float
    ) -> tuple[np.ndarray, float] | None:
        """Return a step along a bend, in natural units, and its gain; None where it runs straight.

        ``here`` is what derivatives at ``par`` foretell. The first call with it comes while the
        last value is still that at ``par``; others follow after steps that were rejected.
        """

    def sharper(self) -> np.ndarray | None:
        """Return a better Hessian (k, k) than the information at the last value, if there is one.

        It costs about an evaluation, and is asked for near the end alone.
        """
