"""Each program on one case, in a process of its own, under a limit of time."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.fit_python import megabytes

HERE = Path(__file__).parent
PEERS = ("lme4", "glmmTMB", "glmm", "mixedlm")
IN_R = ("lme4", "glmmTMB")
# A fit that takes longer than LONG seconds is run once. A faster one is warmed up by its first
# run and repeated until --repeat runs or BUDGET seconds are used up, and at least once.
LONG, BUDGET = 20.0, 5.0
IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
LIBRARIES = "numpy, scipy.sparse, pandas"


@dataclass(frozen=True)
class Result:
    """What one program did on one case; `seconds` is only a lower bound where `stopped`.

    Memory is in MB: `peak` is the resident peak of the process, `added` what the fit added to the
    memory in use after the imports and with the data loaded. `error` says why there is no fit.
    """

    program: str
    n: int = 0
    q: int = 0
    parameters: int = 0
    seconds: float = float("nan")
    criterion: float = float("nan")
    evaluations: int = 0
    peak: float = float("nan")
    added: float = float("nan")
    version: str = ""
    blas: str = ""
    stopped: bool = False
    error: str = ""


def absent(program: str) -> str:
    """Say what is missing to run a program; nothing where it can run."""
    if program not in IN_R:
        found = importlib.util.find_spec(program) is not None
        return "" if found else f"{program} is skipped: it cannot be imported."
    if shutil.which("Rscript") is None:
        return f"{program} is skipped: there is no Rscript on the path."
    command = ["Rscript", "-e", f"library({program})"]
    probe = subprocess.run(command, capture_output=True, check=False)
    return f"{program} is skipped: R has no package {program}." if probe.returncode else ""


def run(program: str, case: Case, folder: Path, repeat: int, limit: float | None) -> Result:
    """Fit one case with one program; a program that exceeds the limit (s) is stopped."""
    if program in IN_R:
        command = ["Rscript", str(HERE / f"fit_{program}.R")]
    else:
        command = [sys.executable, "-m", "benchmarks.fit_python"]
    reml = "TRUE" if case.REML else "FALSE"
    command += [program, str(folder), case.formula, case.family, reml]
    command += map(str, (case.nAGQ, repeat, LONG, BUDGET))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=HERE.parent) as process:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired as expired:
            peak = megabytes("VmHWM", process.pid)
            process.kill()
            return Result(program, seconds=float(expired.timeout), peak=peak, stopped=True)
    if process.returncode:
        return Result(program, error=_message(err))
    return Result(program, **json.loads(out.strip().splitlines()[-1]))


def _message(stderr: str) -> str:
    """Last line that speaks of an error: R and Python both say it somewhere."""
    lines = stderr.splitlines()
    return next((s for s in reversed(lines) if "rror" in s), "died without a message").strip()


def import_seconds(starts: int = 7) -> tuple[float, float]:
    """Seconds to import mixef, and to import what it stands on: medians of interpreter starts.

    The two take turns, after one start of each that is not counted.
    """
    times: dict[str, list[float]] = {"mixef": [], LIBRARIES: []}
    # Installed packages come with compiled bytecode; without it every start compiles mixef anew.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(starts + 1):
        for modules, seen in times.items():
            command = [sys.executable, "-c", IMPORT.format(modules)]
            text = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            ).stdout
            seen.append(float(text))
    mixef, libraries = (statistics.median(seen[1:]) for seen in times.values())
    return mixef, libraries
