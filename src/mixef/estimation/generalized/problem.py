"""Scaling a generalized model, and where its search starts.

Columns are scaled by the working weights of the model without random effects, whose coefficients
the search starts from; covariances start at moment estimates of its working residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from mixef.control import OBJECTIVE_SE
from mixef.errors import FitError
from mixef.estimation.generalized.glm import GLMFit, fit_glm
from mixef.estimation.generalized.pirls import WorkingModel
from mixef.estimation.generalized.response import Response
from mixef.estimation.linear.moments import moment_estimates, moment_start, principal_axes
from mixef.estimation.scaling import ScaledTerms, scale_terms, turn
from mixef.families.auxiliary import Extra
from mixef.families.family import Family
from mixef.linalg.choose import make_factor
from mixef.linalg.crossproducts import CrossProducts, crossproducts, rotate
from mixef.linalg.factor import Factor
from mixef.linalg.reweighted import ReweightedProducts
from mixef.linalg.rows import GroupDesign, RowPieces, Rows
from mixef.linalg.standardize import (
    Basis,
    orthonormal_columns,
    reweighted_columns,
)
from mixef.terms.parametrization import Parametrization
from mixef.terms.random import RandomTerm

# The smallest weight that scales a row, beside the mean weight: a row that says nothing at the
# start may say something later.
LEAST_WEIGHT = 1e-3
# Families start at a dispersion of 1e-10 of the response's mean square or more; working residuals
# below this share of it are rounding.
EXACT = 1e-12
NO_SCALE = (
    "the fixed effects, or random effects with them, fit the response exactly, up to rounding: the "
    "dispersion is zero and the likelihood has no maximum; check whether the response is made of "
    "the predictors"
)


@dataclass(frozen=True, kw_only=True)
class ScaledModel:
    """A generalized model on scaled columns, wherever its rows are; it never changes."""

    in_memory: ClassVar[bool] = True
    response: Response
    nAGQ: int  # 0, 1 (Laplace), or the number of quadrature nodes
    terms: ScaledTerms
    basis: Basis  # From the scaled columns of X back to the user's
    par: np.ndarray  # (k,): starting values
    beta: np.ndarray  # (p,): starting values
    inside: np.ndarray  # (p,): coefficients well inside the domain, for a start that is not
    extra: Extra  # Starting values of the family's auxiliary parameters, 1 where there are none
    units: np.ndarray  # (p + E,): size of a large change of beta and of the auxiliary coordinates
    chosen_factor: str = "auto"  # `GlmerControl.factor`
    objective_se: float = OBJECTIVE_SE  # `GlmerControl.objective_se`

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return len(self.basis.R)

    @property
    def is_exact(self) -> bool:
        """Whether the random effects have an exact factor."""
        return self._factor.is_exact

    @property
    def _factor(self) -> Factor:
        """A factor whose numbers nobody uses: the structure is analysed once."""
        raise NotImplementedError

    @property
    def n_passes(self) -> int:
        """How often all rows were read so far, where they are not in memory."""
        return 0

    def scaled_beta(self, beta: np.ndarray) -> np.ndarray:
        """Return coefficients of the scaled columns of X."""
        scaled: np.ndarray = self.basis.R @ beta
        return scaled

    def user_beta(self, beta: np.ndarray) -> np.ndarray:
        """Return coefficients, or the rows of a matrix (p, m), on the user's scale."""
        return self.basis.back(beta)


@dataclass(frozen=True, kw_only=True)
class GeneralizedProblem(ScaledModel):
    """A generalized model on scaled columns in memory, with starting values."""

    glm: GLMFit  # The model without random effects
    designs: tuple[GroupDesign, ...]  # Scaled columns of Z, one a grouping factor
    X: np.ndarray  # (n, p): scaled columns
    offset: np.ndarray  # (n,)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.X)

    @cached_property
    def _groups(self) -> ReweightedProducts:
        """Products whose numbers nobody uses."""
        return ReweightedProducts(self.designs)

    @cached_property
    def _factor(self) -> Factor:
        return make_factor(self._groups.products, self.chosen_factor)

    def working_model(self) -> WorkingModel:
        """Return a new working model, with products and a factor of its own."""
        groups = self._groups.twin()
        factor = self._factor.twin(groups.products)
        return WorkingModel(self.response, self.X, self.offset, self.designs, groups, factor)


def generalized_problem(
    X: np.ndarray,
    response: Response,
    offset: np.ndarray | None,
    terms: Sequence[RandomTerm],
    nAGQ: int,
    chosen_factor: str = "auto",
    objective_se: float = OBJECTIVE_SE,
) -> GeneralizedProblem:
    """Scale a model's columns and find starting values.

    Parameters
    ----------
    X : ndarray (n, p)
        Linearly independent columns.
    """
    user_axes = nAGQ > 1  # quadrature over several columns depends on the user's axes
    offset = np.zeros(len(X)) if offset is None else offset
    X, basis = orthonormal_columns(X)
    glm = fit_glm(response, X, offset)
    W = glm.state.expected
    W = np.maximum(W, LEAST_WEIGHT * (W.sum() / len(W)))
    root = np.sqrt(W)
    X, R = reweighted_columns(X, root)
    scaled, groups = scale_terms(terms, W, user_axes)
    parametrization = scaled.parametrization
    working = glm.state.score / root
    if response.family.has_dispersion and working @ working < EXACT * len(working):
        raise FitError(NO_SCALE)
    products = crossproducts(Rows(groups, RowPieces(X, root), working))
    axes, par, extra = covariance_start(
        products, parametrization, response.family, glm.extra, user_axes
    )
    return GeneralizedProblem(
        response=response,
        nAGQ=nAGQ,
        glm=glm,
        terms=scaled.turned(axes),
        designs=tuple(
            g.with_columns(np.ascontiguousarray(g.z / root[:, None])) for g in turn(groups, axes)
        ),
        X=X,
        basis=Basis(R @ basis.R),
        offset=offset,
        par=par,
        beta=R @ glm.beta,
        inside=R @ glm.inside,
        extra=extra,
        units=_natural_units(response, glm, W, X.shape[1]),
        chosen_factor=chosen_factor,
        objective_se=objective_se,
    )


def covariance_start(
    products: CrossProducts,
    parametrization: Parametrization,
    family: Family,
    extra: Extra,
    user_axes: bool = False,
) -> tuple[list[np.ndarray], np.ndarray, Extra]:
    """Return the axes of the columns of Z, and moment estimates of the covariances on them.

    Parameters
    ----------
    products : CrossProducts
        Of weighted columns and the working residuals of the model without random effects.
    extra : float or tuple
        That model's auxiliary parameters; a dispersion comes back without the random effects' part.
    user_axes : bool
        Keep the axes of the columns.
    """
    moments = moment_estimates(products, None if family.has_dispersion else 1.0)
    axes = principal_axes(moments, parametrization)
    if user_axes:
        axes = [np.eye(len(V)) for V in axes]
    par = moment_start(moments.turned(axes), rotate(products, axes), parametrization)
    if family.has_dispersion:  # so far all was relative to the dispersion without random effects
        par = parametrization.resized(par, np.sqrt(moments.sigma2))
        extra *= moments.sigma2
    return axes, par, extra


def _natural_units(response: Response, glm: GLMFit, W: np.ndarray, p: int) -> np.ndarray:
    """Return the size (p + E,) of a large change of beta and of the auxiliary coordinates.

    For beta it is a change of the linear predictor over which the mean curves.
    """
    n, eta = len(W), glm.state.eta
    level = np.sqrt(W.sum() / n)
    largest = max(np.sqrt(eta.dot(eta) / n), 3.0 / level)
    units = np.ones(p + len(response.family.auxiliary))
    units[:p] = level * min(response.family.link.bend(eta), largest)
    return units
