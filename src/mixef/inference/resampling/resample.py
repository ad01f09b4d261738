"""New responses from a linear fit's own residuals and random effects.

Residuals are taken at unit weight, ``sqrt(w) (y - mu)``, and put back with each row's own weight.

J. R. Carpenter, H. Goldstein and J. Rasbash (2003), A novel bootstrap procedure for assessing the
relationship between class size and achievement, Applied Statistics 52(4), 431-443.
"""

from __future__ import annotations

import numpy as np

from mixef.estimation.fit import Fit

# A relative standard deviation below this share of the largest is taken for zero.
NULL = 1e-8


def semiparametric_responses(
    fit: Fit, n: int, rng: np.random.Generator, *, use_u: bool = False
) -> np.ndarray:
    """Return responses (n_rows, n): normal random effects or the modes, plus drawn residuals."""
    if use_u:
        mean = fit.eta[:, None]
    else:
        draws = [
            rng.standard_normal((t.n_levels, len(lam), n))
            for t, lam in zip(fit.terms, fit.estimates.lams, strict=True)
        ]
        lams = fit.estimates.lams
        effects = [fit.estimates.sigma * (lam @ d) for lam, d in zip(lams, draws, strict=True)]
        mean = fit.fixed_predictor[:, None] + _random_part(fit, effects)
    return mean + _drawn_residuals(fit, _residuals(fit), n, rng)


def residual_responses(fit: Fit, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return responses (n_rows, n) of drawn random effects and residuals, both reflated.

    Levels of a grouping factor are drawn with replacement, all their random effects together.
    """
    effects: list[np.ndarray | None] = [None] * len(fit.terms)
    for members in fit.groups.values():
        modes = reflated_effects(fit, members)
        drawn = rng.integers(len(modes[0]), size=(len(modes[0]), n))
        for t, b in zip(members, modes, strict=True):
            effects[t] = np.moveaxis(b[drawn], 1, 2)
    rest = _residuals(fit)
    size = float(np.sqrt(np.mean(rest**2)))
    if size > 0:
        rest = rest * (fit.estimates.sigma / size)
    random = _random_part(fit, [e for e in effects if e is not None])
    return fit.fixed_predictor[:, None] + random + _drawn_residuals(fit, rest, n, rng)


def reflated_effects(fit: Fit, members: list[int]) -> list[np.ndarray]:
    """Return the modes (l, s_t) of one grouping factor's terms with the estimated covariance.

    Modes are shrunken: their covariance over the levels is smaller than the estimated one. They are
    centred, turned into uncorrelated ones of unit variance, and given the estimated covariance
    ``sigma^2 lam lam'`` (divisor l), with terms uncorrelated. The root goes by spherical random
    effects, so that a singular covariance keeps its null directions.
    """
    spherical, roots = [], []
    for t in members:
        left, size, _ = np.linalg.svd(fit.estimates.lams[t])
        keep = size > NULL * size.max(initial=0.0)
        spherical.append(fit.estimates.effects[t] @ (left[:, keep] / size[keep]))
        roots.append(left[:, keep] * size[keep])
    u = np.hstack(spherical)
    u = u - u.mean(axis=0)
    values, vectors = np.linalg.eigh(u.T @ u / len(u))
    flat = values <= NULL * values.max(initial=0.0)
    inverse = np.where(flat, 0.0, 1.0 / np.sqrt(np.where(flat, 1.0, values)))
    white = fit.estimates.sigma * (u @ (vectors * inverse) @ vectors.T)
    parts = np.split(white, np.cumsum([root.shape[1] for root in roots])[:-1], axis=1)
    return [part @ root.T for part, root in zip(parts, roots, strict=True)]


def _residuals(fit: Fit) -> np.ndarray:
    """Return the conditional residuals (n_rows,) at unit weight, centred."""
    rest = fit.y - fit.eta
    if fit.frame.weights is not None:
        rest = rest * np.sqrt(fit.frame.weights)
    return rest - rest.mean()


def _drawn_residuals(fit: Fit, rest: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    drawn = rest[rng.integers(len(rest), size=(len(rest), n))]
    return drawn if fit.frame.weights is None else drawn / np.sqrt(fit.frame.weights)[:, None]


def _random_part(fit: Fit, effects: list[np.ndarray]) -> np.ndarray:
    """Return ``Z b`` (n_rows, n) of effects (l_t, s_t, n), one array a term."""
    total = np.zeros((fit.frame.n, effects[0].shape[2]))
    for term, b in zip(fit.terms, effects, strict=True):
        total += term.Zt().T @ b.reshape(term.n_effects, -1)
    return total
