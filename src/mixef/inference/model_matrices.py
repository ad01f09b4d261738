"""The matrices of a model that has not been fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mixef.estimation.columns import independent
from mixef.estimation.spec import ModelSpec, checked_parameters, theta_labels
from mixef.inference.factor_at import FactorAt, effects_of, factor_of, relative_factor
from mixef.terms.covariance import make_covariance, roots_of_theta
from mixef.terms.random import RandomTerm
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class ModelMatrices(PrintedTable):
    """What a formula makes of data, made by `model_matrices`; effects are in lme4's order.

    Attributes
    ----------
    y : Series (n,)
        The response as numbers; shares of successes for a binomial one.
    X : DataFrame (n, p)
        Columns of the fixed effects by the names of their coefficients; dependent ones are left
        out.
    Zt : csc_array (q, n)
        The transpose of the columns of the random effects.
    theta : Series (m,)
        Covariance parameters: each term's lower triangle, column by column.
    effects : MultiIndex (q,)
        Group, level and column of the random effects.
    weights, offset : Series (n,) or None
        Prior weights (times numbers of trials), and the known part of the linear predictor.
    """

    y: pd.Series
    X: pd.DataFrame
    Zt: sparse.csc_array
    theta: pd.Series
    effects: pd.MultiIndex
    weights: pd.Series | None
    offset: pd.Series | None
    _terms: tuple[RandomTerm, ...]

    @property
    def Lambdat(self) -> sparse.csc_array:
        """The transposed relative covariance factor (q, q) at `theta`."""
        structures = [make_covariance("us", False, len(t.columns)) for t in self._terms]
        lams = roots_of_theta(structures, self.theta.to_numpy())
        return relative_factor(self._terms, lams).T.tocsc()

    @property
    def names(self) -> dict[str, list[Any]]:
        """Names of the columns of X, the rows of Zt and the entries of theta."""
        return {"X": list(self.X), "Zt": list(self.effects), "theta": list(self.theta.index)}

    def update(self, theta: Any) -> ModelMatrices:
        """Return the matrices at another theta."""
        values = checked_parameters(theta, list(self.theta.index), "entries of theta")
        return replace(self, theta=pd.Series(values, self.theta.index, name="theta"))

    def factor_at(
        self, theta: Any = None, order: Any = None, permute: bool = True, weights: Any = None
    ) -> FactorAt:
        """Return the sparse Cholesky factor of ``Lambda'Z'WZ Lambda + I``.

        Parameters
        ----------
        theta, order, permute, weights
            As in the method ``factor_at`` of a model; `theta` and the prior weights of the
            matrices by default.

        Examples
        --------
        >>> from mixef import load_dataset, model_matrices
        >>> penicillin = load_dataset("Penicillin")
        >>> parts = model_matrices("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin)
        >>> parts.factor_at([1.2, 2.1]).nnz
        189
        """
        own = np.ones(len(self.y)) if self.weights is None else self.weights.to_numpy()
        return factor_of(self._terms, own, self.theta.to_numpy(), theta, order, permute, weights)

    def to_table(self) -> Table:
        """Return the size of the matrices."""
        shapes = {"X": self.X.shape, "Zt": self.Zt.shape, "Lambdat": (len(self.effects),) * 2}
        rows = [tuple(map(str, shape)) for shape in shapes.values()]
        note = f"theta has {len(self.theta)} entries"
        return Table(("rows", "columns"), rows, list(shapes), title="Model matrices", note=note)


def matrices_of(spec: ModelSpec) -> ModelMatrices:
    """Return the matrices of a model, with theta at identity templates."""
    frame, terms, outcome = spec.frame, spec.terms, spec.outcome
    kept = independent(spec.design, outcome.weights, spec.control)
    names = [spec.design.names[j] for j in kept]
    identity = [np.eye(len(t.columns))[np.tril_indices(len(t.columns))[::-1]] for t in terms]

    def series(values: np.ndarray | None, name: str) -> pd.Series | None:
        return None if values is None else pd.Series(values, frame.index, name=name)

    return ModelMatrices(
        y=pd.Series(outcome.y, frame.index, name=spec.formula.response_name),
        X=pd.DataFrame(spec.design.matrix[:, kept], frame.index, names),
        Zt=sparse.vstack([term.Zt() for term in terms], format="csc"),
        theta=pd.Series(np.concatenate(identity), theta_labels(terms), name="theta"),
        effects=effects_of(terms),
        weights=series(outcome.weights, "weights"),
        offset=series(frame.offset, "offset"),
        _terms=terms,
    )
