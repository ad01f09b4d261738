"""What a covariance structure of a random-effects term has to know.

A term's covariance is ``sigma^2 lam lam'`` for a root ``lam`` (s, s), any one. The search moves in
coordinates x in which the root is smooth everywhere: bounds are turning points there, where x and
its mirror image give one covariance. What users read is ``par``, lme4's parameters: entries of the
lower triangular root (the template), or relative standard deviations and a correlation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from mixef.terms.covariance.roots import lower_triangle


class Part(NamedTuple):
    """One standard deviation or correlation that users read: an entry of the covariance.

    ``name`` says whose it is: ``Days``, ``Days.(Intercept)`` or ``all``. With a ``reach`` it is
    that of any two columns so far apart, or nearer.
    """

    kind: Literal["sd", "cor"]
    row: int
    col: int
    name: str
    reach: int = 0

    def entry(self, cov: np.ndarray) -> tuple[int, int]:
        """Return row and column in a covariance (s, s): those that show it best."""
        if not self.reach:
            return self.row, self.col
        size = np.tril(np.outer(cov.diagonal(), cov.diagonal()), -1)
        row, col = np.divmod(int(np.argmax(np.triu(size, -min(self.reach, len(cov))))), len(cov))
        return (row, col) if row > col else (self.row, self.col)


class Changes(NamedTuple):
    """The covariances next to one: derivatives (r, s, s) that span them, and second ones.

    ``second`` (r, r, s, s) is None where covariances form a linear space, which ``first`` spans.
    """

    first: np.ndarray
    second: np.ndarray | None


class Held(NamedTuple):
    """Where a profile holds a parameter: ``x[place]`` is ``curve(v)``.

    ``curve`` gives value and two derivatives for v, a relative standard deviation or the arc sine
    of a correlation; ``back`` gives v.
    """

    place: int
    curve: Callable[[float], tuple[float, float, float]]
    back: Callable[[float], float]

    @classmethod
    def itself(cls, place: int) -> Held:
        """Return a parameter that is its own v."""
        return cls(place, lambda v: (v, 1.0, 0.0), float)


@dataclass(frozen=True)
class Covariance(ABC):
    """The covariance structure of one term with ``size`` columns."""

    size: int  # Columns s of the term
    hom: bool = False  # Whether they share one standard deviation

    #: The formula's tag, and what ``hom`` is unless it is given; None where it cannot be given.
    tag: ClassVar[str]
    default_hom: ClassVar[bool | None] = None
    #: How many correlations a table shows: "none", "one" for all, or "all" pairs.
    correlations: ClassVar[str] = "all"
    #: Whether its variances can be told from the residual one only with fewer random effects than
    #: observations.
    fewer_effects: ClassVar[bool] = True

    def __str__(self) -> str:
        usual = self.hom == bool(self.default_hom)
        return f"{self.tag}({'' if usual else f'hom = {str(self.hom).upper()}'})"

    @property
    def invariance(self) -> str:
        """What may be done to the columns without leaving the structure.

        "triangular" is any upper triangular transformation, "diagonal" a scale for each, "scalar"
        one common scale.
        """
        return "scalar" if self.hom else "diagonal"

    # The search's coordinates

    @property
    @abstractmethod
    def n_par(self) -> int:
        """Number of parameters k."""

    @abstractmethod
    def lam(self, x: np.ndarray) -> np.ndarray:
        """Return the root (s, s); roots (m, s, s) for x (m, k) where it is linear in x."""

    @abstractmethod
    def d_lam(self, x: np.ndarray) -> np.ndarray:
        """Return the root's derivatives (k, s, s)."""

    def d2_lam(self, x: np.ndarray) -> np.ndarray | None:
        """Return the root's second derivatives (k, k, s, s); None where it is linear in x."""
        return None

    @abstractmethod
    def coordinates(self, half: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return x (k,) for any root (s, s), or x (m, k) for roots (m, s, s).

        Diagonal entries of templates up to ``floor`` are set to zero.
        """

    def canonical(self, x: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return, of all x with one covariance, that of the template.

        Diagonal entries of templates up to ``floor`` are set to zero.
        """
        return self.coordinates(self.lam(x), floor)

    @abstractmethod
    def transformed(
        self, x: np.ndarray, transform: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Return canonical coordinates on other columns.

        ``transform`` takes roots there, in a way that the invariance allows.
        """

    def resized(self, x: np.ndarray, factor: float) -> np.ndarray:
        """Return the coordinates of roots multiplied by a positive factor."""
        return self.transformed(x, lambda half: factor * half)

    def template(self, x: np.ndarray) -> np.ndarray:
        """Return the lower triangular root (s, s) at canonical coordinates."""
        return self.lam(x) + 0.0  # no negative zeros

    def natural_units(self, x: np.ndarray, floor: float) -> np.ndarray:
        """Return each parameter's natural unit, as x: the standard deviation of its row."""
        rows = np.maximum(np.sqrt((self.lam(x) ** 2).sum(axis=-1)), floor)
        used = (self.d_lam(x) != 0).any(axis=-1)
        units: np.ndarray = np.where(used, rows[..., None, :], 0.0).max(axis=-1)
        return units

    def void(self, x: np.ndarray) -> np.ndarray:
        """Tell which parameters (k,) have no meaning: a correlation of nothing."""
        return np.zeros(self.n_par, dtype=bool)

    def start(self) -> np.ndarray:
        """Return the coordinates of the identity."""
        return self.coordinates(np.eye(self.size))

    def near(self, sd: np.ndarray, cov: np.ndarray) -> np.ndarray:
        """Return where to start: standard deviations (s,), and moment estimates ``cov`` (s, s)."""
        return self.coordinates(np.diag(sd))

    def inside(self, x: np.ndarray, share: float) -> np.ndarray:
        """Return coordinates kept off the bounds, diagonals at ``share`` or above."""
        index, lam = np.arange(self.size), self.lam(x)
        lam[index, index] = np.maximum(np.abs(lam.diagonal()), share)
        return self.coordinates(lam)

    def others(self, x: np.ndarray) -> list[np.ndarray]:
        """Return other places to search from, given an end: where another optimum may be."""
        return []

    def turned(self, x: np.ndarray) -> tuple[Covariance, np.ndarray] | None:
        """Return the structure on the principal axes at x, and x there.

        None where it has no others, or is on them, or nearly so.
        """
        return None

    def at_bounds(
        self, x: np.ndarray, columns: Sequence[str], tolerance: float
    ) -> list[tuple[str, str]] | None:
        """Name the parameters at a bound, with what they are; None: see directions of lam."""
        return None

    # The user's parameters

    def par(self, x: np.ndarray) -> np.ndarray:
        """Return lme4's parameters (k,) at canonical coordinates."""
        return np.array(x, dtype=float)

    def from_par(self, par: np.ndarray) -> np.ndarray:
        """Return the coordinates of lme4's parameters, as near as there are any."""
        return np.array(par, dtype=float)

    def par_slopes(self, x: np.ndarray) -> np.ndarray:
        """Return the derivatives (k,) of `par`, each for its own coordinate."""
        return np.ones(self.n_par)

    @property
    @abstractmethod
    def lower(self) -> np.ndarray:
        """Lower bounds of lme4's parameters, ``-inf`` where there is none."""

    @property
    def upper(self) -> np.ndarray:
        """Upper bounds of lme4's parameters."""
        return np.full(self.n_par, np.inf)

    @abstractmethod
    def labels(self, group: str, columns: Sequence[str]) -> list[str]:
        """Name lme4's parameters as it names theta: ``Subject.Days.(Intercept)``."""

    # Standard deviations and correlations

    def parts(self, columns: Sequence[str]) -> list[Part]:
        """List what users read: standard deviations, then correlations."""
        if self.hom:
            return [Part("sd", 0, 0, "all")]
        return [Part("sd", i, i, column) for i, column in enumerate(columns)]

    @property
    def correlation_bounds(self) -> tuple[float, float]:
        """Least and largest correlation."""
        return -1.0, 1.0

    @abstractmethod
    def root_of(self, sds: np.ndarray, correlations: np.ndarray) -> np.ndarray:
        """Return a root (s, s) of the covariance with the values of `parts`.

        Raises
        ------
        ValueError
            Where there is no such covariance; it says why.
        """

    @abstractmethod
    def held(self, kind: str, row: int) -> Held:
        """Return where a profile holds a standard deviation or the correlation."""

    def beside(self, row: int, col: int) -> tuple[int, ...]:
        """Return the columns without any of which a correlation has no meaning."""
        return row, col

    def focused(self, directions: np.ndarray) -> Any:
        """Return the structure on axes that single out the directions (m, s); None: `held`."""
        return None

    @abstractmethod
    def changes(self, x: np.ndarray) -> Changes:
        """Return what the covariances next to one are."""


def roots_of_theta(structures: Sequence[Covariance], theta: np.ndarray) -> list[np.ndarray]:
    """Return the templates (s_t, s_t) of lme4's theta: lower triangles, column by column."""
    out, first = [], 0
    for structure in structures:
        where = lower_triangle(structure.size)
        out.append(np.zeros((structure.size, structure.size)))
        out[-1][where] = theta[first : first + len(where[0])]
        first += len(where[0])
    return out
