"""A generalized model whose rows come in chunks: its scaled columns and where its search starts.

What problem.py does with rows in memory, by passes: moment estimates come from the cross-products
of the working residuals of the model without random effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import block_diag

from mixef.control import OBJECTIVE_SE
from mixef.errors import FitError
from mixef.estimation.generalized.density_response import make_response
from mixef.estimation.generalized.passes import Meaning
from mixef.estimation.generalized.problem import (
    EXACT,
    LEAST_WEIGHT,
    NO_SCALE,
    ScaledModel,
    covariance_start,
)
from mixef.estimation.generalized.response import LARGE
from mixef.estimation.generalized.streamed_glm import GLMPass, Scan, fit_glm_by_passes
from mixef.estimation.generalized.streamed_model import StreamedModel
from mixef.estimation.scaling import ScaledTerms
from mixef.families.auxiliary import Extra
from mixef.families.family import Family
from mixef.linalg import small
from mixef.linalg.choose import make_factor
from mixef.linalg.chunk_pairs import PairPlaces
from mixef.linalg.chunk_rows import CellSums, RowScale, pattern
from mixef.linalg.chunks import ChunkSource, Sums, Triangles
from mixef.linalg.factor import Factor
from mixef.linalg.layout import Layout
from mixef.linalg.patterned import Cells, PatternedProducts
from mixef.linalg.sources import Chunk
from mixef.linalg.standardize import Basis, column_basis, root_weighted
from mixef.terms.random import RandomTerm, block_structure


@dataclass(frozen=True, kw_only=True)
class StreamedProblem(ScaledModel):
    """A generalized model on scaled columns of chunks, with starting values; it never changes."""

    in_memory = False

    source: ChunkSource
    rows: RowScale  # the way from raw columns to scaled ones
    meaning: Meaning
    n: int  # rows of the data
    groups: PatternedProducts[Cells]  # products whose numbers nobody uses
    #: Auxiliary parameters, and the part of the log density free of means at them; None where it
    #: is not known.
    constant: tuple[Extra, float] | None

    @property
    def n_passes(self) -> int:
        """How often all rows were read so far."""
        return self.source.passes

    @cached_property
    def _factor(self) -> Factor:
        return make_factor(self.groups.products, self.chosen_factor)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the factor, which may not pickle, and is found anew from its structure."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def working_model(self) -> StreamedModel:
        """Return a new working model, with products and a factor of its own."""
        groups = self.groups.twin()
        return StreamedModel(
            self.source,
            self.rows,
            self.meaning,
            self.response,
            groups,
            self._factor.twin(groups.products),
            self.constant,
        )


@dataclass(frozen=True)
class BasisSums(Sums):
    """What the weighted columns of X, and of each term, are but for a rotation."""

    columns: Triangles


@dataclass(frozen=True)
class BasisPass:
    """The columns at the weights of the model without random effects."""

    glm: GLMPass
    least: float  # the smallest weight

    def __call__(self, chunk: Chunk) -> BasisSums:
        """Return the sums of a chunk."""
        state = self.glm.state(chunk)[2]
        assert state is not None
        W = np.maximum(state.expected, self.least)
        return BasisSums(Triangles.of(*(root_weighted(V, W) for V in (chunk.X, *chunk.z))))


@dataclass(frozen=True)
class MomentSums(Sums):
    """Cross-products of the weighted rows and their working residuals."""

    ZtZ: CellSums  # (v,)
    ZtX: np.ndarray  # (q, p)
    Zty: np.ndarray  # (q,)
    XtX: np.ndarray  # (p, p)
    Xty: np.ndarray  # (p,)
    yty: float


@dataclass(frozen=True)
class MomentPass:
    """Cross-products for moment estimates."""

    rows: RowScale
    basis: BasisPass

    def __call__(self, chunk: Chunk) -> MomentSums:
        """Return the sums of a chunk."""
        state = self.basis.glm.state(chunk)[2]
        assert state is not None
        rows, W = self.rows.rows(chunk), np.maximum(state.expected, self.basis.least)
        WX = rows.X * W[:, None]
        return MomentSums(
            rows.products(W),
            rows.Zt(WX),
            rows.Zt(state.score),
            WX.T @ rows.X,
            rows.X.T @ state.score,
            float((state.score**2 / W).sum()),
        )


def streamed_problem(
    source: ChunkSource,
    terms: Sequence[RandomTerm],
    family: Family,
    nAGQ: int = 1,
    information: str | None = None,
    chosen_factor: str = "auto",
    objective_se: float = OBJECTIVE_SE,
) -> StreamedProblem:
    """Scale a model's columns and find starting values, in some ten passes over its rows.

    Parameters
    ----------
    terms : sequence of RandomTerm
        Without rows: what the chunks hold in their place.
    """
    blocks, parametrization = block_structure(terms)
    n_levels = tuple(terms[members[0]].n_levels for members in blocks)
    names = tuple(" and ".join(f"({terms[t].label})" for t in members) for members in blocks)
    layout = Layout(n_levels, parametrization.widths, names)
    scan = source.total(Scan(Meaning(family, information), layout, parametrization.n_par))
    meaning = Meaning(family, information, scan.size > LARGE * scan.m)
    plain = Basis(scan.X.R[0] / np.sqrt(scan.m))
    inside, glm, sums = fit_glm_by_passes(source, meaning, plain.R, scan)

    level = sums.weight / scan.m
    basis_pass = BasisPass(glm, LEAST_WEIGHT * level)
    of_X, *tops = source.total(basis_pass).columns.R
    basis = Basis(of_X / np.sqrt(scan.m))
    bases = tuple(
        column_basis(top, scan.m, term.structure.invariance)
        for top, term in zip(tops, terms, strict=True)
    )
    places = {
        (i, j): PairPlaces(pairs.keys, (n_levels[i], n_levels[j]))
        for (i, j), pairs in scan.pairs.items()
    }
    groups = pattern(layout, places, scan.n)
    rows = RowScale(
        layout,
        tuple(map(tuple, blocks)),
        tuple(block_diag(*(small.inverse(bases[t].R) for t in members)) for members in blocks),
        basis.R,
        places,
        groups.cells,
    )
    moment_sums = source.total(MomentPass(rows, basis_pass))
    if family.has_dispersion and moment_sums.yty < EXACT * scan.m:
        raise FitError(NO_SCALE)
    groups.load(moment_sums.ZtZ.values)
    s = moment_sums
    products = replace(
        groups.products, ZtX=s.ZtX, Zty=s.Zty, XtX=s.XtX, Xty=s.Xty, yty=s.yty, n=scan.m
    )
    axes, par, extra = covariance_start(products, parametrization, family, glm.extra)
    groups.load(np.ones_like(s.ZtZ.values))  # a factor that is analysed keeps no equal numbers
    largest = max(float(np.sqrt(sums.eta / scan.m)), 3.0 / np.sqrt(level))
    unit = min(sums.bend / scan.m, largest) * np.sqrt(level)
    p = len(basis.R)
    return StreamedProblem(
        response=make_response(family, np.zeros(0), None, information),
        nAGQ=nAGQ,
        terms=ScaledTerms(blocks, parametrization, bases).turned(axes),
        basis=basis,
        par=par,
        beta=basis.R @ plain.back(glm.beta),
        inside=basis.R @ plain.back(inside),
        extra=extra,
        units=np.concatenate([np.full(p, unit), np.ones(len(family.auxiliary))]),
        source=source,
        rows=replace(
            rows, z_back=tuple(back @ V for back, V in zip(rows.z_back, axes, strict=True))
        ),
        meaning=meaning,
        n=scan.n,
        groups=groups,
        chosen_factor=chosen_factor,
        objective_se=objective_se,
        constant=None
        if meaning.by_deviance
        else (family.first_extra, scan.normalizer + scan.surplus),
    )
