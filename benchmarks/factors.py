"""CHOLMOD beside mixef's own sparse factor: ``python -m benchmarks.factors``.

Every model is fitted in two fresh interpreters, one of which finds no scikit-sparse. Times are CPU
seconds from formula to fit, the least of a few; the REML criteria have to agree.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import layout

N = 200_000
#: What is fitted: formula, levels of g and of h, and how they lie to each other.
MODELS = {
    "20,000 in 2,000": ("y ~ x + (1 | g) + (1 | h)", 20_000, 2_000, "nested"),
    "20,000 in 2,000 in 100": ("y ~ x + (1 | g) + (1 | h) + (1 | k)", 20_000, 2_000, "nested"),
    "20,000 in 2,000, slopes": ("y ~ x + (1 | g) + (x | h)", 20_000, 2_000, "nested"),
    "20,000 in 2,000, slopes twice": ("y ~ x + (x | g) + (x | h)", 20_000, 2_000, "nested"),
    "100,000 in 2,000": ("y ~ x + (1 | g) + (1 | h)", 100_000, 2_000, "nested"),
    "50,000 who move among 4,000": ("y ~ x + (1 | g) + (1 | h)", 50_000, 4_000, "moving"),
    "60,000 x 30,000, at random": ("y ~ x + (1 | g) + (1 | h)", 60_000, 30_000, "sparse"),
}
RUN = "from benchmarks.factors import measure; measure({name!r}, {repeat})"
WITHOUT = "import sys; sys.modules['sksparse'] = None; "


def simulated(g_levels: int, h_levels: int, kind: str) -> pd.DataFrame:
    """Rows with an effect of each group; h repeats g's order, with some moves or at random."""
    rng = np.random.default_rng(9)
    n = N if kind != "sparse" else 80_000
    row = np.arange(n)
    g, h = row * g_levels // n, row * h_levels // n
    if kind == "moving":
        near = h + rng.integers(-5, 6, n)
        h = np.where(rng.random(n) < 0.2, near % h_levels, h)
    if kind == "sparse":
        h = np.where(rng.random(n) < 0.3, rng.integers(0, h_levels, n), h)
    d = pd.DataFrame({"x": rng.normal(size=n), "g": g, "h": h, "k": row * 100 // n})
    effect = rng.normal(size=(max(g_levels, h_levels), 4)) * [1.0, 0.7, 0.4, 0.3]
    noise = rng.normal(size=n)
    d["y"] = d["x"] * (1 + effect[h, 3]) + effect[g, 0] + effect[h, 1] + effect[d["k"], 2] + noise
    return d


def measure(name: str, repeat: int) -> None:
    """Fit one model here and print what came out."""
    from mixef import lmer

    formula, *levels = MODELS[name]
    d = simulated(*levels)
    seconds = []
    for _ in range(repeat + 1):  # the first compiles
        start = time.process_time()
        fit = lmer(formula, d)
        seconds.append(time.process_time() - start)
    factor = type(fit._fit.criterion().factor).__name__
    print(json.dumps({"seconds": min(seconds), "objective": fit.objective, "factor": factor}))


def output(code: str) -> dict[str, Any]:
    """Run code in a fresh interpreter and read what it prints."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rows(repeat: int = 3) -> Iterator[tuple[str, ...]]:
    """Fit all models both ways: a line of the table for each."""
    for name in MODELS:
        code = RUN.format(name=name, repeat=repeat)
        theirs, ours = output(code), output(WITHOUT + code)
        assert np.isclose(theirs["objective"], ours["objective"], rtol=1e-9, atol=0), name
        ratio = ours["seconds"] / theirs["seconds"]
        times = f"{theirs['seconds']:.3f}", f"{ours['seconds']:.3f}", f"{ratio:.2f}"
        yield name, theirs["factor"], *times, ours["factor"]


if __name__ == "__main__":
    header = ("model", "with CHOLMOD", "s", "s without", "ratio", "without CHOLMOD")
    print(layout(header, list(rows()), "<<>>><"))
