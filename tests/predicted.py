"""Fits whose predictions are tested, by names, and their variances by dense algebra."""

from functools import cache

import numpy as np
from reference_data import case, frame

from mixef import GlmerControl, LmerControl, glmer, lmer


@cache
def fit_of(name):
    c = case("predict_se.json", name)
    if c["family"] == "gaussian()":
        return lmer(c["formula"], frame(c["data"]), REML=name.endswith("_REML"))
    # glmmTMB's approximation takes observed information.
    control = GlmerControl(information="observed")
    family = c["family"].removesuffix("()")
    return glmer(c["formula"], frame(c["data"]), family=family, control=control)


def rows_of(name, unseen=False):
    c = case("predict_se.json", name)
    rows = frame(c["data"]).iloc[c["rows"]].copy()
    return rows.assign(**dict.fromkeys(c["new"], "unseen")) if unseen else rows


FORMULAS = {
    "vector": ("sleepstudy", "Reaction ~ Days + (Days | Subject)", None),
    "double bar": ("sleepstudy_unbalanced", "Reaction ~ Days + (Days || Subject)", None),
    "crossed": ("crossed", "yw ~ x + f + (x | a) + (1 | b)", "w"),
    "nested": ("nested", "y ~ x + (1 | a/b)", None),
    "three factors": ("crossed", "y ~ x + offset(v) + (1 | a) + (0 + x | a) + (z | b) + (1 | c)",
                      None),
}  # fmt: skip


@cache
def linear(name, REML=True):
    data, formula, weights = FORMULAS[name]
    control = LmerControl(check_conv_singular="ignore")
    return lmer(formula, frame(data), weights=weights, REML=REML, control=control)


GENERALIZED = {
    "scalar": ("cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", 1),
    "quadrature": (
        "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", 9),
    "expected information": (
        "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial(probit)", 1),
    "vector, dispersion": ("glmm_scale", "glog ~ x + offset(log(e)) + (x | g)", "Gamma(log)", 1),
    "shape": ("glmm_scale", "nb ~ x + offset(log(e)) + (1 | g)", "nbinom2", 1),
    "three factors": (
        "grouseticks", "TICKS ~ YEAR + scale(HEIGHT) + (1|BROOD) + (1|INDEX) + (1|LOCATION)",
        "poisson", 1),
}  # fmt: skip


@cache
def generalized(name, nAGQ=None):
    data, formula, family, own = GENERALIZED[name]
    return glmer(formula, frame(data), family=family, nAGQ=own if nAGQ is None else nAGQ)


def sparse_row(fit, t, z, codes):
    """Rows of Z (m, l s) of term t, dense; unknown levels have none."""
    s = z.shape[1]
    out = np.zeros((len(z), fit.terms[t].n_levels * s))
    for i, (row, code) in enumerate(zip(z, codes, strict=True)):
        if code >= 0:
            out[i, code * s : (code + 1) * s] = row
    return out


def dense_variance(fit, X, Z):
    """``sigma^2 [Lambda'z, x]' A^-1 [Lambda'z, x]`` with A of Henderson's equations."""
    lams = fit.estimates.lams
    big = [np.kron(np.eye(t.n_levels), lam) for t, lam in zip(fit.terms, lams, strict=True)]
    own = [sparse_row(fit, i, t.z, t.grouping.codes) @ big[i] for i, t in enumerate(fit.terms)]
    V, W = np.column_stack([*own, fit.X]), fit.frame.weights
    A = V.T @ (V if W is None else W[:, None] * V)
    q = V.shape[1] - fit.X.shape[1]
    A[:q, :q] += np.eye(q)
    new = np.column_stack([*(z @ L for z, L in zip(Z, big, strict=True)), X])
    return fit.estimates.sigma**2 * np.einsum("ma,ab,mb->m", new, np.linalg.inv(A), new)
