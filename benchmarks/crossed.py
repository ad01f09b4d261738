"""The iterative factor of two crossed factors: ``python -m benchmarks.crossed --accuracy --speed``.

Accuracy is beside the exact ``log|M|`` and its derivatives by dense linear algebra: how large the
errors are, in units of the standard errors that are quoted with them. Speed is that of evaluations
with gradient, and of what comes before and after.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterable, Iterator

import numpy as np
import scipy

from benchmarks.crossed_graphs import GRAPHS, large, products_of
from mixef.errors import MixefError
from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.iterative.factor import IterativeFactor

SPEEDS = (
    (1_000_000, 10_000, 10_000, "uniform"),
    (3_000_000, 20_000, 8_400, "skewed"),
    (3_000_000, 20_000, 8_400, "clusters"),
    (32_000_000, 200_000, 84_000, "skewed"),
)
THETAS = ((0.05, 0.05), (0.3, 0.5), (1.0, 1.0), (3.0, 3.0), (0.1, 2.0))


def exact(products: CrossProducts, theta: tuple[float, float]) -> tuple[float, np.ndarray]:
    """Return ``log|M|`` and the traces (2,) by a dense remainder."""
    n1, n2 = products.layout.n_levels
    d1, d2 = (blocks.ravel() for blocks in products.diagonal)
    a, b = np.square(theta)
    pair = products.pairs[0, 1]
    A = scipy.sparse.csr_array((pair.blocks.ravel(), (pair.rows, pair.cols)), shape=(n1, n2))
    D1 = 1.0 + a * d1
    G = np.diag(d2) - (A.T @ scipy.sparse.diags(a / D1) @ A).toarray()
    factor = scipy.linalg.cho_factor(np.eye(n2) + b * G, lower=True)
    value = np.log(D1).sum() + 2.0 * np.log(factor[0].diagonal()).sum()
    C = scipy.linalg.cho_solve(factor, np.eye(n2))
    AC = scipy.sparse.diags(1.0 / D1) @ (A @ C)
    inner = np.asarray((scipy.sparse.diags(1.0 / D1) @ A).multiply(AC).sum(axis=1))
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
        off, quoted = np.array([factor.ldL2 - value, *T - traces]), np.array([factor.ldL2_se, *se])
        # Where unit vectors are taken, traces have no error but that of the steps.
        out.append(np.where(quoted > 0.0, off / np.where(quoted > 0.0, quoted, 1.0), np.nan))
        factors.append(factor)
    return np.array(out), factors, ""


def accuracy(n: int, l1: int, l2: int, seeds: int, kinds: list[str]) -> Iterator[str]:
    """Compare on every graph at every theta: a line for each."""
    for kind in kinds:
        products, all_z = products_of(kind, n, l1, l2), []
        for number, theta in enumerate(THETAS):
            start = time.perf_counter()
            z, factors, refused = errors(
                products, theta, range(number * seeds, (number + 1) * seeds)
            )
            seconds = (time.perf_counter() - start) / seeds
            if refused:
                yield f"{kind:20} {theta!s:12} refused after {seconds * seeds:.1f} s"
                continue
            all_z.append(z)
            se = [factor.ldL2_se for factor in factors]
            effort = factors[0]._estimate.effort
            probes = len(factors[0]._estimate.probes)
            yield (
                f"{kind:20} {theta!s:12} rms {rms(z)} "
                f"se {np.mean(se):.1e} max {np.max(se):.1e} order {effort.order} "
                f"steps {effort.steps} k {effort.start.shape[1]} probes {probes} "
                f"bias {z[:, 0].mean():+.2f} {seconds:.2f} s"
            )
        if all_z:
            yield f"{kind:20} all          rms {rms(np.concatenate(all_z))}"


def rms(z: np.ndarray) -> np.ndarray:
    """Return the root mean squares of the columns."""
    return np.sqrt(np.nanmean(z**2, axis=0)).round(2)


def speed(n: int, l1: int, l2: int, kind: str) -> Iterator[str]:
    """Time the steps of a fit's work at one size: a line for each."""
    products = large(n, l1, l2, kind)
    pairs = len(products.pairs[0, 1].rows)
    yield f"{kind}: {n:,} rows, {pairs:,} pairs, {l1:,} x {l2:,}, {memory():.2f} GB"
    clock = Clock()
    factor = IterativeFactor(products)
    yield f"  graph {clock}"
    for theta in ((1.0, 1.0), (0.5, 0.6), (0.49, 0.61)):
        factor.update([np.array([[t]]) for t in theta])
        factor.trace_blocks()
        effort = factor._estimate.effort
        yield (
            f"  evaluation at {theta} {clock}, se {factor.ldL2_se:.1e}, order {effort.order}, k "
            f"{effort.start.shape[1]}, probes {effort.n_probes}, steps {effort.steps}"
        )
    factor.solve(np.random.default_rng(0).normal(size=(l1 + l2, 4)))
    yield f"  solve of 4 right-hand sides {clock}"
    factor.refresh()
    yield f"  refresh {clock}, se {factor.ldL2_se:.1e}; {memory():.2f} GB at most"


class Clock:
    """Prints the seconds, of the wall and of the processor, since it was last printed."""

    def __init__(self) -> None:
        self.last = self.now()

    def now(self) -> tuple[float, float]:
        """Both clocks."""
        return time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        before, self.last = self.last, self.now()
        wall, cpu = np.subtract(self.last, before)
        return f"{wall:.2f} s ({cpu:.1f} s of CPU)"


def memory() -> float:
    """The most gigabytes so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=3, default=(60_000, 1_500, 1_000))
    parser.add_argument("--graphs", default=",".join(GRAPHS))
    chosen = parser.parse_args()
    if chosen.accuracy:
        for line in accuracy(*chosen.size, chosen.seeds, chosen.graphs.split(",")):
            print(line, flush=True)
    for size in SPEEDS if chosen.speed else ():
        for line in speed(*size):
            print(line, flush=True)


if __name__ == "__main__":
    main()
