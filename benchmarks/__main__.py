"""Measure mixef beside lme4 and other peers: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import report, simulate, storage
from benchmarks.cases import CASES, Case
from benchmarks.programs import PEERS, Result, absent, import_seconds, run

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixef-benchmarks"
MACHINE = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--cases", type=_names, default=names, help=f"of {','.join(names)}")
    parser.add_argument("--repeat", type=int, default=11, help="runs of a fast fit (default 11)")
    parser.add_argument(
        "--lme4-limit", type=float, default=900.0, help="seconds given to each peer (default 900)"
    )
    parser.add_argument("--peers", type=_names, default=[*PEERS], help=f"of {','.join(PEERS)}")
    parser.add_argument("--json", type=Path, help="file for all results")
    chosen = parser.parse_args()
    unknown = sorted({*chosen.cases} - {*names} | {*chosen.peers} - {*PEERS})
    if unknown:
        known = f"cases are {', '.join(names)}; peers are {', '.join(PEERS)}"
        parser.error(f"unknown: {', '.join(unknown)}; {known}")
    return chosen


def _names(text: str) -> list[str]:
    return text.split(",") if text else []


def folder_of(case: Case) -> Path:
    """Folder of a case's data, written at first need and anew when their making changes."""
    sources = b"".join(inspect.getsource(m).encode() for m in (simulate, storage))
    version = hashlib.sha256(sources).hexdigest()[:8]
    folder = CACHE / version / case.name
    if not (folder / "columns.tsv").exists():
        storage.write(case.frame(), folder)
    return folder


def measure(case: Case, peers: Sequence[str], repeat: int, limit: float) -> list[Result]:
    """Run the programs on a case, one after the other; only mixef has no limit of time."""
    folder = folder_of(case)
    able = ["mixef", *(peer for peer in case.peers if peer in peers)]
    results = [run(p, case, folder, repeat, None if p == "mixef" else limit) for p in able]
    spent = [f"{r.program} {r.error or f'{r.seconds:.4g} s'}" for r in results]
    print(f"{case.name}: {'; '.join(spent)}", flush=True)
    return results


def main() -> None:
    """Run the cases, print the table and the targets."""
    chosen = arguments()
    why = {peer: absent(peer) for peer in chosen.peers}
    peers = [peer for peer in chosen.peers if not why[peer]]
    print(MACHINE, *filter(None, why.values()), sep="\n")
    cases = [case for case in CASES if case.name in chosen.cases]
    results = [measure(case, peers, chosen.repeat, chosen.lme4_limit) for case in cases]
    print(*sorted({f"{r.version}, BLAS {r.blas}" for rs in results for r in rs if r.n}), sep="\n")
    pairs = list(zip(cases, results, strict=True))
    lines = [line for pair in pairs for line in report.rows(*pair)]
    print("", report.layout(report.HEADER, lines, "<>>><>>>>>>>>"), sep="\n")
    verdicts = [verdict for pair in pairs for verdict in report.verdicts(*pair)]
    verdicts.append(report.import_verdict(*import_seconds()))
    print("", report.layout(("case", "target", "reached", ""), verdicts, "<<<<"), sep="\n")
    if chosen.json:
        fits = {case.name: [asdict(r) for r in rs] for case, rs in pairs}
        content = {"machine": MACHINE, "fits": fits, "targets": [v._asdict() for v in verdicts]}
        chosen.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
