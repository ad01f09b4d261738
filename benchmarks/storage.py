"""Data frames in files that Python and R both read without packages.

A folder holds one little-endian ``NAME.bin`` a column and ``columns.tsv``: a line a column with
its name, its kind and, for factors (whose codes start at 0), the levels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

FACTOR = {False: "factor", True: "ordered"}


def write(frame: pd.DataFrame, folder: Path) -> None:
    """Write a frame; columns are floats, integers below 2^31, and categoricals."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(_write_column(frame[name], folder)) + "\n" for name in frame.columns]
    (folder / "columns.tsv").write_text("".join(lines))


def _write_column(column: pd.Series, folder: Path) -> list[str]:
    values, head = column.to_numpy(), [str(column.name), "integer"]
    if isinstance(column.dtype, pd.CategoricalDtype):
        values = column.cat.codes.to_numpy()
        head[1:] = [FACTOR[column.cat.ordered], *map(str, column.cat.categories)]
    elif column.dtype.kind == "f":
        head[1] = "double"
    values.astype("<f8" if head[1] == "double" else "<i4").tofile(folder / f"{head[0]}.bin")
    return head


def read(folder: Path) -> pd.DataFrame:
    """Read a frame back; integers come as ``int64``, as in most frames."""
    lines = (folder / "columns.tsv").read_text().splitlines()
    heads = [line.split("\t") for line in lines]
    return pd.DataFrame({h[0]: _read_column(folder / f"{h[0]}.bin", *h[1:]) for h in heads})


def _read_column(path: Path, kind: str, *levels: str) -> np.ndarray | pd.Categorical:
    values = np.fromfile(path, "<f8" if kind == "double" else "<i4")
    if kind in FACTOR.values():
        return pd.Categorical.from_codes(values, levels, ordered=kind == "ordered")
    return values.astype(np.int64) if kind == "integer" else values
