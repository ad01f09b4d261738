"""Fit one model in a process of its own and print what it took, as one line of JSON.

    python -m benchmarks.fit_python PROGRAM FOLDER FORMULA FAMILY TRUE|FALSE NAGQ REPEAT LONG BUDGET

`measure.R` does the same in R, step by step.
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
import pandas as pd

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
    if program == "glmm":
        return {"criterion": -2.0 * fit.loglik, "evaluations": fit.n_eval}
    if program == "mixedlm":
        sizes = {"q": fit.matrices.n_random, "parameters": len(fit.theta)}
        return sizes | {"criterion": fit.deviance, "evaluations": fit.function_evals}
    q = sum(effects.size for effects in fit.ranef().values())
    ends = {"criterion": fit.objective, "evaluations": fit.convergence.n_evaluations}
    return {"q": q, "parameters": len(fit.theta)} | ends


def fitted(module: Any, formula: str, frame: pd.DataFrame, family: str, reml: str, agq: str) -> Any:
    """Fit a model; a generalized one with its standard errors, as the peers in R do."""
    if module.__name__ == "glmm":
        family, _, link = family.rstrip(")").partition("(")
        own = {"Gamma": "gamma", "nbinom2": "negativebinomial"}.get(family, family)
        linear = {"reml": reml == "TRUE"} if family == "gaussian" else {"nagq": int(agq)}
        return module.fit(frame, formula, family=own, link=link or None, **linear)
    if family == "gaussian":
        return module.lmer(formula, frame, REML=reml == "TRUE")
    if family == "nbinom2":
        fit = module.glmer_nb(formula, frame)
    else:
        fit = module.glmer(formula, frame, family=family, nAGQ=int(agq))
    fit.vcov()
    return fit


def main(program: str, folder: str, formula: str, family: str, reml: str, *numbers: str) -> None:
    """Load the data, fit, measure, print."""
    module = importlib.import_module(program)
    repeat, long, budget = int(numbers[1]), float(numbers[2]), float(numbers[3])
    frame = storage.read(Path(folder))
    if program == "glmm":  # it takes 0 and 1 for a response of two levels
        response = formula.partition("~")[0].strip()
        if isinstance(frame.get(response, pd.Series()).dtype, pd.CategoricalDtype):
            frame[response] = frame[response].cat.codes.astype(float)
    gc.collect()
    base = megabytes("VmRSS")
    forget_peak()

    def run() -> Any:
        return fitted(module, formula, frame, family, reml, numbers[0])

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
