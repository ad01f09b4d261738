"""Whole fits of two crossed factors: ``python -m benchmarks.crossed_fits [--only 1m ...]``.

The iterative factor beside the exact one, lme4 and glmm, each in a process of its own and under a
limit of time: what ends at one size is not started at a larger one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import storage
from benchmarks.cases import Case
from benchmarks.crossed_graphs import many
from benchmarks.programs import absent, run
from mixef import LmerControl, lmer

FORMULA = "y ~ x + (1 | a) + (1 | b)"
#: Rows, levels of both factors, and who meets whom.
SIZES = {
    "60k": (60_000, 2_000, 1_500, "uniform"),
    "300k": (300_000, 5_000, 4_000, "skewed"),
    "1m": (1_000_000, 10_000, 10_000, "uniform"),
    "3m": (3_000_000, 20_000, 8_400, "skewed"),
    "3m-clusters": (3_000_000, 20_000, 8_400, "clusters"),
    "32m": (32_000_000, 200_000, 84_000, "skewed"),
}
#: Programs, and the largest size that is worth starting.
PROGRAMS = {"iterative": "32m", "schur": "3m-clusters", "lme4": "1m", "glmm": "1m"}


def ratings(n: int, l1: int, l2: int, kind: str, seed: int = 0) -> pd.DataFrame:
    """Simulate rows."""
    rng = np.random.default_rng(seed)
    a, b = (codes.astype(np.int32) for codes in many(n, l1, l2, kind, rng))
    x = rng.normal(size=n)
    y = 3.5 + 0.2 * x + rng.normal(size=n)
    y += 0.5 * rng.normal(size=l1)[a] + 0.6 * rng.normal(size=l2)[b]
    return pd.DataFrame({"y": y, "x": x, "a": a, "b": b})


def one(factor: str, size: str) -> dict:
    """Fit with one factor of ours; return what it took, and what came out."""
    frame = ratings(*SIZES[size])
    before, wall, cpu = memory(), time.perf_counter(), time.process_time()
    fit = lmer(FORMULA, frame, control=LmerControl(factor=factor))
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": memory(),
        "before": before,
        "evaluations": fit.convergence.n_evaluations,
        "theta": fit.theta.tolist(),
        "beta": fit.beta.tolist(),
        "criterion": fit.objective,
        "se": fit.objective_se,
    }


def memory() -> float:
    """The most gigabytes so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def results(sizes: list[str], limit: float) -> Iterator[str]:
    """Run all programs at some sizes: a line for each."""
    ended: dict[str, str] = {}
    for size in sizes:
        n, l1, l2, kind = SIZES[size]
        yield f"{n:,} rows, {l1:,} x {l2:,} levels, {kind}"
        found: dict[str, dict] = {}
        for program, largest in PROGRAMS.items():
            if [*SIZES].index(size) > [*SIZES].index(largest) or program in ended:
                continue
            own = program in ("iterative", "schur")
            found[program] = _ours(program, size, limit) if own else _peer(program, size, limit)
            if "error" in found[program]:
                ended[program] = size
            yield f"  {program:10} {_line(found[program])}"
        if {"theta", "criterion"} <= found.get("schur", {}).keys() & found["iterative"].keys():
            yield f"  iterative less exact: {_apart(found['iterative'], found['schur'])}"


def _ours(factor: str, size: str, limit: float) -> dict:
    command = [sys.executable, "-m", "benchmarks.crossed_fits", "--one", factor, size]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {limit:g} s"}
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    result: dict = json.loads(done.stdout.splitlines()[-1])
    return result


def _peer(program: str, size: str, limit: float) -> dict:
    missing = absent(program)
    if missing:
        return {"error": missing}
    with tempfile.TemporaryDirectory() as folder:
        storage.write(ratings(*SIZES[size]), Path(folder))
        case = Case("crossed", FORMULA, pd.DataFrame)
        done = run(program, case, Path(folder), 1, limit)
    if done.stopped or done.error:
        return {"error": done.error or f"stopped after {limit:g} s"}
    return {
        "seconds": done.seconds,
        "peak": done.peak / 1e3,
        "criterion": done.criterion,
        "evaluations": done.evaluations,
    }


def _line(found: dict) -> str:
    if "error" in found:
        return str(found["error"])[:90]
    error = f" +- {found['se']:.1e}" if found.get("se") else ""
    cpu = f" ({found['cpu']:.1f} s of CPU)" if "cpu" in found else ""
    return (
        f"{found['seconds']:8.1f} s{cpu}, {found['peak']:.2f} GB, {found['evaluations']} "
        f"evaluations, criterion {found['criterion']:.4f}{error}"
    )


def _apart(ours: dict, exact: dict) -> str:
    theta, beta = (
        np.abs(np.array(ours[name]) / np.array(exact[name]) - 1.0).max()
        for name in ("theta", "beta")
    )
    criterion = ours["criterion"] - exact["criterion"]
    return f"theta {theta:.1e}, beta {beta:.1e} (relative), criterion {criterion:+.4f}"


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("FACTOR", "SIZE"))
    parser.add_argument("--only", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--limit", type=float, default=1800.0)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one(*chosen.one)))
        return
    print(f"{os.cpu_count()} cores")
    for line in results(chosen.only, chosen.limit):
        print(line, flush=True)


if __name__ == "__main__":
    main()
