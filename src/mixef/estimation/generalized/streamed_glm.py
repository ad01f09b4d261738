"""The generalized linear model without random effects, by passes over rows in chunks.

What glm.py does with rows in memory. Any start leads a search to the same end, so quantities that
are no sums (medians, moments of shapes) are taken chunk by chunk and averaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixef.estimation.generalized.density_response import make_response
from mixef.estimation.generalized.glm import (
    ENOUGH,
    FAR,
    LONGEST,
    MAX_STEPS,
    no_start,
    scoring_step,
)
from mixef.estimation.generalized.passes import Meaning
from mixef.estimation.generalized.response import Response, RowState
from mixef.families.auxiliary import Extra, separate
from mixef.families.family import Family
from mixef.linalg.chunk_pairs import PairDict, pairs_of
from mixef.linalg.chunk_rows import scaled_columns, weighted_gram
from mixef.linalg.chunks import ChunkSource, Sums, Triangles
from mixef.linalg.layout import Layout
from mixef.linalg.sources import Chunk

# Scaled predictors reach about so many times their root mean square.
REACH = 4.0


@dataclass(frozen=True)
class ScanSums(Sums):
    """What is asked of the rows first."""

    n: int  # rows of the data
    m: int  # rows of the chunks
    X: Triangles
    pairs: PairDict
    weight: float
    mean: float  # weighted sum of means near the responses
    normalizer: float  # the part of the log density that is free of the means
    size: float  # the sum of its rows' sizes
    surplus: float


@dataclass(frozen=True)
class Scan:
    """The first pass: the columns of X, the pairs of levels, the constants of the response."""

    meaning: Meaning
    layout: Layout
    n_par: int = 0  # covariance parameters, for what pairs of levels need of memory

    def __call__(self, chunk: Chunk) -> ScanSums:
        """Return the sums of a chunk."""
        family, m = self.meaning.family, len(chunk.y)
        response = self.meaning.of(chunk, family.first_extra)
        weights = np.ones(m) if chunk.weights is None else chunk.weights
        means = family.initial_mean(chunk.y, chunk.weights)
        normalizers = response.normalizers(family.first_extra)
        return ScanSums(
            m if chunk.n_rows is None else chunk.n_rows,
            m,
            Triangles.of(chunk.X),
            pairs_of(chunk, self.layout, self.n_par + chunk.X.shape[1] + len(family.auxiliary)),
            float(weights.sum()),
            float(weights @ means),
            float(normalizers.sum()),
            float(np.abs(normalizers).sum()),
            chunk.surplus,
        )


@dataclass(frozen=True)
class StartSums(Sums):
    """Coefficients near two starting points."""

    by_constant: np.ndarray | None  # (p,): ``Q'(g(mean) - offset)``; None outside the link
    by_means: np.ndarray | None  # (p,): ``Q'(g(means) - offset)``


@dataclass(frozen=True)
class Start:
    """Linear predictors of a constant mean, and of means near the responses."""

    family: Family
    R: np.ndarray  # (p, p)
    mean: float

    def __call__(self, chunk: Chunk) -> StartSums:
        """Return the sums of a chunk."""
        Q = scaled_columns(chunk.X, self.R)
        found = []
        with np.errstate(all="ignore"):
            for means in (
                np.full(len(chunk.y), self.mean),
                self.family.initial_mean(chunk.y, chunk.weights),
            ):
                eta = self.family.link.link(means)
                if chunk.offset is not None:
                    eta = eta - chunk.offset
                found.append(Q.T @ eta if np.isfinite(eta).all() else None)
        return StartSums(*found)


@dataclass(frozen=True)
class GLMSums(Sums):
    """What a step of the model without random effects asks of the rows."""

    n_outside: float
    log_density: float = 0.0
    score: np.ndarray | None = None  # (p,)
    gram: np.ndarray | None = None  # (p, p)
    weight: float = 0.0  # by expected information
    bend: float = 0.0
    eta: float = 0.0  # sum of squares
    #: `moments`, `n_moments`: (E,); sums of moment estimates of the auxiliary coordinates, and
    #: the rows that they are from.
    moments: np.ndarray | None = None
    n_moments: np.ndarray | None = None


@dataclass(frozen=True)
class GLMPass:
    """The model without random effects."""

    meaning: Meaning
    R: np.ndarray  # (p, p)
    beta: np.ndarray  # (p,)
    extra: Extra

    def state(self, chunk: Chunk) -> tuple[np.ndarray, Response, RowState | None]:
        """Return scaled columns, response and state of a chunk."""
        Q, meaning = scaled_columns(chunk.X, self.R), self.meaning
        response = make_response(
            meaning.family, chunk.y, chunk.weights, meaning.information, chunk.copies
        )
        eta = Q @ self.beta
        return (
            Q,
            response,
            response.at(eta if chunk.offset is None else eta + chunk.offset, self.extra),
        )

    def __call__(self, chunk: Chunk) -> GLMSums:
        """Return the sums of a chunk."""
        Q, response, state = self.state(chunk)
        if state is None:
            return GLMSums(1.0)
        family, m = self.meaning.family, float(len(chunk.y))
        return GLMSums(
            0.0,
            state.log_density + chunk.surplus,
            Q.T @ state.score,
            weighted_gram(Q, state.expected),
            float(state.expected.sum()),
            m * min(family.link.bend(state.eta), 1e300),
            float(state.eta @ state.eta),
            *_moments(response, state, m),
        )


def _moments(response: Response, state: RowState, m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return m times the auxiliary coordinates by moments of a chunk, and m; 0 where not there."""
    family = response.family
    if not family.auxiliary:
        return np.zeros(0), np.zeros(0)
    with np.errstate(all="ignore"):
        values = separate(family.initial_extra(response.y, state.mu, response.weights))
    pairs = list(zip(family.auxiliary, values, strict=True))
    there = np.array([parameter.is_possible(value) for parameter, value in pairs])
    at = [p.coordinate(value) if ok else 0.0 for (p, value), ok in zip(pairs, there, strict=True)]
    return m * np.array(at), m * there


def fit_glm_by_passes(
    source: ChunkSource, meaning: Meaning, R: np.ndarray, scan: ScanSums
) -> tuple[np.ndarray, GLMPass, GLMSums]:
    """Fit the model without random effects; return where it started, its end and sums there."""
    family = meaning.family
    glm, sums = _start(source, meaning, R, scan)
    inside = glm.beta
    if family.starts_at_moments:
        glm, sums = _with_moments(source, glm, sums)
    curved, enough = sums.bend / scan.m, ENOUGH * scan.m
    for _ in range(MAX_STEPS if len(R) else 0):
        assert sums.gram is not None
        assert sums.score is not None
        step, promise = scoring_step(sums.gram, sums.score)
        # A dispersion may be nothing in the end, which the last step shows.
        if promise <= enough and not family.has_dispersion:
            break
        far = REACH * float(np.linalg.norm(step))
        if far > curved:
            step = step * min(1.0, LONGEST * (sums.bend / scan.m) / far)
        for halving in range(30):
            candidate = replace(glm, beta=glm.beta + 0.5**halving * step)
            new = source.total(candidate)
            if not new.n_outside and new.log_density >= sums.log_density:
                break
        else:
            break
        gain = new.log_density - sums.log_density
        glm, sums = candidate, new
        if family.has_dispersion:  # beside what is left now: it may be nothing
            gain *= glm.extra / _moment(family, sums)
        if gain <= enough:
            break
        gone = float(np.linalg.norm(glm.beta - inside))
        if gone > FAR * curved and family.information == "expected":
            break
    if family.auxiliary:
        glm, sums = _with_moments(source, glm, sums)
    return inside, glm, sums


def _start(
    source: ChunkSource, meaning: Meaning, R: np.ndarray, scan: ScanSums
) -> tuple[GLMPass, GLMSums]:
    """Return coefficients inside the domain: of a constant mean, or of the response itself."""
    family, p = meaning.family, len(R)
    looked = source.total(Start(family, R, scan.mean / scan.weight))
    for found in (looked.by_constant, looked.by_means):
        if found is None:
            continue
        near = found / scan.m
        for beta in (near, np.zeros(p)) if near.any() else (near,):
            glm = GLMPass(meaning, R, beta, family.first_extra)
            sums = source.total(glm)
            if not sums.n_outside:
                return glm, sums
    raise no_start(family)


def _with_moments(source: ChunkSource, glm: GLMPass, sums: GLMSums) -> tuple[GLMPass, GLMSums]:
    """Return moment estimates of the auxiliary parameters, and the sums with them."""
    moved = replace(glm, extra=_moment(glm.meaning.family, sums))
    new = source.total(moved)
    return (glm, sums) if new.n_outside else (moved, new)


def _moment(family: Family, sums: GLMSums) -> Extra:
    assert sums.moments is not None
    assert sums.n_moments is not None
    first = np.array(family.coordinates(family.first_extra))
    there = sums.n_moments > 0
    means = sums.moments / np.where(there, sums.n_moments, 1.0)
    return family.extra_at(np.where(there, means, first))
