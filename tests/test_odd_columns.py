"""Columns at the ends of their types, in an engine and in memory: one fit, or one refusal."""

import datetime
import warnings
from decimal import Decimal

import duckdb
import ibis
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from mixef import glmer, lmer
from mixef.errors import MixefError

N = 60
K = np.arange(N)
RNG = np.random.default_rng(1)
ROWS = {"y": RNG.normal(size=N) + K % 6 / 2, "x": RNG.normal(size=N), "g": K % 6, "c": K % 7}
DAY = datetime.date(1, 1, 1)
COLUMNS = {
    "denormal": K % 7 * 5e-324,
    "denormal beside ones": np.where(K % 2, 1.0, 1e-320),
    "tiny": RNG.normal(size=N) * 1e-300,
    "small": RNG.normal(size=N) * 1e-60,
    "huge": RNG.normal(size=N) * 1e300,
    "one that is huge": np.full(N, 1.7e308),
    "both ends": np.where(K % 2, 1.7e308, -1.7e308),
    "next to each other": 1.0 + K % 4 * 2.0**-52,
    "signed zeros": np.where(K % 2, 1.0, np.where(K % 3, 0.0, -0.0)),
    "missing": np.where(K % 5 == 0, np.nan, K % 4),
    "infinite": np.where(K == 33, np.inf, K % 4),
    "half as long": (K % 4 / 10).astype(np.float32),
    "whole decimals": pa.array([Decimal(int(k)) for k in K % 5], pa.decimal128(12, 2)),
    "decimals": pa.array([Decimal(int(k)) / 4 for k in K % 5], pa.decimal128(12, 2)),
    "long decimals": pa.array([Decimal(10**30 + int(k)) for k in K % 5], pa.decimal128(38, 2)),
    "long numbers": np.uint64(2**63) + (K % 5).astype(np.uint64),
    "blanks": pa.array(["" if k % 3 else " " for k in K]),
    "accents": pa.array(["é" if k % 3 else "e\u0301" for k in K]),
    "ends of text": pa.array(["a\0b" if k % 3 else "a" for k in K]),
    "nanoseconds": pa.array(
        [1_700_000_000_000_000_000 + int(k) for k in K % 5], pa.timestamp("ns")
    ),
    "old days": pa.array([DAY + datetime.timedelta(int(k)) for k in K % 5]),
}
FITS = {
    "predictor": lambda data: lmer("y ~ o + (1 | g)", data),
    "weights": lambda data: lmer("y ~ x + (1 | g)", data, weights="o"),
    "group": lambda data: lmer("y ~ x + (1 | o)", data),
    "generalized": lambda data: glmer("c ~ o + (1 | g)", data, "poisson"),
}


def outcome(fit, data):
    """All labels and the criterion, or the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = fit(data)
        except MixefError as error:
            return str(error), np.nan
    (levels,) = (modes.index.tolist() for modes in made.ranef().values())
    return str((made.fixef().index.tolist(), levels)), made.objective


FEW = ("denormal", "whole decimals", "signed zeros")  # for what costs more


@pytest.mark.parametrize(
    ("name", "role"), [(n, r) for n in COLUMNS for r in FITS if r != "generalized" or n in FEW]
)
def test_an_engine_changes_nothing(name, role):
    """No table changes here while it is read, and none is said to."""
    table = pa.table({**ROWS, "o": COLUMNS[name]})
    expected, objective = outcome(FITS[role], table)
    for opened in (duckdb.from_arrow, lambda t: pl.from_arrow(t).lazy())[: 1 + (name in FEW)]:
        found, value = outcome(FITS[role], opened(table))
        assert found == expected
        assert value == pytest.approx(objective, rel=1e-9, nan_ok=True)


def test_what_ibis_is_warned_of_is_not_told():
    """Of calls that are not the caller's."""
    table = ibis.memtable(pa.table(ROWS))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        lmer("y ~ x + (1 | g)", table).fitted()
