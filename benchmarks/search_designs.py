"""Designs for the search laboratory, each drawn by its seed: data, formula and options of a fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

FAMILIES = ("bernoulli", "binomial", "poisson", "Gamma", "nbinom2")
# How the grouping factors lie to each other, and how often.
LAYOUTS = {"one": 0.3, "nested": 0.25, "crossed": 0.3, "three": 0.15}
# Shares of designs with a difficulty.
WEIGHTED, COLLINEAR, BADLY_SCALED, HEAVY_TAILS, DIAGONAL = 0.12, 0.15, 0.2, 0.25, 0.12


@dataclass(frozen=True)
class SearchDesign:
    """One model on one data set.

    Attributes
    ----------
    seed : int
    formula : str
    data : DataFrame
    options : dict
        Arguments of `lmer` or `glmer` beside formula and data.
    generalized : bool
    features : tuple of str
        What is difficult about it.
    """

    seed: int
    formula: str
    data: pd.DataFrame = field(repr=False)
    options: dict
    generalized: bool
    features: tuple[str, ...]

    @property
    def name(self) -> str:
        """The design in one line."""
        extra = " ".join(f"{k}={v}" for k, v in self.options.items() if k != "weights")
        return f"{self.seed}: {self.formula} n={len(self.data)} {extra} {' '.join(self.features)}"


def draw(seed: int, most_rows: int) -> SearchDesign:
    """Draw a design: even seeds are linear models, odd ones generalized."""
    return _Draw(seed, most_rows).design()


class _Draw:
    """The random choices of one design, in the order in which they are made."""

    def __init__(self, seed: int, most_rows: int):
        self.rng = rng = np.random.default_rng([2026, seed])
        self.seed, self.generalized = seed, seed % 2 == 1
        # Most designs are small: the share of the log scale above 2,000 rows is a tenth.
        small = rng.random() < 0.9
        low, high = (60, min(2_000, most_rows)) if small else (min(2_000, most_rows), most_rows)
        self.n = int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))
        self.layout = str(rng.choice(list(LAYOUTS), p=list(LAYOUTS.values())))
        has = {
            name: bool(rng.random() < share)
            for name, share in (
                ("weighted", WEIGHTED),
                ("collinear", COLLINEAR),
                ("badly scaled", BADLY_SCALED),
                ("heavy tails", HEAVY_TAILS),
            )
        }
        # Rows that a random effect needs for the data to say something about it.
        self.rows_needed = 2
        if self.generalized:
            has["weighted"] = False
            self.family = str(rng.choice(FAMILIES))
            self.rows_needed = 2 if self.family == "bernoulli" else 4
        self.has = has

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """Codes (n,) of each grouping factor."""
        rng, n = self.rng, self.n
        first = int(np.clip(np.exp(rng.uniform(np.log(5), np.log(n / 3))), 5, 500))
        second = int(np.clip(np.exp(rng.uniform(np.log(4), np.log(n / 4))), 4, 60))
        even = bool(rng.random() < 0.5)

        def codes(levels):
            if even:
                return rng.permutation(np.arange(n) % levels)
            share = rng.dirichlet(np.full(levels, 2.0))
            return np.concatenate([np.arange(levels), rng.choice(levels, n - levels, p=share)])

        g = codes(first)
        out = {"g": g}
        if self.layout in ("nested", "three"):
            out["k"] = rng.integers(0, int(rng.integers(2, 5)), n)
        if self.layout in ("crossed", "three"):
            out["h"] = codes(second)
        return out

    @cached_property
    def covariates(self) -> np.ndarray:
        """Columns (n, 4) x1 to x4: continuous, or two-level contrasts."""
        rng, n = self.rng, self.n
        X = rng.normal(size=(n, 4))
        if rng.random() < 0.5:
            X = np.where(X > 0, 0.5, -0.5)
            X[:, 2] = 2.0 * X[:, 0] * X[:, 1]
        if self.has["collinear"]:
            X[:, 1] = X[:, 0] + 10.0 ** rng.uniform(-4, -1) * rng.normal(size=n)
        return X

    def terms(self) -> tuple[list[str], np.ndarray]:
        """Draw the bar terms, and the sum (n,) of their random effects."""
        factors = {
            "one": ["g"],
            "nested": ["g", "g:k"],
            "crossed": ["g", "h"],
            "three": ["g", "h", "g:k"],
        }[self.layout]
        columns = np.column_stack([np.ones(self.n), self.covariates])
        names = ["1", "x1", "x2", "x3", "x4"]
        bars, total = [], np.zeros(self.n)
        for factor in factors:
            codes = self.codes_of(factor)
            levels = int(codes.max()) + 1
            most = max(1, min(5, self.n // (self.rows_needed * levels), levels - 2))
            width = int(self.rng.integers(1, most + 1)) if self.rng.random() < 0.7 else 1
            total += (columns[:, :width] * self.effects(levels, width)[codes]).sum(axis=1)
            text = " + ".join(names[:width])
            diagonal = width > 1 and self.rng.random() < DIAGONAL
            bars.append(f"diag({text} | {factor})" if diagonal else f"({text} | {factor})")
        return bars, total

    def codes_of(self, factor: str) -> np.ndarray:
        """Codes (n,) of a factor or of an interaction of two."""
        first, _, second = factor.partition(":")
        codes = self.groups[first]
        if second:
            codes = codes * (int(self.groups[second].max()) + 1) + self.groups[second]
        return np.unique(codes, return_inverse=True)[1]

    def effects(self, levels: int, width: int) -> np.ndarray:
        """Draw random effects (levels, width) of a covariance of any rank, 0 included."""
        rng = self.rng
        rank = int(rng.integers(0, width + 1))
        root = rng.normal(size=(width, rank)) * np.exp(rng.normal(size=rank))
        root *= np.where(rng.random(width) < 0.25, 0.05, 1.0)[:, None]
        shape = (levels, rank)
        spread = rng.standard_t(2.5, shape) if self.has["heavy tails"] else rng.normal(size=shape)
        size = 0.5 if self.generalized else 1.0
        return size * spread @ root.T

    def design(self) -> SearchDesign:
        """Put the design together."""
        rng, n = self.rng, self.n
        bars, random_part = self.terms()
        width = int(rng.integers(0, 5))
        X = self.covariates
        eta = random_part + X[:, :width] @ rng.normal(size=width) * 0.5
        data = {f"x{j + 1}": X[:, j] for j in range(4)} | self.groups
        options: dict = {}
        if self.generalized:
            options = self.outcome(eta, data, bars)
        else:
            data["y"] = 2.0 + eta + 10.0 ** rng.uniform(-1, 0.7) * rng.normal(size=n)
            options["REML"] = bool(rng.random() < 0.5)
            if self.has["weighted"]:
                options["weights"] = "w"
                data["w"] = 10.0 ** rng.uniform(-4.5, 4.5, n)
        if self.has["badly scaled"]:
            for j in range(4):
                data[f"x{j + 1}"] = data[f"x{j + 1}"] * 10.0 ** rng.uniform(-5, 5)
            if not self.generalized:
                data["y"] = data["y"] * 10.0 ** rng.uniform(-6, 6) + 10.0 ** rng.uniform(-6, 6)
        left = "cbind(y, m - y)" if options.get("family") == "binomial" and "m" in data else "y"
        fixed = " + ".join(["1", *(f"x{j + 1}" for j in range(width))])
        return SearchDesign(
            seed=self.seed,
            formula=f"{left} ~ {' + '.join([fixed, *bars])}",
            data=pd.DataFrame(data),
            options=options,
            generalized=self.generalized,
            features=tuple(name for name, is_so in self.has.items() if is_so),
        )

    def outcome(self, eta: np.ndarray, data: dict, bars: list[str]) -> dict:
        """Draw the response of a generalized model into ``data``; return the options."""
        rng = self.rng
        family = self.family
        level = rng.uniform(-1.5, 1.5)
        eta = level + eta
        if family in ("bernoulli", "binomial"):
            m = np.ones(self.n, dtype=int) if family == "bernoulli" else rng.integers(1, 12, self.n)
            data["y"] = rng.binomial(m, 1.0 / (1.0 + np.exp(-eta)))
            if family == "binomial":
                data["m"] = m
        else:
            mu = np.exp(np.clip(eta, -8.0, 8.0))
            if family == "poisson":
                data["y"] = rng.poisson(mu)
            elif family == "Gamma":
                shape = 10.0 ** rng.uniform(-0.3, 1.3)
                data["y"] = np.maximum(rng.gamma(shape, mu / shape), 1e-30)
            else:
                shape = 10.0 ** rng.uniform(-0.3, 1.0)
                data["y"] = rng.poisson(rng.gamma(shape, mu / shape))
        options: dict = {"family": {"bernoulli": "binomial"}.get(family, family)}
        if family == "Gamma":
            options["family"] = "Gamma(log)"
        scalar = len(bars) == 1 and "+" not in bars[0]
        if scalar and rng.random() < 0.3:
            options["nAGQ"] = 7
        return options
