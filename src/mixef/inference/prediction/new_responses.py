"""Quantiles of a new response whose linear predictor is uncertain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.families.continuous import Gamma, Gaussian, InverseGaussian
from mixef.families.counts import Binomial, NegativeBinomial, Poisson
from mixef.families.link import UserLink
from mixef.inference.prediction.normal_mixture import domain, normal_rule

# A distribution function at y of the mean of w responses with means mu: (y, mu, w, extra).
Distribution = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]

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
    kind = type(family)
    if kind not in DISTRIBUTIONS:
        raise ArgumentError(
            "interval='prediction' needs the family's distribution function, which is not known "
            f"for {family.name}; use interval='confidence', or simulate"
        )
    sd, w = np.sqrt(variance), np.ones(m) if weights is None else weights
    extra, (low, high) = fit.extra, domain(family, m)
    if isinstance(family, NegativeBinomial) and family.shape is not None:
        extra = family.shape
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
            if kind is not Gaussian:
                mu = np.maximum(mu, TINY)
            cdf = _Mixture(DISTRIBUTIONS[kind], mu, p, w[rows], extra)
            for side, probability in enumerate(probabilities):
                out[side, rows] = QUANTILES.get(kind, _whole)(cdf, probability)
    lost = ~(np.isfinite(eta) & np.isfinite(variance) & (w > 0))
    out[:, lost] = np.nan
    return out[0], out[1]


def _least_width(fit: Fit, eta, sd, w, extra) -> float:
    """Return how wide a response's distribution is at least, in standard deviations of eta.

    As a function of eta its distribution function rises over as much.
    """
    family = fit.family
    mu = family.link.inverse(eta)
    spread = np.sqrt(family.dispersion(extra) * family.variance(mu, extra) / w)
    width = spread / (np.abs(family.link.d_inverse(eta)) * sd)
    return float(np.min(width, initial=1.0, where=np.isfinite(width)))


class _Mixture:
    """A distribution function averaged over nodes of the mean, with the middle of its values."""

    def __init__(self, F: Distribution, mu: np.ndarray, p: np.ndarray, w: np.ndarray, extra: float):
        self._F, self._mu, self._p, self._extra = F, mu, p, extra
        self._w = w[:, None]
        self.w, self.extra = w, extra
        middle = mu[:, mu.shape[1] // 2]
        self.middle = np.where(np.isfinite(middle), middle, 1.0)

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
    unit = np.sqrt(cdf.extra / cdf.w)  # the response's own
    steps = _root(lambda s: cdf(cdf.middle + unit * s), probability, np.zeros(len(unit)))
    return cdf.middle + unit * steps


def _positive(cdf: _Mixture, probability: float) -> np.ndarray:
    return np.exp(_root(lambda s: cdf(np.exp(s)), probability, np.log(cdf.middle)))


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


def _binomial(y, mu, w, extra):
    successes = np.rint(w * y)
    rest = np.maximum(w - successes, 1.0)
    return np.where(successes >= w, 1.0, scipy.special.betainc(rest, successes + 1.0, 1.0 - mu))


def _poisson(y, mu, w, extra):
    return scipy.special.gammaincc(np.rint(w * y) + 1.0, w * mu)


def _negative_binomial(y, mu, w, extra):
    return scipy.special.betainc(w * extra, np.rint(w * y) + 1.0, extra / (extra + mu))


def _gaussian(y, mu, w, extra):
    return scipy.special.ndtr((y - mu) * np.sqrt(w / extra))


def _gamma(y, mu, w, extra):
    shape = w / extra
    return scipy.special.gammainc(shape, shape * (y / mu))


def _inverse_gaussian(y, mu, w, extra):
    rate = w / extra
    root, ratio = np.sqrt(rate / y), y / mu
    far = np.exp(2.0 * rate / mu + scipy.special.log_ndtr(-root * (ratio + 1.0)))
    return scipy.special.ndtr(root * (ratio - 1.0)) + far


DISTRIBUTIONS: dict[type, Distribution] = {
    Binomial: _binomial,
    Poisson: _poisson,
    NegativeBinomial: _negative_binomial,
    Gaussian: _gaussian,
    Gamma: _gamma,
    InverseGaussian: _inverse_gaussian,
}
QUANTILES: dict[type, Callable[[_Mixture, float], np.ndarray]] = {
    Gaussian: _real,
    Gamma: _positive,
    InverseGaussian: _positive,
}
