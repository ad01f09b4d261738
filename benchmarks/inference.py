"""Time what is done with a fit beside R: ``python -m benchmarks.inference --help``.

Each task runs in a process of its own, mixef's and R's in turn, and repeats take turns too; the
smallest time of each is compared. The fit itself is outside the time. `inference.R` holds the
same tasks in R.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import report, simulate, storage
from mixef import glmer, lmer, load_dataset, pb_test

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Task:
    """One thing to do with a fit, with what it should take.

    `ratio` bounds mixef's time over R's, `seconds` mixef's time by itself. `data` are the ones
    that are simulated, for R to read. `in_R` tells whether R has the task, too.
    """

    name: str
    fit: Callable[[], Any]
    run: Callable[[Any], Any]
    ratio: float | None = None
    seconds: float | None = None
    data: Callable[[], Any] | None = None
    in_R: bool = True


def sleep(REML: bool = True) -> Any:
    """Fit the reaction times."""
    return lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"), REML)


def herds() -> Any:
    """Fit the cases of pneumonia."""
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return glmer(formula, load_dataset("cbpp"), "binomial")


def ratings() -> Any:
    """Fit the ratings of lecturers."""
    return lmer("y ~ service + lectage + studage + (1 | s) + (1 | d)", load_dataset("InstEval"))


CROSSED = partial(simulate.crossed, 10_000, 500, 100, seed=3)

TASKS = (
    Task("profile_sleepstudy", sleep, lambda fit: fit.profile(), ratio=0.1),
    Task("profile_cbpp", herds, lambda fit: fit.profile(), ratio=0.05),
    Task("bootstrap_sleepstudy", sleep, lambda fit: fit.bootstrap(1000, seed=1), ratio=0.02),
    Task("bootstrap_cbpp", herds, lambda fit: fit.bootstrap(100, seed=1)),
    Task(
        "refits_sleepstudy",
        sleep,
        lambda fit: fit.refit(fit.simulate(1000, seed=1).to_numpy()),
        ratio=0.02,
    ),
    Task(
        "pb_test_sleepstudy",
        partial(sleep, REML=False),
        lambda fit: pb_test(fit, fit.update(". ~ . - Days"), n=1000, seed=1),
    ),
    Task(
        "satterthwaite_InstEval",
        ratings,
        lambda fit: fit.coef_table(ddf="satterthwaite"),
        seconds=1.0,
    ),
    Task(
        "kenward_roger_10k",
        lambda: lmer("y ~ x + (1 | g) + (1 | h)", CROSSED()),
        lambda fit: fit.coef_table(ddf="kenward-roger"),
        seconds=10.0,
        data=CROSSED,
    ),
)


def in_mixef(task: Task) -> float:
    """Return the seconds of a task, warmed up by one run on another fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task.run(task.fit())
        fit = task.fit()
        start = time.perf_counter()
        task.run(fit)
        return time.perf_counter() - start


def seconds_of(command: list[str], limit: float) -> float:
    """Return the seconds that a process reports; infinite where it takes longer than the limit."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, check=False, cwd=HERE.parent
        )
    except subprocess.TimeoutExpired:
        return float("inf")
    if done.returncode:
        print(done.stderr.strip()[-300:])
        return float("nan")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["seconds"])


def measure(task: Task, suite: str, folder: Path, repeat: int, limit: float) -> tuple[float, float]:
    """Return the smallest seconds of mixef and of R; a suite is a module and a script of R."""
    if task.data is not None and not (folder / task.name / "columns.tsv").exists():
        storage.write(task.data(), folder / task.name)
    own = [sys.executable, "-m", f"benchmarks.{suite}", "--task", task.name]
    peer = ["Rscript", str(HERE / f"{suite}.R"), task.name, str(folder / task.name)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        times[0].append(seconds_of(own, limit))
        if task.in_R and shutil.which("Rscript"):
            times[1].append(seconds_of(peer, limit))
    return min(times[0]), min(times[1], default=float("nan"))


def main(suite: str = "inference", tasks: Sequence[Task] = TASKS) -> None:
    """Run the tasks of a suite and print the table."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{suite}", description=__doc__)
    names = [task.name for task in tasks]
    parser.add_argument("--tasks", default=",".join(names), help=f"of {', '.join(names)}")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds given to each run")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    by_name = {task.name: task for task in tasks}
    if chosen.task:
        print(json.dumps({"seconds": in_mixef(by_name[chosen.task])}))
        return
    from benchmarks.__main__ import CACHE

    lines = []
    for name in chosen.tasks.split(","):
        task = by_name[name]
        own, peer = measure(task, suite, CACHE / suite, chosen.repeat, chosen.limit)
        wanted, met = "", ""
        if task.ratio is not None and peer == peer:
            wanted, met = f"at most {task.ratio:g} of R's", report.MET[own <= task.ratio * peer]
        elif task.seconds is not None:
            wanted, met = f"under {task.seconds:g} s", report.MET[own < task.seconds]
        theirs = f"> {chosen.limit:g}" if peer == float("inf") else f"{peer:.4g}"
        share = f"< {own / chosen.limit:.2g}" if peer == float("inf") else f"{own / peer:.3g}"
        lines.append([name, f"{own:.4g}", theirs, share, wanted, met])
        print(f"{name}: mixef {own:.4g} s, R {theirs} s", flush=True)
    header = ("task", "mixef (s)", "R (s)", "ratio", "target", "")
    print("", report.layout(header, lines, "<>>><<"), sep="\n")


if __name__ == "__main__":
    main()
