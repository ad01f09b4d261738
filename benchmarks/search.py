"""The search laboratory: many designs from several starts, and how the searches end.

``python -m benchmarks.search --help``. Each design is fitted from the default start and from 0.01
and 100 times it. Printed are the evaluations, ends above the best known one, and verdicts that are
wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.search_designs import SearchDesign, draw
from mixef import GlmerControl, LmerControl, glmer, lmer
from mixef.errors import MixefError

STARTS = {"default": None, "0.01": 0.01, "100": 100.0}
# An end is above the best known one when it is by more than this share of the criterion.
ABOVE = 1e-6
# ... and at it when it is by less than this: what a search that says that it converged may leave.
AT = 1e-5


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes
    ----------
    seed, start : int, str
    generalized : bool
    n_evaluations : int
    objective : float
        Infinite where the fit was refused.
    converged, singular : bool
    message : str
        Problems, or the refusal.
    seconds : float
        CPU time of the whole fit.
    doubted : bool
        Whether the fit says that there may be several minima.
    """

    seed: int
    start: str
    generalized: bool
    n_evaluations: int
    objective: float
    converged: bool
    singular: bool
    message: str
    seconds: float
    doubted: bool = False


def fit(design: SearchDesign, start=None):
    """Fit a design, from parameters ``start`` of the user's scale."""
    if design.generalized:
        control = GlmerControl(
            check_conv_singular="ignore", check_nobs_vs_nlev="ignore", check_nobs_vs_nRE="ignore"
        )
        fitted = glmer(design.formula, design.data, start=start, control=control, **design.options)
    else:
        control = LmerControl(
            check_conv_singular="ignore", check_nobs_vs_nlev="ignore", check_nobs_vs_nRE="ignore"
        )
        options = dict(design.options)
        if "weights" in options:
            options["weights"] = design.data[options["weights"]]
        fitted = lmer(design.formula, design.data, start=start, control=control, **options)
    return fitted


def default_start(fitted) -> np.ndarray:
    """Covariance parameters of the user's scale at which the search starts by default."""
    problem = fitted._fit.problem
    begin = problem.start() if fitted._fit.is_linear else problem.par
    return problem.terms.user_par(begin)


def runs(design: SearchDesign, starts: Iterable[str] = STARTS) -> list[Run]:
    """Fit a design from its starts."""
    out: list[Run] = []
    origin = None
    for name in starts:
        factor, begin = STARTS[name], None
        if factor is not None:
            if origin is None:
                continue
            begin = factor * origin
        clock = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                fitted = fit(design, begin)
            except MixefError as error:
                spent = time.process_time() - clock
                out.append(Run(design.seed, name, design.generalized, 0, np.inf, False, False,
                               f"{type(error).__name__}: {error}", spent))  # fmt: skip
                continue
        if origin is None:
            origin = default_start(fitted)
        end = fitted.convergence
        out.append(
            Run(
                design.seed,
                name,
                design.generalized,
                end.n_evaluations,
                float(fitted.objective),
                bool(fitted.converged),
                bool(fitted.is_singular()),
                " | ".join(end.problems),
                time.process_time() - clock,
                any("several minima" in remark for remark in end.remarks),
            )
        )
    return out


def best_known(found: Sequence[Run], reference: dict[str, float]) -> dict[int, float]:
    """Lowest objective of each design, over its starts and a reference."""
    best = {int(seed): value for seed, value in reference.items()}
    for run in found:
        best[run.seed] = min(best.get(run.seed, np.inf), run.objective)
    return best


def faults(found: Sequence[Run], best: dict[int, float]) -> dict[str, list[Run]]:
    """Sort out the runs with a fault, by its kind."""
    out: dict[str, list[Run]] = {
        "above the best, not flagged": [],
        "above the best, flagged": [],
        "flagged at the best": [],
        "refused": [],
    }
    for run in found:
        above = run.objective - best[run.seed]
        if not np.isfinite(run.objective):
            out["refused"].append(run)
        elif above > ABOVE * max(1.0, abs(best[run.seed])):
            flagged = run.doubted or not run.converged
            out[f"above the best, {'' if flagged else 'not '}flagged"].append(run)
        elif not run.converged and above < AT:
            out["flagged at the best"].append(run)
    return out


def table(found: Sequence[Run], best: dict[int, float]) -> str:
    """Lay out the evaluations by kind of model and start, and count the faults."""
    lines = [
        "| model | start | runs | median | 90% | 99% | most | above, not flagged | above, flagged "
        "| flagged at the best | refused |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for generalized in (False, True):
        for start in STARTS:
            some = [r for r in found if r.generalized == generalized and r.start == start]
            if not some:
                continue
            counts = [r.n_evaluations for r in some if np.isfinite(r.objective)] or [0]
            median, most_of_10, most_of_100 = np.quantile(counts, [0.5, 0.9, 0.99], method="higher")
            cells = ["generalized" if generalized else "linear", start, len(some), median,
                     most_of_10, most_of_100, max(counts),
                     *(len(runs) for runs in faults(some, best).values())]  # fmt: skip
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def export(designs: Iterable[SearchDesign], folder: Path) -> None:
    """Write designs that lme4 fits too for ``tests/reference/search.R``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["seed\tformula\tREML\tfamily\tweighted"]
    for design in designs:
        family = str(design.options.get("family", ""))
        if family not in ("", "binomial", "poisson") or "diag" in design.formula:
            continue
        if design.options.get("nAGQ", 1) != 1:
            continue
        design.data.to_csv(folder / f"{design.seed}.csv", index=False)
        REML, weighted = design.options.get("REML", False), "weights" in design.options
        cells = [design.seed, design.formula, REML, family, weighted]
        lines.append("\t".join(str(c).upper() if isinstance(c, bool) else str(c) for c in cells))
    (folder / "designs.tsv").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run the designs, and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--designs", type=int, default=600, help="how many (default 600)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--rows", type=int, default=30_000, help="most rows (default 30,000)")
    parser.add_argument("--starts", default=",".join(STARTS), help=f"of {','.join(STARTS)}")
    parser.add_argument("--kind", choices=("linear", "generalized"), help="one kind of model only")
    parser.add_argument("--json", type=Path, help="file of the runs; those it has are not rerun")
    parser.add_argument("--reference", type=Path, help="JSON of objectives by seed, from R")
    parser.add_argument("--export", type=Path, help="folder for the designs' data; fits nothing")
    chosen = parser.parse_args()
    if chosen.export:
        seeds = range(chosen.seed, chosen.seed + chosen.designs)
        export((draw(seed, chosen.rows) for seed in seeds), chosen.export)
        return
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    found: list[Run] = []
    if chosen.json and chosen.json.exists():
        found = [Run(**r) for r in json.loads(chosen.json.read_text())]
    done = {run.seed for run in found}
    names: dict[int, str] = {}
    for seed in range(chosen.seed, chosen.seed + chosen.designs):
        if chosen.kind and (seed % 2 == 1) != (chosen.kind == "generalized"):
            continue
        design = draw(seed, chosen.rows)
        names[seed] = design.name
        if seed in done:
            continue
        found += runs(design, chosen.starts.split(","))
        if chosen.json:
            chosen.json.write_text(json.dumps([asdict(r) for r in found]))
    found = [run for run in found if run.seed in names]
    reference = json.loads(chosen.reference.read_text()) if chosen.reference else {}
    best = best_known(found, {k: v for k, v in reference.items() if int(k) in names})
    print(table(found, best))
    for kind, some in faults(found, best).items():
        for run in some:
            above = run.objective - best[run.seed]
            print(f"{kind} ({run.start}, {above:.2g}): {names[run.seed]}; {run.message[:150]}")
    slowest = sorted(found, key=lambda run: -run.n_evaluations)[:8]
    for run in slowest:
        print(f"{run.n_evaluations} evaluations ({run.start}): {names[run.seed]}")
    print(f"{sum(run.seconds for run in found):.0f} s of CPU")


if __name__ == "__main__":
    main()
