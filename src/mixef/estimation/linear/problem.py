"""The linear model on scaled data: what its criterion is made of, and never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from mixef.estimation.linear.moments import Moments, moment_estimates, moment_start, principal_axes
from mixef.estimation.scaling import ScaledTerms, block_names
from mixef.linalg import small
from mixef.linalg.choose import make_factor
from mixef.linalg.crossproducts import CrossProducts, crossproducts, rotate
from mixef.linalg.factor import Factor
from mixef.linalg.rows import RowSource
from mixef.linalg.sources import Chunk, ScaledChunks, Scan, scale_chunks, scan
from mixef.linalg.standardize import Basis, ResponseScale
from mixef.terms.parametrization import Parametrization
from mixef.terms.random import RandomTerm, block_structure

# Where levels of one factor leave less than this share of the response's variance, sums of squares
# of cross-products lose digits, and the solution is refined on the rows of the data.
CANCELLATION = 1e-5


@dataclass(frozen=True, eq=False)
class LinearProblem:
    """A linear model on scaled data: what its criterion is made of, and never changes."""

    REML: bool
    products: CrossProducts  # of the scaled columns
    terms: ScaledTerms
    x_basis: Basis  # from the scaled columns back to X
    y_scale: ResponseScale  # what was taken off the response, and its unit
    moments: Moments  # where the search starts
    sum_log_w: float = 0.0  # of the weights
    rows: RowSource | None = None  # the scaled rows, where cross-products alone would lose digits
    chosen_factor: str = "auto"  # `LmerControl.factor`

    @classmethod
    def from_chunks(
        cls,
        chunks: Callable[[], Iterable[Chunk]],
        terms: Sequence[RandomTerm],
        REML: bool,
        response: str = "y",
        known: Scan | None = None,
        chosen_factor: str = "auto",
        products: Callable[[ScaledChunks], CrossProducts] | None = None,
    ) -> LinearProblem:
        """Return the problem of rows that come some at a time.

        Parameters
        ----------
        chunks : callable
            Returns the chunks from the first on: it is called for two passes, and more where the
            groups explain nearly all of the response.
        terms : sequence of RandomTerm
            Their rows are not read: the chunks hold those.
        known : Scan, optional
            What a pass over them told before.
        products : callable, optional
            Takes the scaled rows and returns their cross-products, without a pass over them.
        """
        blocks, parametrization = block_structure(terms)
        n_levels = [terms[members[0]].n_levels for members in blocks]
        invariances = [term.structure.invariance for term in terms]
        names = block_names(terms, blocks)
        known = scan(chunks()) if known is None else known
        rows, bases = scale_chunks(chunks, known, n_levels, blocks, invariances, names, response)
        scaled = ScaledTerms(blocks, parametrization, bases)
        whole = chosen_factor in ("auto", "dense")
        return cls.from_products(
            crossproducts(rows, whole) if products is None else products(rows),
            scaled,
            rows.x_basis,
            rows.y_scale,
            REML,
            rows.sum_log_w,
            rows,
            chosen_factor,
        )

    @classmethod
    def from_products(
        cls,
        products: CrossProducts,
        terms: ScaledTerms,
        x_basis: Basis,
        y_scale: ResponseScale,
        REML: bool,
        sum_log_w: float = 0.0,
        rows: RowSource | None = None,
        chosen_factor: str = "auto",
    ) -> LinearProblem:
        """Return the problem of the cross-products of scaled columns, wherever they come from.

        Rows are kept only where the cross-products would lose digits.
        """
        moments = moment_estimates(products)
        axes = principal_axes(moments, terms.parametrization)
        if rows is not None:  # the scaled response has unit mean square
            rows = rows.turned(axes) if moments.within < CANCELLATION else None
        return cls(
            REML,
            rotate(products, axes),
            terms.turned(axes),
            x_basis,
            y_scale,
            moments.turned(axes),
            sum_log_w,
            rows,
            chosen_factor,
        )

    def with_response(
        self,
        Zty: np.ndarray,
        Xty: np.ndarray,
        yty: float,
        scale: ResponseScale,
        y: np.ndarray | None = None,
    ) -> LinearProblem:
        """Return the problem of another scaled response by its cross-products.

        Parameters
        ----------
        y : ndarray (n,), optional
            The scaled response, where rows are looked at besides.
        """
        old = self.products
        assembled = old.ZtZ if len(old.layout) > 1 else None
        products = replace(old, Zty=Zty, Xty=Xty, yty=yty, assembled=assembled)
        rows = None if self.rows is None or y is None else replace(self.rows.whole, y=y)
        return replace(self, products=products, y_scale=scale, rows=rows)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.products.n

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return len(self.products.XtX)

    @property
    def m(self) -> int:
        """Residual degrees of freedom of the criterion."""
        return self.n - self.p if self.REML else self.n

    @property
    def parametrization(self) -> Parametrization:
        """The covariance parameters of the scaled columns."""
        return self.terms.parametrization

    def user_columns(self, RX: np.ndarray) -> np.ndarray:
        """Return ``(RX R)^-1`` (p, p): with its transpose the unscaled covariance of beta."""
        return small.inverse_upper(RX @ self.x_basis.R)

    @cached_property
    def ldRX2_shift(self) -> float:
        """What the scaling of X takes from ``log|RX|^2``."""
        return 2.0 * float(np.log(self.x_basis.R.diagonal()).sum())

    @cached_property
    def shift(self) -> float:
        """What the scaling takes from the criterion."""
        shift = 2.0 * self.m * float(np.log(self.y_scale.scale)) - self.sum_log_w
        return shift + (self.ldRX2_shift if self.REML else 0.0)

    @cached_property
    def _analysed(self) -> Factor:
        """A factor whose numbers nobody uses: the structure is analysed once."""
        return make_factor(self.products, self.chosen_factor)

    def factor(self) -> Factor:
        """Return a new factor of the penalized cross-products."""
        return self._analysed.twin()

    def start(self) -> np.ndarray:
        """Return moment estimates of the parameters."""
        return moment_start(self.moments, self.products, self.parametrization)

    def scaled_par(self, user_par: np.ndarray) -> np.ndarray:
        """Turn parameters of the user's scale into those of the scaled columns."""
        return self.terms.scaled_par(user_par)
