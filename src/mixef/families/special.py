"""The few special functions that keep densities exact where plain formulas cancel.

Series are those of Abramowitz and Stegun (1964), Handbook of Mathematical Functions: 4.1.27 for
the logarithm, 6.1.41 for the log gamma and 6.3.18 for the digamma function.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import scipy

# From here on Stirling's series with the terms below is exact to rounding.
LARGE = 10.0
# Where the logarithm's series takes over; its ten terms are exact to rounding up to 0.25.
SMALL = 0.25
# x is far beyond n where it is so many times as large; terms of the series in n / x there.
FAR, TERMS = 64.0, 10
_LOG = 1.0 / np.arange(21, 1, -2)
_GAMMA = (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
_DIGAMMA = (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12)


def log1p(x: np.ndarray) -> np.ndarray:
    """Return ``log(1 + x)`` for ``x >= 0`` with all digits.

    By the logarithm, which NumPy vectorizes, and the first order of what the sum rounded off.

    Examples
    --------
    >>> from mixef.families.special import log1p
    >>> float(log1p(1e-20))
    1e-20
    """
    return log_of_sum(x, 1.0 + x)


def log_of_sum(x: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `log1p` where ``whole = 1 + x`` is at hand."""
    return np.log(whole) + (x - (whole - 1.0)) / whole


def log1pmx(x: np.ndarray) -> np.ndarray:
    """Return ``log(1 + x) - x`` without cancellation at small x, -inf at -1 and at inf.

    Examples
    --------
    >>> from mixef.families.special import log1pmx
    >>> bool(abs(log1pmx(1e-9) / -5e-19 - 1) < 1e-9)
    True
    """
    x = np.asarray(x, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        plain = np.where(np.isposinf(x), -np.inf, np.log1p(x) - x)
        near = np.clip(x, -SMALL, SMALL)
        s = near / (2.0 + near)
        series = s * (2.0 * s * s * np.polyval(_LOG, s * s) - near)
    return np.where(np.abs(x) < SMALL, series, plain)


def half_deviance(y: np.ndarray, mu: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Return ``y log(y / mu) - y + mu``, with ``excess = mu - y``: half a Poisson deviance.

    Non-negative, exact for ``mu`` close to ``y`` and far below it, and ``mu`` at ``y = 0``.

    Examples
    --------
    >>> from mixef.families.special import half_deviance
    >>> round(float(half_deviance(1.0, 1e-20, 1e-20 - 1.0)), 6)  # 20 log(10) - 1
    45.051702
    """
    positive = np.where(y > 0, y, 1.0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        rows = np.abs(positive * log1pmx(excess / positive))
        far = mu < SMALL * positive
        if far.any():  # the excess has few digits of the mean
            logs = np.log(positive) - np.log(np.where(far, mu, 1.0))
            rows = np.where(far, positive * logs - positive + mu, rows)
        return np.where(y > 0, rows, mu)


def log1mexp(x: np.ndarray) -> np.ndarray:
    """Return ``log(1 - exp(x))`` for ``x <= 0``, exact at both ends; NaN for ``x > 0``."""
    x = np.asarray(x, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(x > -0.6931, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def stirling_error(x: np.ndarray | float) -> np.ndarray:
    """Return ``log gamma(x)`` less Stirling's ``(x - 1/2) log x - x + log(2 pi) / 2``."""
    x = np.asarray(x, dtype=float)
    large, small = np.maximum(x, LARGE), np.minimum(x, LARGE)
    plain = scipy.special.gammaln(small) - (small - 0.5) * np.log(small) + small
    series = np.polyval(_GAMMA, large**-2) / large
    return np.where(x < LARGE, plain - 0.5 * np.log(2 * np.pi), series)


def digamma_error(x: np.ndarray | float) -> np.ndarray:
    """Return ``log x - psi(x) - 1 / (2 x)`` without cancellation at large x."""
    x = np.asarray(x, dtype=float)
    large, small = np.maximum(x, LARGE), np.minimum(x, LARGE)
    plain = np.log(small) - scipy.special.psi(small) - 0.5 / small
    series = np.polyval(_DIGAMMA, large**-2) * large**-2
    return np.where(x < LARGE, plain, series)


def digamma_rise(x: np.ndarray | float, n: np.ndarray | float, less: float = 0.0) -> np.ndarray:
    """Return ``psi(x + n) - psi(x)`` for ``n >= 0``, less ``n / x`` if ``less`` is 1.

    Without cancellation at large x.
    """
    x = np.asarray(x, dtype=float)
    main = (log1pmx(n / x) if less else np.log1p(n / x)) + 0.5 * n / (x * (x + n))
    return main + digamma_error(x) - digamma_error(x + n)


def log_rising(x: np.ndarray | float, n: np.ndarray) -> np.ndarray:
    """Return ``log gamma(x + n) - log gamma(x) - n log x`` for ``n >= 0``; 0 at infinite x."""
    x, n = np.asarray(x, dtype=float), np.asarray(n, dtype=float)
    large, small = np.maximum(x, LARGE), np.minimum(x, LARGE)
    plain = scipy.special.gammaln(small + n) - scipy.special.gammaln(small) - n * np.log(small)
    # Stirling's formula for both; its main part without cancellation where n is small beside x.
    ratio = n / large
    few = (large + n - 0.5) * log1pmx(ratio) + ratio * (n - 0.5)
    many = (large + n - 0.5) * np.log1p(ratio) - n
    series = np.where(ratio < SMALL, few, many) + stirling_error(large + n) - stirling_error(large)
    return np.where(x < LARGE, plain, series)


def rising_derivative(x: np.ndarray | float, n: np.ndarray, order: int) -> np.ndarray:
    """Return a derivative of `log_rising` for x, from the second on.

    Where x is far beyond n, it is by the series

        sum over k of (-1)^(k + 1) (B_(k+1)(n) - B_(k+1)(0)) / (k (k + 1) x^k)

    in Bernoulli polynomials (NIST Digital Library of Mathematical Functions, 5.11.8), without the
    cancellation of its three parts.
    """
    x, n = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(n, dtype=float))
    far = x > FAR * (n + 1.0)
    near_x = np.where(far, 1.0, x)
    polygamma, m = scipy.special.polygamma, order - 1
    of_log = (-1.0) ** m * math.factorial(m) / near_x**order
    plain = polygamma(m, near_x + n) - polygamma(m, near_x) - n * of_log
    if not far.any():
        return plain
    inverse, series = 1.0 / np.where(far, x, 1.0), np.zeros(x.shape)
    few = np.where(far, n, 0.0)
    for k, coefficients in reversed(list(enumerate(_rising_series(), 1))):
        series = (series + (-1.0) ** (k + 1 + order) * math.perm(k + m, order)
                  * np.polyval(coefficients, few)) * inverse  # fmt: skip
    return np.where(far, series * inverse**order, plain)


@cache
def _rising_series() -> list[np.ndarray]:
    """Return the coefficients, for powers of n, of the terms in `rising_derivative`."""
    B = scipy.special.bernoulli(TERMS)
    return [
        np.array([math.comb(k + 1, j) * B[j] for j in range(k + 1)] + [0.0]) / (k * (k + 1))
        for k in range(1, TERMS + 1)
    ]


def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a b``, with 0 where a is zero whatever b is."""
    if np.all(a):
        return np.multiply(a, b)
    out = np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b)))
    return np.multiply(a, b, out=out, where=np.not_equal(a, 0.0))
