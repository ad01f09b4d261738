"""Graphs of two crossed factors: who meets whom, from an even spread to a chain."""

from __future__ import annotations

import numpy as np

from mixef.linalg.crossproducts import CrossProducts, Pairs
from mixef.linalg.layout import Layout

#: Graphs, and which options they have besides.
GRAPHS = (
    "uniform",
    "Zipf",
    "very skewed",
    "weakly joined",
    "two components",
    "2 clusters",
    "10 clusters",
    "50 clusters",
    "taste of rank 5",
    "sparse",
    "chain",
    "weights",
    "weights over decades",
    "repeated pairs",
    "a column of numbers",
)


def levels_of(kind: str, n: int, l1: int, l2: int, rng: np.random.Generator) -> tuple:
    """Return the levels (n,), (n,) of both factors in n rows."""
    a, b = rng.integers(0, l1, n), rng.integers(0, l2, n)
    if kind in ("Zipf", "weights over decades"):
        a, b = (l1 * rng.random(n) ** 2).astype(int), (l2 * rng.random(n) ** 3).astype(int)
    elif kind == "very skewed":  # few columns have most of the rows, most have less than ten
        p = np.arange(1, l2 + 1) ** -1.3
        a, b = (l1 * rng.random(n) ** 2).astype(int), rng.choice(l2, n, p=p / p.sum())
    elif kind in ("two components", "weakly joined"):
        half = l2 // 2
        b = np.where(a < l1 // 2, b % half, half + b % (l2 - half))
        if kind == "weakly joined":
            b[:3] = l2 - 1 - b[:3]
    elif kind.endswith("clusters"):
        count = int(kind.split()[0])
        home = rng.random(n) < 0.9
        b = np.where(home, (b // count * count + a % count) % l2, b)
    elif kind.startswith("taste"):
        taste = rng.normal(size=(l1, 5)), rng.normal(size=(l2, 5))
        a, b = np.repeat(a, 30), rng.integers(0, l2, 30 * n)
        score = np.einsum("nk,nk->n", taste[0][a], taste[1][b]) + rng.gumbel(size=len(a))
        best = score.reshape(n, 30).argmax(axis=1)
        a, b = a.reshape(n, 30)[:, 0], b.reshape(n, 30)[np.arange(n), best]
    elif kind == "sparse":  # two or three columns each
        a = np.arange(5 * l1 // 2) % l1
        b = (l2 * rng.random(len(a)) ** 1.5).astype(int)
    elif kind == "chain":
        b = (a * l2 // l1 + rng.integers(0, 4, n)) % l2
    elif kind == "repeated pairs":
        again = rng.integers(0, n, n // 2)
        a, b = np.concatenate([a, a[again]]), np.concatenate([b, b[again]])
    return a, b


def many(n: int, l1: int, l2: int, kind: str, rng: np.random.Generator) -> tuple:
    """Return the levels (n,), (n,) of both factors in very many rows."""
    if kind == "uniform":
        return rng.integers(0, l1, n), rng.integers(0, l2, n)
    a, b = (l1 * rng.random(n) ** 2).astype(int), (l2 * rng.random(n) ** 3).astype(int)
    if kind == "clusters":
        b = np.where(rng.random(n) < 0.8, (b // 20 * 20 + a % 20) % l2, b)
    return a, b


def large(n: int, l1: int, l2: int, kind: str, seed: int = 0) -> CrossProducts:
    """Return cross-products of up to n pairs that occur once, for sizes that need some thrift."""
    a, b = many(n, l1, l2, kind, np.random.default_rng(seed))
    key = a * l2 + b
    del a, b
    key.sort()
    key = key[np.r_[True, key[1:] != key[:-1]]]
    rows, cols = np.divmod(key, l2)
    del key
    return _bare(
        rows,
        cols,
        np.ones(len(rows)),
        np.bincount(rows, minlength=l1),
        np.bincount(cols, minlength=l2),
    )


def products_of(kind: str, n: int, l1: int, l2: int, seed: int = 0) -> CrossProducts:
    """Return cross-products of two scalar terms, levels that do not occur left out."""
    rng = np.random.default_rng([seed, GRAPHS.index(kind)])
    a, b = levels_of(kind, n, l1, l2, rng)
    w, z1, z2 = np.ones((3, len(a)))
    if kind == "weights":
        w = rng.gamma(2.0, 0.5, len(a))
    elif kind == "weights over decades":
        w = 10.0 ** rng.uniform(-3, 3, len(a))
    elif kind == "a column of numbers":
        z1 = rng.normal(1.0, 0.7, len(a))
    (_, a), (_, b) = (np.unique(codes, return_inverse=True) for codes in (a, b))
    n2 = int(b.max()) + 1
    key, place = np.unique(a * n2 + b, return_inverse=True)
    values = np.bincount(place, w * z1 * z2)
    d1, d2 = np.bincount(a, w * z1 * z1), np.bincount(b, w * z2 * z2)
    return _bare(key // n2, key % n2, values, d1, d2)


def _bare(
    rows: np.ndarray, cols: np.ndarray, values: np.ndarray, d1: np.ndarray, d2: np.ndarray
) -> CrossProducts:
    """Return cross-products of two scalar terms without X and y."""
    q = len(d1) + len(d2)
    return CrossProducts(
        Layout((len(d1), len(d2)), (1, 1), ("(1 | g)", "(1 | h)")),
        tuple(d.astype(float)[:, None, None] for d in (d1, d2)),
        {(0, 1): Pairs(rows, cols, values[:, None, None])},
        np.zeros((q, 0)),
        np.zeros(q),
        np.zeros((0, 0)),
        np.zeros(0),
        0.0,
        len(rows),
    )
