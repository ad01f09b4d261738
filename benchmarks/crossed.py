"""The iterative factor of two crossed factors: ``python -m benchmarks.crossed --accuracy``.

Beside the exact ``log|M|`` and its derivatives by dense linear algebra: how large the errors are,
in units of the standard errors that are quoted with them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator

import numpy as np
import scipy

from benchmarks.crossed_graphs import GRAPHS, products_of
from mixef.errors import MixefError
from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.iterative.factor import IterativeFactor

THETAS = ((0.05, 0.05), (0.3, 0.5), (1.0, 1.0), (3.0, 3.0), (0.1, 2.0))


def exact(products: CrossProducts, theta: tuple[float, float]) -> tuple[float, np.ndarray]:
    """Return ``log|M|`` and the traces (2,) by a dense remainder."""
    n1, n2 = products.layout.n_levels
    d1, d2 = (blocks.ravel() for blocks in products.diagonal)
    a, b = np.square(theta)
    pair = products.pairs[0, 1]
    A = scipy.sparse.csr_array((pair.blocks.ravel(), (pair.rows, pair.cols)), shape=(n1, n2))
    D1 = 1.0 + a * d1
    G = np.diag(d2) - (A.T @ scipy.sparse.diags_array(a / D1) @ A).toarray()
    factor = scipy.linalg.cho_factor(np.eye(n2) + b * G, lower=True)
    value = np.log(D1).sum() + 2.0 * np.log(factor[0].diagonal()).sum()
    C = scipy.linalg.cho_solve(factor, np.eye(n2))
    AC = scipy.sparse.diags_array(1.0 / D1) @ (A @ C)
    inner = np.asarray((scipy.sparse.diags_array(1.0 / D1) @ A).multiply(AC).sum(axis=1))
    return value, np.array([(d1 / D1).sum() - b * inner.sum(), (C * G).sum()])


def errors(
    products: CrossProducts, theta: tuple[float, float], seeds: Iterable[int]
) -> tuple[np.ndarray, list[IterativeFactor], str]:
    """Return errors over quoted ones (seeds, 3) of ``log|M|`` and traces; and the factors."""
    value, traces = exact(products, theta)
    lams = [np.array([[t]]) for t in theta]
    out, factors = [], []
    for seed in seeds:
        factor = IterativeFactor(products, seed=seed)
        try:
            factor.update(lams)
            factor.refresh()
        except MixefError as error:
            return np.empty((0, 3)), [], str(error)
        T = np.array([t[0, 0] for t in factor.trace_blocks()])
        se = np.sqrt(np.diag(factor.trace_covariance()))
        out.append([(factor.ldL2 - value) / factor.ldL2_se, *(T - traces) / se])
        factors.append(factor)
    return np.array(out), factors, ""


def accuracy(n: int, l1: int, l2: int, seeds: int, kinds: list[str]) -> Iterator[str]:
    """Compare on every graph at every theta: a line for each."""
    for kind in kinds:
        products = products_of(kind, n, l1, l2)
        for number, theta in enumerate(THETAS):
            start = time.perf_counter()
            z, factors, refused = errors(
                products, theta, range(number * seeds, (number + 1) * seeds)
            )
            seconds = (time.perf_counter() - start) / seeds
            if refused:
                yield f"{kind} {theta}: refused after {seconds * seeds:.1f} s"
                continue
            se = [factor.ldL2_se for factor in factors]
            effort = factors[0]._estimate.effort
            probes = len(factors[0]._estimate.probes)
            yield (
                f"{kind:20} {theta!s:12} rms {np.sqrt((z**2).mean(axis=0)).round(2)} "
                f"se {np.mean(se):.1e} max {np.max(se):.1e} order {effort.order} "
                f"steps {effort.steps} k {effort.start.shape[1]} probes {probes} "
                f"bias {z[:, 0].mean():+.2f} {seconds:.2f} s"
            )


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=3, default=(60_000, 1_500, 1_000))
    parser.add_argument("--graphs", default=",".join(GRAPHS))
    chosen = parser.parse_args()
    if chosen.accuracy:
        for line in accuracy(*chosen.size, chosen.seeds, chosen.graphs.split(",")):
            print(line, flush=True)


if __name__ == "__main__":
    main()
