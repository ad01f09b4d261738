"""Expectations over a normal linear predictor: population averages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from mixef.errors import ArgumentError
from mixef.families.family import Family
from mixef.families.link import Link
from mixef.families.links import make_link

# Standard deviations that the nodes reach, where the density is 1e-16 of its maximum, and the
# furthest that they are apart.
REACH, WIDEST, CLOSEST = 8.5, 0.25, 0.01
# Probability of a linear predictor outside the link's domain that is rounding.
OUTSIDE = 1e-6


@dataclass(frozen=True)
class Average:
    """Means averaged over a normal linear predictor, with its derivatives."""

    mean: np.ndarray  # (m,)
    by_eta: np.ndarray  # (m,): derivatives for the predictor's expectation and for its variance
    by_variance: np.ndarray  # (m,)


def normal_rule(step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of the trapezoidal rule for the standard normal density.

    For functions analytic about the real line it converges geometrically (L. N. Trefethen and
    J. A. C. Weideman, 2014, SIAM Review 56, 385-458), and, other than for a Gauss-Hermite rule,
    its nodes may be as close as a steep function needs.
    """
    count = int(np.ceil(REACH / min(max(step, CLOSEST), WIDEST)))
    z = np.linspace(-REACH, REACH, 2 * count + 1)
    w = np.exp(-0.5 * z**2)
    return z, w / w.sum()


def domain(family: Family, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of linear predictors with possible means, an array (m,) an end.

    Infinite where the link has none, as 1/mu has none for a family with means of both signs.
    """
    lower = max(family.mean_range[0], family.link.mean_range[0])
    upper = min(family.mean_range[1], family.link.mean_range[1])
    with np.errstate(all="ignore"):
        ends = [np.asarray(family.link.link(np.full(m, end))) for end in (lower, upper)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    with np.errstate(invalid="ignore"):
        proper = low < high
    return np.where(proper, low, -np.inf), np.where(proper, high, np.inf)


def averaged_mean(family: Family, eta: np.ndarray, variance: np.ndarray) -> Average:
    """Return ``E g^-1(eta + v^(1/2) z)`` for a standard normal z, with derivatives.

    In closed form for the identity, log, square root and probit links (S. L. Zeger, K.-Y. Liang and
    P. S. Albert, 1988, Biometrics 44, 1049-1060), else by quadrature. The derivative for the
    variance is half the second one for eta. There is no average, but a ValueError, where the
    predictor leaves the link's domain with a probability that counts.
    """
    link = family.link
    for name, closed in CLOSED.items():
        if link == make_link(name):
            return closed(eta, variance)
    sd = np.sqrt(variance)
    _refuse_outside(family, eta, sd)
    z, w = normal_rule(0.3 / max(float(np.max(sd, initial=0.0, where=sd > 0)), 1.0))
    low, high = domain(family, len(eta))
    total = np.zeros((3, len(eta)))
    with np.errstate(all="ignore"):
        for node, weight in zip(z, w, strict=True):
            at = eta + sd * node
            at = np.where((at > low) & (at < high), at, eta)
            parts = (link.inverse(at), link.d_inverse(at), link.d2_inverse(at))
            total += weight * np.array(parts)
    return Average(total[0], total[1], 0.5 * total[2])


def _refuse_outside(family: Family, eta: np.ndarray, sd: np.ndarray) -> None:
    low, high = domain(family, len(eta))
    gap = np.minimum(eta - low, high - eta)
    if family.link == make_link("inverse"):
        gap = np.minimum(gap, np.abs(eta))  # its pole, also where both signs are means
    with np.errstate(divide="ignore", invalid="ignore"):
        outside = np.where(sd > 0, scipy.special.ndtr(-gap / sd), 0.0)
    if (bad := outside > OUTSIDE).any():
        row = int(np.argmax(bad))
        raise ArgumentError(
            f"there is no population average with the {family.link.name} link: at the linear "
            f"predictor {eta[row]:.4g} of row {row} (rows counted from 0), random effects with "
            f"standard deviation {sd[row]:.3g} leave the link's domain with probability "
            f"{outside[row]:.2g}; fit with a link that takes every linear predictor, such as log"
        )


def _identity(eta: np.ndarray, v: np.ndarray) -> Average:
    return Average(eta, np.ones_like(eta), np.zeros_like(eta))


def _log(eta: np.ndarray, v: np.ndarray) -> Average:
    mean = np.exp(eta + 0.5 * v)
    return Average(mean, mean, 0.5 * mean)


def _sqrt(eta: np.ndarray, v: np.ndarray) -> Average:
    return Average(eta**2 + v, 2.0 * eta, np.ones_like(eta))


def _probit(eta: np.ndarray, v: np.ndarray) -> Average:
    link: Link = make_link("probit")
    scale = np.sqrt(1.0 + v)
    density = link.d_inverse(eta / scale) / scale
    return Average(link.inverse(eta / scale), density, -0.5 * eta * density / scale**2)


CLOSED = {"identity": _identity, "log": _log, "sqrt": _sqrt, "probit": _probit}
