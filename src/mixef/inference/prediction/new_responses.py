"""A new response whose linear predictor is normal: its expectation and its quantiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.families.auxiliary import Extra
from mixef.families.family import Family
from mixef.families.link import Link, UserLink
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


# Halvings that bring a bracket to rounding, and doublings of it until it holds the quantile.
HALVINGS, DOUBLINGS = 45, 50
# Distance of nodes beside the width of what rises between them; the rule's error is 1e-7 then.
SPACING = 1.5
# Means closer to zero are taken as this.
TINY = 1e-150
# Cells of (rows, nodes) that are held at a time.
CELLS = 1_000_000


def predictive_quantiles(
    fit: Fit,
    eta: np.ndarray,
    variance: np.ndarray,
    weights: np.ndarray | None,
    probabilities: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Return two quantiles (m,) of a new response, for eta normal with the given variances (m,).

    The response follows the family given eta; it is the mean of w of them for weights w, the share
    of successes in w trials. Quantiles of counts are the smallest value whose distribution function
    reaches the probability, so the two cover at least what is between the probabilities.
    """
    family, m = fit.family, len(eta)
    if family.support is None:
        raise ArgumentError(
            "interval='prediction' needs the family's distribution function, which is not known "
            f"for {family.name}; use interval='confidence', or simulate"
        )
    sd, w = np.sqrt(variance), np.ones(m) if weights is None else weights
    extra, (low, high) = fit.extra, domain(family, m)
    with np.errstate(all="ignore"):
        ends = [np.clip(eta + scipy.special.ndtri(q) * sd, low, high) for q in probabilities]
        width = min(_least_width(fit, end, sd, w, extra) for end in ends)
    z, p = normal_rule(SPACING * width)
    out = np.empty((2, m))
    # A user's link may know its rows, and is not given a part of them.
    step = m if isinstance(family.link, UserLink) else max(CELLS // len(z), 1)
    for start in range(0, m, step):
        rows = slice(start, start + step)
        with np.errstate(all="ignore"):
            mu = np.column_stack(
                [
                    family.link.inverse(np.clip(eta[rows] + sd[rows] * node, low[rows], high[rows]))
                    for node in z
                ]
            )
            if family.support != "real":
                mu = np.maximum(mu, TINY)
            cdf = _Mixture(family, mu, p, w[rows], extra)
            for side, probability in enumerate(probabilities):
                out[side, rows] = QUANTILES[family.support](cdf, probability)
    lost = ~(np.isfinite(eta) & np.isfinite(variance) & (w > 0))
    out[:, lost] = np.nan
    return out[0], out[1]


def _least_width(fit: Fit, eta, sd, w, extra) -> float:
    """Return how wide a response's distribution is at least, in standard deviations of eta.

    As a function of eta its distribution function rises over as much.
    """
    family = fit.family
    spread = family.spread(family.link.inverse(eta), w, extra)
    width = spread / (np.abs(family.link.d_inverse(eta)) * sd)
    return float(np.min(width, initial=1.0, where=np.isfinite(width)))


class _Mixture:
    """A distribution function averaged over nodes of the mean, with the middle of its values."""

    def __init__(self, family: Family, mu: np.ndarray, p: np.ndarray, w: np.ndarray, extra: Extra):
        self._F, self._mu, self._p, self._extra = family.cdf, mu, p, extra
        self._w, self.w = w[:, None], w
        middle = mu[:, mu.shape[1] // 2]
        self.middle = np.where(np.isfinite(middle), middle, 1.0)
        self.unit = family.spread(self.middle, w, extra)

    def __call__(self, y: np.ndarray) -> np.ndarray:
        """Return the probabilities (r,) of at most y (r,)."""
        return self._F(y[:, None], self._mu, self._w, self._extra) @ self._p


def _whole(cdf: _Mixture, probability: float) -> np.ndarray:
    """Return the least y, a whole number over w, with a probability of at least the one given."""
    below = np.full(len(cdf.w), -1.0)
    above = np.ceil(cdf.w * cdf.middle) + 1.0
    for _ in range(DOUBLINGS):
        short = cdf(above / cdf.w) < probability
        if not short.any():
            break
        below, above = np.where(short, above, below), np.where(short, 2.0 * above, above)
    while (above - below > 1.0).any():
        half = np.floor(0.5 * (below + above))
        reached = cdf(half / cdf.w) >= probability
        open_ = above - below > 1.0
        above = np.where(open_ & reached, half, above)
        below = np.where(open_ & ~reached, half, below)
    return above / cdf.w


def _real(cdf: _Mixture, probability: float) -> np.ndarray:
    steps = _root(lambda s: cdf(cdf.middle + cdf.unit * s), probability, np.zeros(len(cdf.w)))
    return cdf.middle + cdf.unit * steps


def _positive(cdf: _Mixture, probability: float) -> np.ndarray:
    return np.exp(_root(lambda s: cdf(np.exp(s)), probability, np.log(cdf.middle)))


def _unit(cdf: _Mixture, probability: float) -> np.ndarray:
    expit, logit = scipy.special.expit, scipy.special.logit
    return expit(_root(lambda s: cdf(expit(s)), probability, logit(cdf.middle)))


def _root(cdf: Callable, probability: float, start: np.ndarray) -> np.ndarray:
    """Return where an increasing function reaches a probability."""
    ends = []
    for sign in (-1.0, 1.0):
        end, step = start + sign, 1.0
        for _ in range(DOUBLINGS):
            short = sign * (probability - cdf(end)) > 0.0
            if not short.any():
                break
            step *= 2.0
            end = np.where(short, start + sign * step, end)
        ends.append(end)
    low, high = ends
    for _ in range(HALVINGS):
        half = 0.5 * (low + high)
        reached = cdf(half) >= probability
        low, high = np.where(reached, low, half), np.where(reached, half, high)
    return 0.5 * (low + high)


QUANTILES = {"whole": _whole, "real": _real, "positive": _positive, "unit": _unit}
