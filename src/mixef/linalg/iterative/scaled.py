"""What is asked of a remainder that is scaled to ``B = I + E``, whatever is crossed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class Scaled(ABC):
    """``log|M| = base + log|I + E|`` at one set of templates, the largest factor eliminated.

    The remainder ``S = C B C'`` is scaled by the Cholesky factors C of its diagonal blocks, level
    by level, so that those of E are zero: ``tr E`` is exactly zero.
    """

    orders: tuple[int, ...]  # which moments of E can be had exactly
    size: int  # order of E
    names: str  # of the terms, for messages
    n_pairs: int  # numbers along the graph that a product with E reads, to and fro
    base: float  # log determinants of what is eliminated and of the diagonal of S
    #: ndarray (K,): what is exact of T_1, T_2, ... (`Factor.trace_blocks`), flat, eliminated first
    base_slopes: np.ndarray
    near_null: np.ndarray  # (size,): near the eigenvector of the smallest eigenvalue
    apart: bool  # whether log|M| and T_1, T_2, ... are exact without E

    @abstractmethod
    def E_times(self, V: np.ndarray, single: bool = False) -> np.ndarray:
        """Return ``E V`` for V (size, k).

        Parameters
        ----------
        single : bool
            Whether to read and write numbers of four bytes along the graph: enough for random
            vectors, whose roundings cancel, and twice as fast where the cache is what limits.
        """

    @abstractmethod
    def turned(self, V: np.ndarray, EV: np.ndarray, single: bool) -> Any:
        """Return what `slopes` needs of vectors V and EV (size, k)."""

    @abstractmethod
    def slopes(self, V: np.ndarray, turned: Any, X: np.ndarray, EX: np.ndarray) -> np.ndarray:
        """Return what vectors V and ``X = f'(E) V`` (size, k) see of T_1, T_2, ... (k, K)."""

    def second_moment(self) -> tuple[float, np.ndarray]:
        """Return ``tr E^2`` and its part of T_1, T_2, ... (K,), exactly."""
        raise NotImplementedError

    @property
    def moment_products(self) -> float:
        """How many products `second_moment` forms."""
        return np.inf

    #: list of ndarray (l_i, s_i, s_i): ``H = lam C^-T`` level by level, of the terms that are not
    #: eliminated
    roots: list[np.ndarray]
    first: np.ndarray  # (l_1, s_1, s_1): W of the term that is, ``lam (lam'Plam + I)^-1 lam'``

    @abstractmethod
    def lifted(self, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``-W A H V`` and ``H V`` for V (size, k), the effects of both parts.

        With both as x(V), the derivative of ``x(v)'Z'WZ x(z)`` by weights, these effects held, is
        that of ``v'B z`` by them, C held.
        """

    @abstractmethod
    def squares_of(self, k: int, W: np.ndarray) -> np.ndarray:
        """Return ``sum_u A_u'W_u A_u`` (l, s, s) by level of term k that is not eliminated."""

    @abstractmethod
    def squares_of_first(self, k: int, Q: np.ndarray) -> np.ndarray:
        """Return ``sum_l A_l Q_l A_l'`` (l_1, s_1, s_1), over the levels of term k."""

    @abstractmethod
    def eliminated(self, R1: np.ndarray, R2: np.ndarray) -> np.ndarray:
        """Return the right-hand side of ``B x`` for ``M u = [R1 R2]``."""

    @abstractmethod
    def back(self, R1: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return u of both parts, from x."""
