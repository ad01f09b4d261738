"""Random vectors for the trace of f(E) beside Ritz vectors, and the variance that they have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.linalg.iterative.graph import WIDTH
from mixef.linalg.iterative.lanczos import Forms, forms_and_images, nothing
from mixef.linalg.iterative.scaled import Scaled


@dataclass(frozen=True)
class Probes:
    """Forms ``z'F z`` of random signs z, for ``F = P f(E) P`` with P the projection off Q.

    By the order of the moments (1, 2), as those of `Forms`.
    """

    forms: Forms
    squares: np.ndarray  # (n, 2): |F z|^2, whose mean is the sum of squares of F's entries
    diagonal: np.ndarray  # (l_2, 2): the sum of z * F z, whose mean is the diagonal of F

    def __len__(self) -> int:
        return len(self.squares)

    def joined(self, other: Probes) -> Probes:
        """Return these and others."""
        return Probes(
            self.forms.joined(other.forms),
            np.concatenate([self.squares, other.squares]),
            self.diagonal + other.diagonal,
        )

    @property
    def variances(self) -> np.ndarray:
        """The variance (2,) of one form.

        It is twice the sum of squares off the diagonal of F, both parts of which are estimated: a
        sample variance says little where a single eigenvector makes most of it.
        """
        n = len(self)
        if n < 2:
            return np.zeros(2)
        whole = self.squares.mean(axis=0)
        on_diagonal = (np.square(self.diagonal / n).sum(axis=0) - whole / n) / (1.0 - 1.0 / n)
        variances: np.ndarray = 2.0 * (whole - np.clip(on_diagonal, 0.0, whole))
        return variances

    def slopes_covariance(self, order: int) -> np.ndarray:
        """Return the covariance of one vector's slopes: the sample's, by the values' variance."""
        if len(self) < 2:
            return np.zeros((self.forms.slopes.shape[2],) * 2)
        slopes, values = self.forms.slopes[:, order - 1], self.forms.values[:, order - 1]
        sample = float(values.var(ddof=1))
        ratio = float(self.variances[order - 1]) / sample if sample > 0.0 else 1.0
        covariance: np.ndarray = np.cov(slopes.T) * ratio
        return covariance


def probes(scaled: Scaled, Q: np.ndarray, seed: int, steps: int, first: int, last: int) -> Probes:
    """Return random vectors number ``first`` to ``last``, less their part in Q (l_2, k)."""
    out = Probes(nothing(scaled), np.empty((0, 2)), np.zeros((len(Q), 2)))
    for block in range(first // WIDTH, last // WIDTH):
        z = signs(len(Q), seed, block)
        forms, images = forms_and_images(scaled, z - Q @ (Q.T @ z), steps, single=True)
        images = [image - Q @ (Q.T @ image) for image in images]
        squares = [np.einsum("jk,jk->k", image, image) for image in images]
        diagonal = [np.einsum("jk,jk->j", z, image) for image in images]
        out = out.joined(Probes(forms, np.column_stack(squares), np.column_stack(diagonal)))
    return out


def signs(n: int, seed: int, block: int) -> np.ndarray:
    """Return block number so and so of random signs (n, 8)."""
    bits = np.random.default_rng([seed, block]).integers(0, 2, (n, WIDTH), dtype=np.int8)
    return 2.0 * bits - 1.0
