"""Derivatives of the Laplace criterion where ``log|M|`` and its derivatives are estimates.

With the scores s, ``w = Z's`` and ``F = [Z h_a, X]``, ``h_a = d(Lambda Lambda')/d par_a w``, the
linear predictor at the mode moves along

    eta_a = F_a - U (U'W_o U + I)^-1 U'W_o F_a

which takes solves alone, and the criterion by ``tr(T dSigma_a) - w'dSigma_a w`` (or ``-2 X's``)
and what the weights' change ``dW/d eta eta_a`` does to ``log|M|``. These are the derivatives of
laplace.py in the other order of multiplication, which lets each random vector say what it sees of
every parameter (eq-beyond-iterative-weights in docs/theory). All but the change of ``Z'WZ`` is
algebra of what is as large as the random effects, wherever the rows are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixef.estimation.generalized.effects import fixed_solution, weighted
from mixef.estimation.generalized.laplace import LaplaceDerivatives, profiled, with_extra
from mixef.estimation.generalized.pirls import Mode, RowModel
from mixef.estimation.linear.estimated import slopes_of_traces
from mixef.estimation.linear.pls import all_directions
from mixef.families.auxiliary import Extra
from mixef.linalg.layout import Layout
from mixef.terms.parametrization import Parametrization


@dataclass(frozen=True)
class EstimatedDerivatives:
    """Gradient and information, and what each random vector says of the gradient."""

    laplace: LaplaceDerivatives
    samples: np.ndarray  # (m, k + p + E), or (m, k + E) with beta in the mode


def differentiate_estimated(
    model: RowModel,
    mode: Mode,
    parametrization: Parametrization,
    par: np.ndarray,
    lams: Sequence[np.ndarray],
    extra: Extra,
    with_beta: bool,
) -> EstimatedDerivatives:
    """Return the derivatives at the mode, where the factor stands; it is left at ``U'W_o U + I``.

    ``lams`` are the templates at ``par``.
    """
    groups, factor, state, p = model.groups, model.factor, mode.state, model.p
    layout, observed, W = groups.layout, state.observed, model.response.weights_of(state)
    w, Xts = model.Zt(state.score), model.fixed_part_transposed(state.score)
    units, e = _Units(layout), model.extra_sums(state, extra)
    n_units, k = len(units), len(par)
    n_fixed, n_extra = n_units + p, 0 if e is None else len(e.log_density)

    # F, and columns for the auxiliary coordinates, as ``Z b + X beta``
    F_b, F_beta = np.zeros((layout.q, n_fixed + n_extra)), np.eye(p, n_fixed + n_extra, n_units)
    F_b[:, :n_units] = all_directions(layout, w, units.sigmas)

    if W is not observed:
        model.refactor(observed, lams)
    pull_z, pull_x = weighted(model, observed, F_b, F_beta)
    if e is not None:
        pull_z[:, n_fixed:] -= e.score_z
        pull_x[:, n_fixed:] -= e.score_x
    own = layout.multiply(lams, factor.solve(layout.multiply(lams, pull_z, transpose=True)))
    b, beta = F_b - own, F_beta
    own_z, own_x = weighted(model, observed, own, np.zeros_like(beta))
    left_z, left_x = pull_z - own_z, pull_x - own_x  # Z' and X' times minus the scores' moves
    gram = (F_b.T @ left_z + F_beta.T @ left_x)[:n_fixed, :n_fixed]
    if with_beta and p:
        fixed = slice(n_units, n_fixed)
        back = fixed_solution(left_x[:, fixed], left_x)
        b, beta = b - b[:, fixed] @ back, beta - beta[:, fixed] @ back
    changes = model.weight_changes(state, extra, b, beta)

    if W is not observed:
        model.refactor(W, lams)
        by_z, by_x = weighted(model, W, F_b[:, :n_fixed], F_beta[:, :n_fixed])
        right = layout.multiply(lams, by_z, transpose=True)
        gram = F_b[:, :n_fixed].T @ by_z + F_beta[:, :n_fixed].T @ by_x
        gram -= factor.form(factor.solve_half(right), right)
    found = factor.weight_slopes(groups, changes)
    T = factor.trace_blocks()
    samples = found.samples[:, units.entry]
    if len(samples):
        samples = samples + factor.trace_samples()
    between = 0.0
    if W is not observed:
        between = factor.ldL2
        model.refactor(observed, lams)
        between -= factor.ldL2

    by_level = (layout.by_level(i, w) for i in range(len(layout)))
    K = [
        T_i - w_l.T @ w_l + part
        for T_i, w_l, part in zip(T, by_level, units.blocks(found.total), strict=True)
    ]
    dlams, dsigmas = parametrization.derivatives(par)
    by_par, curvature = parametrization.chain(par, dlams, lams, K)
    by_beta = found.total[n_units:n_fixed] - 2.0 * Xts
    by_extra = found.total[n_fixed:]

    information = _in_parameters(gram, units.coefficients(dsigmas), p)
    information[:k, :k] += curvature
    seen = [samples @ slopes_of_traces(parametrization, dlams, lams)]
    if with_beta:
        information = profiled(information, k)
    else:
        seen.append(found.samples[:, n_units:n_fixed])
    if e is not None:
        by_extra = by_extra - 2.0 * e.log_density
        information = with_extra(information, e.curvature)
        seen.append(found.samples[:, n_fixed:])
    h = model.leverages(found.inverse)
    none = np.empty(0)
    derivatives = LaplaceDerivatives(by_par, by_beta, by_extra, information, K, h, none, between)
    return EstimatedDerivatives(derivatives, np.column_stack(seen))


class _Units:
    """The directions of each entry of ``lam_i lam_i'``, lower triangles one after another.

    Attributes
    ----------
    sigmas : list of ndarray (U, s_i, s_i)
        Symmetric, with a sum of one; one array a block.
    entry : ndarray of int (sum s_i^2,)
        Which of them each cell of the blocks belongs to.
    """

    def __init__(self, layout: Layout):
        self._widths = layout.widths
        self._cells = [(i, *np.tril_indices(s)) for i, s in enumerate(layout.widths)]
        self._size = sum(len(rows) for _, rows, _ in self._cells)
        self.sigmas = [np.zeros((self._size, s, s)) for s in layout.widths]
        entry, first = [], 0
        for i, rows, cols in self._cells:
            numbers = np.arange(first, first + len(rows))
            self.sigmas[i][numbers, rows, cols] += 0.5
            self.sigmas[i][numbers, cols, rows] += 0.5
            cells = np.empty((self._widths[i],) * 2, dtype=np.intp)
            cells[rows, cols] = cells[cols, rows] = numbers
            entry.append(cells.ravel())
            first += len(rows)
        self.entry = np.concatenate(entry)

    def __len__(self) -> int:
        return self._size

    def blocks(self, values: np.ndarray) -> list[np.ndarray]:
        """Return matrices (s_i, s_i) of whose traces with the directions these are the values."""
        ends = np.cumsum([s * s for s in self._widths])[:-1]
        parts = np.split(values[self.entry], ends)
        return [part.reshape(s, s) for part, s in zip(parts, self._widths, strict=True)]

    def coefficients(self, dsigmas: Sequence[np.ndarray]) -> np.ndarray:
        """Return how directions (k, s_i, s_i), one array a block, are made of these (U, k)."""
        parts = [
            dsigmas[i][:, rows, cols] * np.where(rows == cols, 1.0, 2.0)
            for i, rows, cols in self._cells
        ]
        return np.concatenate(parts, axis=1).T


def _in_parameters(gram: np.ndarray, coefficients: np.ndarray, p: int) -> np.ndarray:
    """Return the information for par and beta of that for the entries and beta."""
    n_units, k = coefficients.shape
    turn = np.zeros((n_units + p, k + p))
    turn[:n_units, :k] = coefficients
    turn[n_units:, k:] = np.eye(p)
    information: np.ndarray = turn.T @ (0.5 * (gram + gram.T)) @ turn
    information[k:, k:] *= 2.0
    return information
