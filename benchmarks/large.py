"""Measure a model of a large table in memory and where an engine holds it.

``python -m benchmarks.large`` writes ten million simulated rows to a Parquet file, and fits a model
to them, each time in a process of its own: what is timed starts with the path of the file, and the
peak is that of the whole process. The linear model has two crossed factors; with ``--model counts``
it is one of counts with one factor, by passes over the rows.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ["y", "x1", "x2", "f", "g", "h"]
#: By name: the formula, the family and the columns that it uses.
MODELS: dict[str, tuple[str, str, list[str]]] = {
    "linear": ("y ~ x1 + x2 + f + (1 + x1 | g) + (1 | h)", "gaussian", COLUMNS),
    "counts": ("count ~ x1 + (1 | g)", "poisson", ["count", "x1", "g"]),
}
PIECE = 1_000_000  # rows that are simulated at a time


def simulate(path: Path, rows: int, groups: int, others: int) -> None:
    """Write rows with two crossed grouping factors, the levels of one of them unevenly frequent."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    b = rng.normal(size=(groups, 2)) @ np.array([[0.8, 0.1], [0.0, 0.3]])
    of_other, of_f = 0.5 * rng.normal(size=others), np.array([0.0, 0.3, -0.2, 0.5, 0.1])
    labels = pa.array([f"h{k:05d}" for k in range(others)])
    text = pa.dictionary(pa.int32(), pa.string())
    types = [(name, pa.float64()) for name in COLUMNS[:3]]
    schema = pa.schema([*types, ("f", text), ("g", pa.int32()), ("h", text), ("count", pa.int32())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, PIECE):
            n = min(PIECE, rows - start)
            g, f = rng.integers(0, groups, n), rng.integers(0, 5, n)
            h = (others * rng.random(n) ** 1.5).astype(np.int32)
            z, x2 = rng.normal(size=n).round(3), rng.gamma(2.0, size=n).round(3)
            y = 101 + 0.2 * z - 0.1 * x2 + of_f[f] + b[g, 0] + b[g, 1] * z + of_other[h]
            coded = (
                pa.DictionaryArray.from_arrays(f.astype(np.int32), pa.array(list("abcde"))),
                pa.array(g.astype(np.int32)),
                pa.DictionaryArray.from_arrays(h, labels),
            )
            numbers = ((y + rng.normal(size=n)).round(4), 50 + 10 * z, x2)
            counts = rng.poisson(np.exp(0.3 + 0.2 * z + 0.5 * b[g, 0])).astype(np.int32)
            columns = [*map(pa.array, numbers), *coded, pa.array(counts)]
            writer.write_table(pa.table(columns, schema=schema))


def _in_memory(path: str, columns: list[str]) -> Any:
    import pandas as pd

    return pd.read_parquet(path, columns=columns)


def _by_duckdb(path: str, columns: list[str]) -> Any:
    return path  # goes to DuckDB


def _by_polars(path: str, columns: list[str]) -> Any:
    import polars as pl

    return pl.scan_parquet(path)


def _by_spark(path: str, columns: list[str]) -> Any:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.shuffle.partitions", "8")
    # Groups that do not fit into the first of Spark's two hash tables are slower than in one.
    builder = builder.config("spark.sql.codegen.aggregate.map.twolevel.enabled", "false")
    return builder.config("spark.driver.memory", "4g").getOrCreate().read.parquet(path)


SOURCES: dict[str, Callable[[str, list[str]], Any]] = {
    "memory": _in_memory,
    "duckdb": _by_duckdb,
    "polars": _by_polars,
    "spark": _by_spark,
}


def fit(source: str, path: str, model: str) -> dict[str, Any]:
    """Fit a model once, in this process."""
    from mixef import glmer, lmer

    formula, family, columns = MODELS[model]
    start = time.perf_counter()
    data = SOURCES[source](path, columns)
    if source == "spark":  # whose own start is not counted
        data.limit(1).collect()
        start = time.perf_counter()
    fitted = lmer(formula, data) if family == "gaussian" else glmer(formula, data, family)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "source": source,
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "gigabytes": used.ru_maxrss / 1e6,
        "objective": float(fitted.objective),
        "beta": fitted.fixef().tolist(),
    }


def run(source: str, path: Path, model: str) -> dict[str, Any]:
    """Fit a model in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.large", "--fit", source, "--path", str(path)]
    command += ["--model", model]
    made = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env={"PYSPARK_PYTHON": sys.executable, **os.environ},
    )
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


def report(results: list[dict[str, Any]]) -> str:
    """Return a table: each source beside the first."""
    first = results[0]
    beta = np.array(first["beta"])
    lines = [
        f"{'source':8} {'s':>7} {'cpu s':>7} {'GB':>6} {'time':>6} {'memory':>6}  beta, criterion"
    ]
    for own in results:
        off = float(np.max(np.abs(np.array(own["beta"]) / beta - 1.0)))
        gap = abs(own["objective"] / first["objective"] - 1.0)
        ratios = [own[key] / first[key] for key in ("seconds", "gigabytes")]
        lines.append(
            f"{own['source']:8} {own['seconds']:7.1f} {own['cpu_seconds']:7.1f} "
            f"{own['gigabytes']:6.2f} {ratios[0]:6.2f} {ratios[1]:6.2f}  {off:.0e}, {gap:.0e}"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--model", choices=[*MODELS], default="linear")
    parser.add_argument("--rows", type=float, default=1e7)
    parser.add_argument("--groups", type=int, default=20_000, help="levels of g")
    parser.add_argument("--others", type=int, default=200, help="levels of h")
    parser.add_argument("--sources", default="memory,duckdb", help=f"of {','.join(SOURCES)}")
    parser.add_argument("--path", type=Path, help="the file; a temporary one by default")
    parser.add_argument("--fit", choices=[*SOURCES], help="fit once, and print the result")
    parser.add_argument("--json", type=Path, help="file for all results")
    chosen = parser.parse_args()
    if chosen.fit:
        print(json.dumps(fit(chosen.fit, str(chosen.path), chosen.model)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = chosen.path or Path(folder) / "rows.parquet"
        if not path.exists():
            simulate(path, int(chosen.rows), chosen.groups, chosen.others)
        results = [run(source, path, chosen.model) for source in chosen.sources.split(",")]
    print(report(results))
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
