"""Frames and frozen numbers behind the reference tests, by the names that the R scripts use."""

import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from mixef.datasets import load_dataset

FOLDER = Path(__file__).parent / "reference"


@cache
def read_reference(name):
    """The content of one JSON file in tests/reference."""
    return json.loads((FOLDER / name).read_text())


def cases(name):
    """The cases of one JSON file in tests/reference."""
    return read_reference(name)["cases"]


def case(name, key):
    """The case of one JSON file whose id is ``key``."""
    return next(c for c in cases(name) if c["id"] == key)


def frame(name):
    """A fresh copy of the data set that the R scripts call ``name``."""
    return _frame(name).copy()


@cache
def _frame(name):
    if (FOLDER / "data" / f"{name}.csv").exists():
        return _read_csv(name)
    return DERIVED[name]() if name in DERIVED else load_dataset(name)


def _read_csv(name):
    """Read a frame that fit_record.R wrote: exact numbers, R's levels in R's order."""
    path = FOLDER / "data" / f"{name}.csv"
    meta = json.loads(path.with_suffix(".json").read_text())
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    data = pd.DataFrame({key: _column([row[key] for row in rows], meta[key]) for key in meta})
    data.attrs["name"] = name
    return data


def _column(cells, meta):
    """One column from its texts, by the kind that R gives it."""
    if meta["kind"] == "factor":
        code = {level: i for i, level in enumerate(meta["levels"])} | {"NA": -1}
        dtype = pd.CategoricalDtype(meta["levels"], ordered=meta["ordered"])
        return pd.Categorical.from_codes([code[cell] for cell in cells], dtype=dtype)
    if meta["kind"] == "logical":
        return np.array(cells) == "TRUE"
    if meta["kind"] == "integer":
        return np.array(cells, dtype=np.int64)
    return np.array(["nan" if cell == "NA" else cell for cell in cells], dtype=np.float64)


def _cbpp():
    """Cbpp with one level of ``obs`` a row."""
    data = load_dataset("cbpp")
    levels = [str(i) for i in range(1, len(data) + 1)]
    return data.assign(obs=pd.Categorical(levels, levels))


def _contraception():
    """Contraception with ``ch``: whether there are living children."""
    data = load_dataset("Contraception")
    return data.assign(ch=pd.Categorical(np.where(data["livch"] == "0", "N", "Y"), ["N", "Y"]))


def _sleepstudy_w():
    """Sleepstudy with weights and a made-up condition."""
    data = load_dataset("sleepstudy")
    cond = pd.Categorical(["a", "b"] * 90, ["a", "b"])
    return data.assign(w=np.tile([1.0, 2.0, 0.5], 60), cond=cond)


DERIVED = {"cbpp": _cbpp, "Contraception": _contraception, "sleepstudy_w": _sleepstudy_w}
