"""Images of the sparse matrices of a model: Z, ``Lambda'Z'WZ Lambda + I``, and its factor."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.factor_at import factor_at
from mixef.plots.axes import ink, panels, rgb

# Cells of an image along a side; a larger matrix has several entries in one. And the darkness of a
# cell with one non-zero among many.
CELLS, FAINTEST = 240, 0.3


def factor_images(fit: Fit, theta: Any, order: Any, permute: bool, transpose: bool) -> Any:
    """Draw Z, the matrix and its factor; see ``fit.plot.factor_images``."""
    at, transpose = factor_at(fit, theta, order, permute), checks.flag(transpose, "transpose")
    groups = list(dict.fromkeys(at.effects.get_level_values("group")))
    terms = [fit.terms[t] for name in groups for t in fit.groups[name]]
    Zt = sparse.vstack([term.Zt() for term in terms], format="csc")
    figure, axes = panels(1, 3, width=10.5, height=4.2)
    _image(axes[0, 0], Zt if transpose else Zt.T, "Z'" if transpose else "Z", Zt.nnz)
    lower = sparse.tril(at.A).nnz
    weighted = "Λ'Z'ZΛ + I" if fit.is_linear and fit.weights is None else "Λ'Z'WZΛ + I"
    A = at.A[at.P][:, at.P]
    _image(axes[0, 1], A, weighted, lower, " in the lower triangle")
    _image(axes[0, 2], at.L, "L", at.nnz)
    return figure


def image(matrix: Any, cells: int = CELLS) -> np.ndarray:
    """Return the darkness (r, c) of a sparse matrix's image, 0 where all entries are zero.

    A cell of the image is one entry, or the block of entries that falls there; it is the darker
    the larger the share of non-zeros.

    Examples
    --------
    >>> image(sparse.identity(2, format="csc")).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    entries = sparse.coo_array(matrix)
    rows, columns = entries.shape
    shape = min(rows, cells), min(columns, cells)
    row = entries.row.astype(np.int64) * shape[0] // rows
    column = entries.col.astype(np.int64) * shape[1] // columns
    count = np.bincount(row * shape[1] + column, minlength=shape[0] * shape[1]).reshape(shape)
    high = np.bincount(np.arange(rows) * shape[0] // rows)
    wide = np.bincount(np.arange(columns) * shape[1] // columns)
    share = np.sqrt(count / (high[:, None] * wide))
    dark: np.ndarray = np.where(count > 0, FAINTEST + (1.0 - FAINTEST) * share, 0.0)
    return dark


def _image(ax: Any, matrix: Any, name: str, nonzeros: int, where: str = "") -> None:
    """Draw one matrix in the colour of the text, with its size and the number of non-zeros."""
    rows, columns = matrix.shape
    dark = image(matrix)
    rgba = np.empty((*dark.shape, 4))
    rgba[..., :3] = rgb(ink())
    rgba[..., 3] = dark
    tall = rows > 3 * columns or columns > 3 * rows
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    ax.imshow(rgba, extent=extent, aspect="auto" if tall else "equal", interpolation="nearest")
    ax.set_title(f"{name}\n{rows} × {columns}, {nonzeros:,} non-zeros{where}", fontsize="medium")
