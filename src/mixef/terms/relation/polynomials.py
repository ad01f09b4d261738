"""Columns of a model as polynomials of the numeric expressions that they are made of.

``scale(x)``, ``I(x^2)`` and ``x:z`` are polynomials of x and z. An engine sums products of x and z
alone, centred and scaled, and what these are to the columns of the model is exact algebra.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import comb

import numpy as np

#: A product of expressions: their texts, sorted, one as often as its power says.
Monomial = tuple[str, ...]


@dataclass(frozen=True)
class Polynomial:
    """A polynomial of expressions that are known by their texts.

    Examples
    --------
    >>> x = Polynomial.of("x")
    >>> x.plus(Polynomial.constant(-2.0)).product(x).terms
    {('x', 'x'): 1.0, ('x',): -2.0}
    """

    terms: Mapping[Monomial, float]  # the coefficient of each monomial; () is that of the constant

    @classmethod
    def of(cls, text: str) -> Polynomial:
        """Return an expression by itself."""
        return cls({(text,): 1.0})

    @classmethod
    def constant(cls, value: float) -> Polynomial:
        """Return a constant."""
        return cls({(): value})

    @property
    def value(self) -> float | None:
        """The constant that it is; None for anything else."""
        return self.terms[()] if set(self.terms) == {()} else None

    @property
    def degree(self) -> int:
        """The highest number of expressions that are multiplied."""
        return max(map(len, self.terms))

    def times(self, factor: float) -> Polynomial:
        """Return a multiple."""
        return Polynomial({m: factor * value for m, value in self.terms.items()})

    def plus(self, other: Polynomial) -> Polynomial:
        """Return the sum with another one."""
        return Polynomial(_summed([*self.terms.items(), *other.terms.items()]))

    def product(self, other: Polynomial) -> Polynomial:
        """Return the product with another one."""
        pairs = product(self.terms.items(), other.terms.items())
        return Polynomial(_summed((times(a, b), u * v) for (a, u), (b, v) in pairs))


def _summed(terms: Iterable[tuple[Monomial, float]]) -> dict[Monomial, float]:
    out: dict[Monomial, float] = {}
    for monomial, value in terms:
        out[monomial] = out.get(monomial, 0.0) + value
    return out


def times(a: Monomial, b: Monomial) -> Monomial:
    """Return the product of two monomials."""
    return tuple(sorted(a + b))


@dataclass(frozen=True)
class Centre:
    """What an expression is measured from, and in which unit: ``x = origin + unit u``."""

    origin: float
    unit: float


def centre(low: float, mean: float, high: float) -> Centre:
    """Return the mean as the origin, and a power of two near the range as the unit.

    Neither costs a digit: a difference is exact to its own last digit, and a power of two exact.

    Examples
    --------
    >>> centre(20.0, 50.3, 81.0)
    Centre(origin=50.3, unit=32.0)
    """
    width = max(high - mean, mean - low)
    origin, size = (mean, width) if width > 0.0 else (0.0, abs(mean))
    return Centre(origin, 2.0 ** float(np.ceil(np.log2(size))) if size else 1.0)


def closure(polynomials: Iterable[Polynomial]) -> list[Monomial]:
    """Return the monomials of polynomials with all their divisors, by degree, ``()`` first."""
    found: set[Monomial] = {()}
    for polynomial in polynomials:
        for monomial in polynomial.terms:
            found.update(_divisors(monomial))
    return sorted(found, key=lambda m: (len(m), m))


def centred_coefficients(
    polynomials: Sequence[Polynomial], features: Sequence[Monomial], centres: Mapping[str, Centre]
) -> np.ndarray:
    """Return what polynomials of x are as polynomials of ``u``, with ``x = origin + unit u``.

    Returns
    -------
    ndarray (features, polynomials)
        Coefficients of the monomials `features` of u, a `closure` of the polynomials.
    """
    place = {monomial: a for a, monomial in enumerate(features)}
    out = np.zeros((len(features), len(polynomials)))
    for j, polynomial in enumerate(polynomials):
        for monomial, value in polynomial.terms.items():
            for divisor, share in _expanded(monomial, centres):
                out[place[divisor], j] += value * share
    return out


def _powers(monomial: Monomial) -> dict[str, int]:
    return {text: monomial.count(text) for text in dict.fromkeys(monomial)}


def _divisors(monomial: Monomial) -> list[Monomial]:
    powers = _powers(monomial)
    chosen = product(*(range(power + 1) for power in powers.values()))
    return [sum(((t,) * k for t, k in zip(powers, ks, strict=True)), ()) for ks in chosen]


def _expanded(
    monomial: Monomial, centres: Mapping[str, Centre]
) -> Iterable[tuple[Monomial, float]]:
    """Multiply out ``prod (origin + unit u)^power``."""
    powers = _powers(monomial)
    for ks in product(*(range(power + 1) for power in powers.values())):
        share, divisor = 1.0, Monomial()
        for (text, power), k in zip(powers.items(), ks, strict=True):
            own = centres[text]
            share *= comb(power, k) * own.unit**k * own.origin ** (power - k)
            divisor += (text,) * k
        yield divisor, share
