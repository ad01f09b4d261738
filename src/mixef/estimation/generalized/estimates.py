"""The estimates at a mode, on the user's scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixef.estimation.estimates import Estimates
from mixef.estimation.generalized.pirls import Mode, WorkingModel, fixed_products
from mixef.estimation.generalized.problem import ScaledModel
from mixef.families.auxiliary import Extra
from mixef.linalg import small
from mixef.terms.covariance import theta_of


def estimates_at(
    model: WorkingModel,
    problem: ScaledModel,
    mode: Mode,
    par: np.ndarray,
    lams: Sequence[np.ndarray],
    extra: Extra,
    objective: float,
    ldL2: float,
) -> Estimates:
    """Return the estimates at a mode, where the factor solves by expected information.

    Parameters
    ----------
    par, lams : ndarray (k,), sequence of ndarray (s_i, s_i)
        Covariance parameters of the scaled problem, and the templates that they make.
    objective, ldL2 : float
        -2 log L and ``log|M|`` there.
    """
    factor, layout, family = model.factor, model.groups.layout, model.response.family
    terms, basis, state = problem.terms, problem.basis, mode.state
    user = terms.user_coordinates(par)
    templates = tuple(s.template(x) for s, x in user)
    ussq = float(mode.u @ mode.u)
    UtWX, XtWX = fixed_products(model, lams, state.expected)
    XVX = XtWX - UtWX.T @ factor.solve(UtWX)
    vcov, ldRX2 = XVX, 0.0
    if problem.p:
        vcov = basis.back(basis.back(small.inverse(XVX)).T)
        back = np.log(basis.R.diagonal()).sum()
        ldRX2 = float(np.linalg.slogdet(XVX)[1] + 2.0 * back)
    return Estimates(
        par=np.concatenate([s.par(x) for s, x in user]),
        theta=np.concatenate([theta_of(lam) for lam in templates]),
        lams=templates,
        beta=basis.back(mode.beta),
        extra=extra if family.auxiliary else None,
        sigma=float(np.sqrt(family.dispersion(extra))),
        objective_se=0.0,
        objective=objective,
        unscaled_vcov=0.5 * (vcov + vcov.T),
        effects=terms.user_effects(layout, layout.multiply(lams, mode.u)),
        eta=state.eta,
        mu=state.mu,
        pwrss=model.pearson(state) + ussq,
        ussq=ussq,
        u=mode.u,
        ldL2=ldL2,
        ldRX2=ldRX2,
    )
