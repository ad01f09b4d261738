"""Pack what scripts/make_datasets.R exported into the files that mixef ships.

    python scripts/make_datasets.py EXPORTDIR src/mixef/datasets/data

Each data set becomes one ``.npz``: an array a column (codes for factors) and the array ``meta``,
a JSON text in bytes that holds, column by column, the kind and for factors the levels and whether
they are ordered. The same input gives the same bytes.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

DTYPES = {"factor": np.int16, "integer": np.int64, "double": np.float64}


def pack(source: Path, target: Path) -> None:
    """Write ``target`` (.npz) from ``source`` (.json) and the .csv beside it."""
    meta = json.loads(source.read_text())
    with source.with_suffix(".csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    columns = {}
    for name, column in meta.items():
        texts = ["nan" if row[name] == "NA" else row[name] for row in rows]
        columns[f"column_{name}"] = np.array(texts, dtype=DTYPES[column["kind"]])
    text = json.dumps(meta, separators=(",", ":"), ensure_ascii=True)
    columns["meta"] = np.frombuffer(text.encode(), dtype=np.uint8)
    np.savez_compressed(target, **columns)


if __name__ == "__main__":
    export, packed = Path(sys.argv[1]), Path(sys.argv[2])
    packed.mkdir(parents=True, exist_ok=True)
    for path in sorted(export.glob("*.json")):
        pack(path, packed / f"{path.stem}.npz")
