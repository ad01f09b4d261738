"""The general factor where scikit-sparse is installed: CHOLMOD on the sparse M.

The only file that knows scikit-sparse.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy import sparse

from mixef.late import load
from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.factor import not_positive_definite
from mixef.linalg.sparse_factor import SparseFactor


@cache
def library() -> Any:
    """Return scikit-sparse's module, None where it is not installed or another API than 0.4's."""
    try:
        cholmod: Any = load("sksparse.cholmod")
    except ImportError:
        return None
    return cholmod if hasattr(cholmod, "analyze") and hasattr(cholmod, "CholmodError") else None


class CholmodFactor(SparseFactor):
    """The factor for any sparse M, by CHOLMOD."""

    def __init__(self, products: CrossProducts, mode: str = "auto"):
        super().__init__(products)
        self._write([np.eye(s) for s in self.layout.widths])
        self._factor = library().analyze(self._M, mode=mode)
        self.order = self._factor.P()

    def _take_room(self) -> None:
        super()._take_room()
        self._factor = self._factor.copy()

    def _refactor(self) -> None:
        self._write(self.lams)
        try:
            self._factor.cholesky_inplace(self._M, beta=1.0)
        except (library().CholmodOutOfMemoryError, library().CholmodTooLargeError) as error:
            raise self._too_large() from error
        except library().CholmodError as error:
            raise not_positive_definite() from error
        with np.errstate(invalid="ignore", divide="ignore"):
            # Simplicial factors are LDL' and let negative pivots pass: a logarithm that is not
            # finite tells of them.
            self.ldL2 = float(self._factor.logdet())

    def solve_L(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L x = P rhs``."""
        solved: np.ndarray = self._factor.solve_L(
            np.asfortranarray(rhs[self.order]), use_LDLt_decomposition=False
        )
        return solved

    def solve_Lt(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L' P x = rhs``."""
        out = np.empty(rhs.shape)
        out[self.order] = self._factor.solve_Lt(
            np.asfortranarray(rhs), use_LDLt_decomposition=False
        )
        return out

    def lower(self) -> sparse.csc_matrix:
        """Return L (q, q), the rows of each column ascending."""
        L = self._factor.L()
        L.sort_indices()
        return L


def fill_reducing_order(lower: sparse.csc_matrix) -> np.ndarray:
    """Order the columns of a symmetric matrix, given its lower triangle (n, n), against fill."""
    order: np.ndarray = library().analyze(sparse.csc_matrix(lower)).P()
    return order.copy()
