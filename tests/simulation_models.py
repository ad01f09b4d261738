"""Models to simulate from, and the exact distribution of what a linear one draws."""

from functools import cache

import numpy as np
import pandas as pd
from simulated import crossed

from mixef import glmer, glmer_nb, lmer, load_dataset

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


def sparse_binary():
    """A response in every form that a binomial model takes; some rows with missing values."""
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(30), 8)
    x = rng.normal(size=240)
    p = 1 / (1 + np.exp(-(0.3 + 0.6 * x + rng.normal(size=30)[g])))
    yes = rng.random(240) < p
    size = rng.integers(1, 9, 240)
    data = pd.DataFrame({"x": x, "g": g, "yes": yes, "size": size, "w": rng.integers(1, 4, 240)})
    data["zero_one"] = yes.astype(int)
    data["number"] = yes.astype(float)
    data["label"] = pd.Categorical(np.where(yes, "up", "down"), ["up", "down"])  # not sorted
    data["hits"] = rng.binomial(size, p)
    data["share"] = data["hits"] / size
    data["count"] = rng.poisson(np.exp(0.5 + 0.2 * x))
    data["time"] = rng.gamma(2.0, np.exp(0.1 * x) / 2)
    return data


DATA = sparse_binary()
MODELS = {
    "slopes": lambda: lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")),
    "weights": lambda: lmer("y ~ x + (x | g) + (1 | h)", crossed(), weights="w"),
    "two terms": lambda: lmer("y ~ x + (1 | g) + (0 + x | g) + (1 | h)", crossed(), offset="z"),
    "nested": lambda: lmer("y ~ f + (1 | g/k)", crossed(), weights="w"),
    "homogeneous": lambda: lmer("y ~ x + diag(0 + f | g, hom = TRUE)", crossed()),
    "singular": lambda: lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff2")),
    "cbpp": lambda: glmer(CBPP, load_dataset("cbpp"), "binomial"),
    "ticks": lambda: glmer(
        "TICKS ~ YEAR + (1 | BROOD) + (1 | LOCATION)", load_dataset("grouseticks"), "poisson"
    ),
    "shares": lambda: glmer("share ~ x + (1 | g)", DATA, "binomial", weights="size"),
    "gamma": lambda: glmer("time ~ x + (1 | g)", DATA, "Gamma(log)"),
    "nbinom": lambda: glmer_nb("count ~ x + (1 | g)", DATA.assign(count=DATA["hits"])),
}


@cache
def model(name):
    return MODELS[name]()


class Axes(np.random.Generator):
    """A generator whose standard normals are unit vectors, one a replicate, in order of drawing.

    So n replicates with n normals each are the columns of the linear map from normals to responses.
    """

    def __init__(self):
        super().__init__(np.random.PCG64(0))
        self.used = 0

    def standard_normal(self, size):
        out = np.zeros((int(np.prod(size[:-1])), size[-1]))
        np.fill_diagonal(out[:, self.used :], 1.0)
        self.used += len(out)
        return out.reshape(size)


def linear_map(fit, **arguments):
    """Mean (m,) and covariance (m, m) of simulated responses of a linear model, exactly."""
    size = fit.nobs + sum(term.n_effects for term in fit._fit.terms) + 50
    newdata = arguments.get("newdata")
    size += 0 if newdata is None else 4 * len(newdata)
    axes = Axes()
    y = fit.simulate(size, seed=axes, **arguments).to_numpy()
    assert axes.used < size
    mean = y[:, -1]  # beyond the last normal: all are zero
    return mean, (y - mean[:, None]) @ (y - mean[:, None]).T


def dense_covariance(fit, terms=None):
    """``sigma^2 (Z Lambda Lambda' Z' + W^-1)`` of the fit's rows, for some terms."""
    state = fit._fit
    V = np.diag(1.0 / (np.ones(fit.nobs) if state.frame.weights is None else state.frame.weights))
    for t, (term, lam) in enumerate(zip(state.terms, state.estimates.lams, strict=True)):
        if terms is None or t in terms:
            same = term.grouping.codes[:, None] == term.grouping.codes
            V += (term.z @ lam @ lam.T @ term.z.T) * same
    return fit.sigma**2 * V
