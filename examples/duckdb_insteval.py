"""InstEval in DuckDB: the rows stay there, and the fit is that of rows in memory."""

import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np

from mixef import lmer, load_dataset

FORMULA = "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)"

insteval = load_dataset("InstEval")
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "insteval.parquet"
    insteval.to_parquet(path)

    start = time.perf_counter()
    in_memory = lmer(FORMULA, insteval, REML=False)
    seconds = {"in memory": time.perf_counter() - start}

    # A path is enough; DuckDB sums up what a model needs, and levels are sorted.
    start = time.perf_counter()
    from_file = lmer(FORMULA, path, REML=False)
    seconds["from the file"] = time.perf_counter() - start

    # A query is as good: here the ratings of lecturers of two departments.
    ratings = duckdb.sql(f"select * from '{path}' where dept in ('1', '5')")
    two_departments = lmer("y ~ service + lectage + (1 | s) + (1 | d)", ratings)

    print(from_file.fixef(), from_file.VarCorr(), sep="\n\n")
    print("\nseconds: " + ", ".join(f"{name} {took:.2f}" for name, took in seconds.items()))
    print(f"-2 log L in memory {in_memory.objective:.6f}, from the file {from_file.objective:.6f}")
    print(f"\n{two_departments.nobs} ratings of two departments:")
    print(two_departments.VarCorr())

    assert np.isclose(in_memory.objective, from_file.objective, rtol=1e-12, atol=0.0)
    assert np.allclose(in_memory.beta, from_file.beta, rtol=1e-6)
    best = from_file.ranef()["d"]["(Intercept)"].nlargest(5)
    in_both = in_memory.ranef()["d"]["(Intercept)"].loc[best.index]
    assert np.allclose(best, in_both, atol=1e-5)
