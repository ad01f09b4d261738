"""The table of results, and the targets with whether each is met."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.cases import Case
from benchmarks.programs import IN_R, Result

HEADER = (
    *("case", "n", "q", "par", "program", "time (s)", "mixef/it", "criterion", "mixef-it"),
    *("evals", "peak MB", "added MB", "peak mixef/it"),
)
# Below this size both peaks are the interpreters and their libraries, not the model.
LARGE = 50_000
# The criterion is a sum over n rows: this share of it is lost in rounding.
ROUNDING = 1e-9
NAN = float("nan")
IMPORT_RATIO = 1.15
MET = {True: "met", False: "MISSED"}


class Verdict(NamedTuple):
    """One target: the case, what is wanted, what was reached; met, MISSED or undecided."""

    case: str
    wanted: str
    reached: str
    met: str


def rows(case: Case, results: Sequence[Result]) -> list[list[str]]:
    """Lines of the table for one case: mixef's first, then each peer with mixef against it."""
    known = next((r for r in results if r.n), results[0])
    sizes = [case.name, *map(str, (known.n, known.q, known.parameters))]
    heads = [sizes, *[[""] * len(sizes)] * (len(results) - 1)]
    return [[*head, *_line(r, results[0])] for head, r in zip(heads, results, strict=True)]


def _line(it: Result, mixef: Result) -> list[str]:
    """Cells of one program; what a stopped one reached is only a bound."""
    over, under = ("> ", "< ") if it.stopped else ("", "")
    speed, memory = mixef.seconds / it.seconds, mixef.peak / it.peak
    against = [speed, mixef.criterion - it.criterion, memory] if it is not mixef else [NAN] * 3
    return [
        it.program,
        "failed" if it.error else _cell(it.seconds, ".4g", over),
        _cell(against[0], ".3g", under),
        _cell(it.criterion, ".6f"),
        _cell(against[1], "+.2e"),
        str(it.evaluations or ""),
        _cell(it.peak, ".0f", over),
        _cell(it.added, ".0f"),
        _cell(against[2], ".3g", under),
    ]


def _cell(value: float, spec: str, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{sign}{value:{spec}}"


def verdicts(case: Case, results: Sequence[Result]) -> Iterator[Verdict]:
    """Judge mixef, the first of the results, by the targets of a case."""
    mixef = results[0]
    if mixef.error:
        yield Verdict(case.name, "a fit", "failed", MET[False])
        return
    few = mixef.evaluations <= case.evaluations
    wanted = f"at most {case.evaluations} evaluations"
    yield Verdict(case.name, wanted, str(mixef.evaluations), MET[few])
    if case.seconds is not None:
        fast = mixef.seconds < case.seconds
        wanted = f"under {case.seconds:g} s"
        yield Verdict(case.name, wanted, f"{mixef.seconds:.3g} s", MET[fast])
    for peer in (r for r in results if r.program in IN_R and not r.error):
        yield from _against(case, mixef, peer)


def _against(case: Case, mixef: Result, peer: Result) -> Iterator[Verdict]:
    """Judge by what needs a peer in R."""
    owner = f"{peer.program}'s"
    if case.ratio is not None and peer.program == case.peers[0]:
        wanted = f"at most {case.ratio:g} of {owner} time"
        yield _share(case, wanted, mixef.seconds / peer.seconds, case.ratio, peer.stopped)
    # A stopped peer has no criterion, nor glmmTMB one where its Hessian is not positive definite.
    if not math.isnan(peer.criterion):
        excess = mixef.criterion - peer.criterion
        low = excess <= ROUNDING * abs(peer.criterion)
        yield Verdict(case.name, f"criterion no higher than {owner}", f"{excess:+.2e}", MET[low])
    if mixef.n >= LARGE:
        yield _share(case, f"peak memory under {owner}", mixef.peak / peer.peak, 1, peer.stopped)


def _share(case: Case, wanted: str, share: float, bound: float, stopped: bool) -> Verdict:
    """Judge a ratio to a peer; where that was stopped, it is only known to be below `share`."""
    met = "undecided" if stopped and share > bound else MET[share <= bound]
    return Verdict(case.name, wanted, f"{'< ' if stopped else ''}{share:.3g}", met)


def import_verdict(mixef: float, libraries: float) -> Verdict:
    """Judge the time that ``import mixef`` takes."""
    reached = f"{mixef / libraries:.2f} ({mixef:.3f} s over {libraries:.3f} s)"
    wanted = f"at most {IMPORT_RATIO} of its libraries' time"
    return Verdict("import", wanted, reached, MET[mixef / libraries <= IMPORT_RATIO])


def layout(header: Sequence[str], lines: Sequence[Sequence[str]], align: str) -> str:
    """Lines of text in columns; `align` has < or > for each."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    spec = "  ".join(f"{{:{a}{w}}}" for a, w in zip(align, widths, strict=True))
    return "\n".join(spec.format(*line).rstrip() for line in (header, *lines))


def markdown(content: Mapping[str, Any]) -> str:
    """Return what ``--json`` keeps as a table in Markdown: a line a program, cases in order."""
    head = (
        "case",
        "program",
        "time (s)",
        "mixef / it",
        "evaluations",
        "peak MB",
        "criterion: mixef - it",
    )
    sides = ("---", "---", *("---:",) * (len(head) - 2))
    lines = []
    for name, found in content["fits"].items():
        results = [Result(**{k: NAN if v is None else v for k, v in r.items()}) for r in found]
        for result in results:
            _, seconds, ratio, _, above, evaluations, peak, *_ = _line(result, results[0])
            first = result is results[0]
            cells = (f"{name}, {result.n:,} rows" if first else "", result.program, seconds)
            lines.append((*cells, ratio, evaluations, peak, above))
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, sides, *lines))


def programs(content: Mapping[str, Any]) -> list[str]:
    """Return the versions of the programs of a run, as each said it."""
    return sorted({r["version"] for found in content["fits"].values() for r in found} - {""})
