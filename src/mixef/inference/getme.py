"""The pieces of a fit by lme4's names, for R hands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg, sparse

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.estimation.spec import checked_parameters, theta_labels
from mixef.families.standard import NegativeBinomial
from mixef.inference.coef import fixed_effects
from mixef.inference.factor_at import relative_factor
from mixef.inference.information import deviance
from mixef.inference.residuals import working_weights
from mixef.inference.varcorr import unique_names
from mixef.linalg.choose import sparse_cholesky
from mixef.terms.covariance import lower_triangle, theta_of


def get_me(fit: Fit, name: str | Sequence[str]) -> Any:
    """Return one piece of the fit; several, or all of them for "ALL", in a dict.

    Random effects run term by term, level by level, and column by column inside a level.
    """
    pieces = PIECES
    if isinstance(fit.family, NegativeBinomial):
        pieces = pieces | {"glmer.nb.theta": _shape}
    asked = checks.names(name, "name", "one of lme4's names, a list of them, or 'ALL'")
    unknown = [key for key in asked if key not in {*pieces, "ALL"}]
    if unknown:
        known = ", ".join(sorted(pieces))
        raise ArgumentError(f"getME knows no {unknown[0]!r}; expected one of {known}")
    if isinstance(name, str) and name != "ALL":
        return pieces[name](fit)
    keys = pieces if "ALL" in asked else asked
    return {key: pieces[key](fit) for key in keys}


def _Zt(fit: Fit) -> sparse.csc_array:
    return sparse.vstack([term.Zt() for term in fit.terms], format="csc")


def _Lambda(fit: Fit) -> sparse.csc_array:
    return relative_factor(fit.terms, fit.estimates.lams)


def _b(fit: Fit) -> np.ndarray:
    return np.concatenate([effects.ravel() for effects in fit.estimates.effects])


def _u(fit: Fit) -> np.ndarray:
    """Spherical effects, ``b = Lambda u``; zero along directions without variance."""
    parts = [
        np.linalg.lstsq(lam, effects.T, rcond=1e-10)[0].T.ravel()
        for lam, effects in zip(fit.estimates.lams, fit.estimates.effects, strict=True)
    ]
    return np.concatenate(parts)


def _root_weights(fit: Fit) -> np.ndarray:
    """Roots (n,) of the weights in ``Z'WZ``; by expected information for a generalized model."""
    return np.sqrt(working_weights(fit) / fit.estimates.sigma**2 * fit.covariance_scale)


def _Ztlist(fit: Fit) -> dict[str, sparse.csc_array]:
    """Return the rows (l, n) of Zt that belong to each column of each term."""
    columns = [(term, j) for term in fit.terms for j in range(len(term.columns))]
    names = unique_names([f"{term.group}.{term.columns[j]}" for term, j in columns])
    rows = [term.Zt()[j :: len(term.columns)] for term, j in columns]
    return dict(zip(names, rows, strict=True))


def _A(fit: Fit) -> sparse.csc_array:
    """``Lambda'Z'`` (q, n); without the weights, as lme4's."""
    return sparse.csc_array(_Lambda(fit).T @ _Zt(fit))


def _weighted_A(fit: Fit) -> sparse.csc_array:
    """``Lambda'Z'W^1/2`` (q, n)."""
    return sparse.csc_array(_A(fit).multiply(_root_weights(fit)))


def _L(fit: Fit) -> tuple[sparse.csc_array, np.ndarray]:
    fit.needs_exact("getME of the Cholesky factor")
    A = _weighted_A(fit)
    return sparse_cholesky(A @ A.T)


def _RZX(fit: Fit) -> np.ndarray:
    L, perm = _L(fit)
    rhs = (_weighted_A(fit) @ (_root_weights(fit)[:, None] * fit.X))[perm]
    return sparse.linalg.spsolve_triangular(sparse.csr_array(L), rhs, lower=True)


def _RX(fit: Fit) -> np.ndarray:
    # An inverse of its own would lose what columns that are nearly one leave of it.
    root = np.linalg.cholesky(fit.estimates.unscaled_vcov)
    inverse = linalg.solve_triangular(root, np.eye(len(root)), lower=True)
    R = np.linalg.qr(inverse).R
    return R * np.where(R.diagonal() < 0, -1.0, 1.0)[:, None]


def _Lind(fit: Fit) -> np.ndarray:
    """Where theta goes: the stored entries of Lambdat, by columns, are ``theta[Lind]``."""
    parts, first = [], 0
    for term in fit.terms:
        size = len(term.columns)
        place = np.zeros((size, size), dtype=int)
        count = size * (size + 1) // 2
        place[lower_triangle(size)] = np.arange(first, first + count)
        parts.append(np.tile(place[np.tril_indices(size)], term.n_levels))
        first += count
    return np.concatenate(parts)


def _ST(fit: Fit) -> list[np.ndarray]:
    """Relative standard deviations on the diagonal, unit lower triangular factors below it."""
    out = []
    for lam in fit.estimates.lams:
        scale = np.where(lam.diagonal() > 0, lam.diagonal(), 1.0)
        out.append(np.tril(lam / scale, -1) + np.diag(lam.diagonal()))
    return out


def _theta_starts(fit: Fit) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(theta_of(lam)) for lam in fit.estimates.lams])])


def _devcomp(fit: Fit) -> dict[str, Any]:
    e = fit.estimates
    ussq = float((_u(fit) ** 2).sum())
    n, p = fit.frame.n, len(fit.kept)
    cmp = {
        "ldL2": e.ldL2,
        "ldRX2": e.ldRX2,
        "wrss": e.pwrss - ussq,
        "ussq": ussq,
        "pwrss": e.pwrss,
    }
    if not fit.is_linear:
        cmp |= {"drsum": deviance(fit), "dev": e.objective, "sigma": e.sigma}
    else:
        cmp["REML" if fit.REML else "dev"] = e.objective
        cmp |= {"sigmaML": np.sqrt(e.pwrss / n), "sigmaREML": np.sqrt(e.pwrss / max(n - p, 1))}
    q = sum(term.n_effects for term in fit.terms)
    dims = {
        "N": n,
        "n": n,
        "p": p,
        "nmp": n - p,
        "q": q,
        "nth": len(e.theta),
        "reTrms": len(fit.terms),
        "REML": _REML(fit),
        "useSc": int(fit.sigma is not None),
    }
    dims |= {"GLMM": int(not fit.is_linear), "NLMM": 0}
    if not fit.is_linear:
        dims["nAGQ"] = int(fit.nAGQ)
    return {"cmp": cmp, "dims": dims}


def _REML(fit: Fit) -> int:
    """Return the number of fixed effects of a REML fit, else 0."""
    return len(fit.kept) if fit.REML else 0


def _shape(fit: Fit) -> float:
    """Return the shape of a negative binomial family, whether known or estimated."""
    assert isinstance(fit.family, NegativeBinomial)
    shape = fit.family.shape if fit.family.shape is not None else fit.estimates.extra
    assert shape is not None
    return shape


def _flist(fit: Fit) -> pd.DataFrame:
    factors = [fit.terms[members[0]].grouping for members in fit.groups.values()]
    columns = {g.name: pd.Categorical.from_codes(g.codes, categories=g.index) for g in factors}
    return pd.DataFrame(columns, index=fit.frame.index)


def _offset(fit: Fit) -> np.ndarray:
    return np.zeros(fit.frame.n) if fit.frame.offset is None else fit.frame.offset.copy()


def _starts(fit: Fit) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([term.n_effects for term in fit.terms])])


PIECES: dict[str, Callable[[Fit], Any]] = {
    "X": lambda fit: pd.DataFrame(fit.X, index=fit.frame.index, columns=list(fit.fixed_names)),
    "Zt": _Zt,
    "Z": lambda fit: _Zt(fit).T.tocsr(),
    "Ztlist": _Ztlist,
    "mmList": lambda fit: {
        term.label: pd.DataFrame(term.z.copy(), index=fit.frame.index, columns=list(term.columns))
        for term in fit.terms
    },
    "y": lambda fit: fit.y.copy(),
    "mu": lambda fit: fit.mu.copy(),
    "offset": _offset,
    "u": _u,
    "b": _b,
    "theta": lambda fit: pd.Series(fit.estimates.theta.copy(), index=theta_labels(fit.terms)),
    "par": lambda fit: pd.Series(fit.estimates.par.copy(), index=fit.par_labels),
    "lower": lambda fit: np.concatenate([term.structure.lower for term in fit.terms]),
    "upper": lambda fit: np.concatenate([term.structure.upper for term in fit.terms]),
    "beta": lambda fit: fit.estimates.beta,
    "fixef": fixed_effects,
    "sigma": lambda fit: fit.estimates.sigma,
    "Lambda": _Lambda,
    "Lambdat": lambda fit: _Lambda(fit).T.tocsc(),
    "Tlist": lambda fit: [lam.copy() for lam in fit.estimates.lams],
    "Lind": _Lind,
    "ST": _ST,
    "Tp": _theta_starts,
    "A": _A,
    "L": lambda fit: _L(fit)[0],
    "P": lambda fit: _L(fit)[1],
    "RZX": _RZX,
    "RX": _RX,
    "Gp": _starts,
    "flist": _flist,
    "cnms": lambda fit: [(term.group, list(term.columns)) for term in fit.terms],
    "REML": _REML,
    "is_REML": lambda fit: fit.REML,
    "n_rtrms": lambda fit: len(fit.terms),
    "n_rfacs": lambda fit: len(fit.groups),
    "N": lambda fit: fit.frame.n,
    "n": lambda fit: fit.frame.n,
    "p": lambda fit: len(fit.kept),
    "q": lambda fit: int(_starts(fit)[-1]),
    "p_i": lambda fit: [len(term.columns) for term in fit.terms],
    "l_i": lambda fit: [fit.terms[members[0]].n_levels for members in fit.groups.values()],
    "q_i": lambda fit: [term.n_effects for term in fit.terms],
    "m_i": lambda fit: [term.structure.n_par for term in fit.terms],
    "k": lambda fit: len(fit.terms),
    "m": lambda fit: len(fit.estimates.par),
    "npar": lambda fit: fit.npar,
    "devcomp": _devcomp,
    "devfun": lambda fit: deviance_function(fit),
}


def deviance_function(fit: Fit) -> Callable[[Any], float]:
    """Return the criterion as a function of its parameters on the user's scale.

    They are the covariance parameters; for a generalized model with coefficients (unless nAGQ is
    0) and the log of the dispersion or shape after them.
    """
    if not fit.is_linear:
        return _generalized_function(fit)
    criterion = fit.criterion()

    def devfun(par: Any) -> float:
        return criterion.value(criterion.terms.scaled_par(checked_parameters(par, fit.par_labels)))

    return devfun


def _generalized_function(fit: Fit) -> Callable[[Any], float]:
    criterion = fit.criterion()
    k = len(fit.estimates.par)
    p = 0 if fit.nAGQ == 0 else len(fit.kept)

    def devfun(parameters: Any) -> float:
        values = checked_parameters(parameters, fit.labels, "parameters")
        beta = values[k : k + p] if p else fit.estimates.beta
        extra = fit.family.extra_at(values[len(values) - len(fit.family.auxiliary) :])
        return criterion.value(criterion.scaled_point(values[:k], beta, extra))

    return devfun
