"""Fit one model in a process of its own and print what it took, as one line of JSON.

    python -m benchmarks.fit_python PROGRAM FOLDER FORMULA TRUE|FALSE REPEAT LONG BUDGET

`fit_lme4.R` does the same in R, step by step.
"""

from __future__ import annotations

import gc
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import storage


def megabytes(field: str, pid: int | str = "self") -> float:
    """Read VmRSS or VmHWM (the peak) of a process; nan where there is no /proc."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(s.split()[1]) / 1024 for s in lines if s.startswith(field)), float("nan"))


def forget_peak() -> None:
    """Let the peak start anew from the memory now in use, where Linux allows it."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")


def timed(fit: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call and its wall-clock seconds."""
    start = time.perf_counter()
    result = fit()
    return result, time.perf_counter() - start


def median_seconds(fit: Callable[[], Any], first: float, repeat: int, budget: float) -> float:
    """Repeat a fit that is warm now, as long as the budget lasts; the median of its seconds."""
    runs: list[float] = []
    while (len(runs) < repeat and sum(runs) + first < budget) or not runs:
        runs.append(timed(fit)[1])
    return statistics.median(runs)


def facts(program: str, fit: Any) -> dict[str, float]:
    """Sizes, criterion and evaluations, by each program's own names."""
    if program == "mixedlm":
        sizes = {"q": fit.matrices.n_random, "parameters": len(fit.theta)}
        return sizes | {"criterion": fit.deviance, "evaluations": fit.function_evals}
    q = sum(effects.size for effects in fit.ranef().values())
    ends = {"criterion": fit.objective, "evaluations": fit.convergence.n_evaluations}
    return {"q": q, "parameters": len(fit.theta)} | ends


def main(program: str, folder: str, formula: str, reml: str, *limits: str) -> None:
    """Load the data, fit, measure, print."""
    module = importlib.import_module(program)
    repeat, long, budget = int(limits[0]), float(limits[1]), float(limits[2])
    frame = storage.read(Path(folder))
    gc.collect()
    base = megabytes("VmRSS")
    forget_peak()

    def run() -> Any:
        return module.lmer(formula, frame, REML=reml == "TRUE")

    fit, seconds = timed(run)
    peak = megabytes("VmHWM")
    if seconds < long:
        seconds = median_seconds(run, seconds, repeat, budget)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    named = f"NumPy's {blas['name']} {blas['version']}"
    about = {"version": f"{program} {version(program)}", "blas": named}
    measured = {"n": len(frame), "seconds": seconds, "peak": peak, "added": peak - base}
    print(json.dumps(measured | facts(program, fit) | about, default=float))


if __name__ == "__main__":
    main(*sys.argv[1:])
