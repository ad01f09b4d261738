"""Covariances that are chosen for the coefficients of a fit: cluster-robust ones, or one's own."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import SATTERTHWAITE, Approximation, Asymptotic
from mixef.inference.robust.clusters import Clusters, clusters_of
from mixef.inference.robust.corrections import TYPES, corrected_rows
from mixef.inference.robust.small_samples import ClusterRobust, Corrected, CorrectedRows
from mixef.inference.robust.summed import corrected_sums
from mixef.inference.robust.working import working_model
from mixef.linalg.threads import one_blas_thread

GIVEN = "given"
MATRIX = f"{checks.either(TYPES)}, a matrix of your own, or None for the model's own covariance"
DEGREES = "a number above zero"
# Cells of a matrix that are so near to their mirror images differ by rounding.
SYMMETRIC = 1e-8


@dataclass(frozen=True, eq=False)
class ClusterCovariance:
    """A cluster-robust covariance of the coefficients."""

    type: str  # a name of `TYPES`
    clusters: Clusters
    matrix: np.ndarray  # (p, p)
    # What degrees of freedom come from; made again where it is missing, as after a pickle of one
    # that holds rows
    held: ClusterRobust | None = None

    rules = (SATTERTHWAITE, None)

    @property
    def label(self) -> str:
        """Name the covariance and its clusters."""
        return f"{self.type} by {self.clusters.name}"

    def method(self, rule: str | None, joint: bool) -> str:
        """Return what tests by a rule are, in words."""
        covariance = f"the {self.type} covariance by {self.clusters}"
        if rule is None:
            return covariance
        return f"{covariance} and {'HTZ' if joint else 'Satterthwaite'} degrees of freedom"

    def approximation(self, fit: Fit, rule: str) -> Approximation:
        """Return what tests need."""
        return cluster_robust(fit, self.type, self.clusters) if self.held is None else self.held

    def __getstate__(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return own if self.clusters.codes is None else own | {"held": None}


@dataclass(frozen=True, eq=False)
class GivenCovariance:
    """A covariance of the caller's, with degrees of freedom of all tests, or without."""

    matrix: np.ndarray  # (p, p)
    df: float | None = None

    label = "a covariance of the caller's"

    @property
    def rules(self) -> tuple[str | None, ...]:
        """Degrees of freedom where they were given."""
        return (None,) if self.df is None else (GIVEN, None)

    def method(self, rule: str | None, joint: bool) -> str:
        """Return what tests by a rule are, in words."""
        return self.label if rule is None else f"{self.label} and {self.df:g} degrees of freedom"

    def approximation(self, fit: Fit, rule: str) -> Approximation:
        """Return what tests need."""
        assert self.df is not None
        return GivenDegrees(fit.estimates.beta, self.matrix, self.df)


@dataclass(frozen=True)
class GivenDegrees(Asymptotic):
    """One number of degrees of freedom for all tests."""

    df: float

    def row_df(self, L: np.ndarray) -> np.ndarray:
        """Return them for every row of L (m, p)."""
        return np.full(len(L), self.df)

    def joint(self, D: np.ndarray) -> tuple[float, float]:
        """Return them, and no scaling."""
        return self.df, 1.0


def cluster_robust(fit: Fit, type: str, clusters: Clusters) -> ClusterRobust:
    """Return a cluster-robust covariance with what its degrees of freedom come from."""
    with one_blas_thread():
        if clusters.codes is not None:
            model = working_model(fit, clusters.codes, clusters.levels)
            corrected: Corrected = CorrectedRows(model, corrected_rows(type, model))
        else:
            corrected = corrected_sums(fit, type, clusters)
        return ClusterRobust(fit.estimates.beta, corrected.vcov, corrected)


def with_robust(fit: Fit, type: Any, cluster: Any = None, argument: str = "robust") -> Fit:
    """Return the fit with a cluster-robust covariance, by its name and that of its clusters."""
    name = checks.option(type, argument, TYPES)
    clusters = clusters_of(fit, cluster)
    found = cluster_robust(fit, name, clusters)
    chosen = ClusterCovariance(name, clusters, found.vcov, found)
    return replace(fit, beta_covariance=chosen)


def with_covariance(fit: Fit, vcov: Any, cluster: Any = None, df: Any = None) -> Fit:
    """Return the fit with a chosen covariance; see the method ``with_vcov`` of a model."""
    own = not (vcov is None or isinstance(vcov, str))
    if cluster is not None and not isinstance(vcov, str):
        raise ArgumentError(
            f"cluster is given with {checks.shown(vcov)}; it is for {checks.either(TYPES)}"
        )
    if df is not None and not own:
        raise ArgumentError(
            "df is for a matrix of your own; a cluster-robust covariance has Satterthwaite's"
        )
    if vcov is None:
        return replace(fit, beta_covariance=None)
    if isinstance(vcov, str):
        return with_robust(fit, vcov, cluster, "vcov")
    matrix = _checked_matrix(fit, vcov)
    if df is None or (isinstance(df, float) and np.isposinf(df)):
        return replace(fit, beta_covariance=GivenCovariance(matrix))
    degrees = checks.number(df, "df", 0.0, DEGREES)
    if not degrees > 0.0:
        raise checks.refusal("df", df, DEGREES)
    return replace(fit, beta_covariance=GivenCovariance(matrix, degrees))


def _checked_matrix(fit: Fit, vcov: Any) -> np.ndarray:
    """Return a covariance (p, p) of the caller's in the order of the coefficients."""
    names = list(fit.fixed_names)
    if isinstance(vcov, pd.DataFrame):
        if set(vcov.index) != set(names) or set(vcov.columns) != set(names):
            raise ArgumentError(
                f"vcov has the rows {list(map(str, vcov.index))} and the columns "
                f"{list(map(str, vcov.columns))}; expected the coefficients {', '.join(names)}"
            )
        vcov = vcov.loc[names, names]
    matrix = checks.numbers(vcov, "vcov", MATRIX)
    p = len(names)
    if matrix.shape != (p, p):
        raise ArgumentError(
            f"vcov has shape {matrix.shape}; expected ({p}, {p}), a row and a column for each of "
            f"{', '.join(names)}"
        )
    sd = np.sqrt(np.maximum(matrix.diagonal(), 0.0))
    gap = np.abs(matrix - matrix.T) > SYMMETRIC * np.outer(sd, sd)
    if gap.any():
        i, j = np.argwhere(gap)[0]
        raise ArgumentError(
            f"vcov is not symmetric: {matrix[i, j]:g} for {names[i]} and {names[j]}, and "
            f"{matrix[j, i]:g} the other way round; expected a covariance matrix"
        )
    matrix = 0.5 * (matrix + matrix.T)
    unit = matrix / np.outer(np.where(sd > 0, sd, 1.0), np.where(sd > 0, sd, 1.0))
    if p and np.linalg.eigvalsh(unit)[0] < -SYMMETRIC:
        raise ArgumentError(
            "vcov is not positive semidefinite: some combination of the coefficients would have a "
            "negative variance; expected a covariance matrix"
        )
    matrix.flags.writeable = False
    return matrix
