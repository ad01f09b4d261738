"""What R's model.matrix gave on one small data set (tests/reference/model_matrix.R)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

REFERENCE = json.loads((Path(__file__).parent / "reference" / "model_matrix.json").read_text())


def small_data(which="data"):
    """The data of model_matrix.R with its factors; ``which`` is "data" or "new"."""
    frame = pd.DataFrame(REFERENCE[which])
    frame["a"] = pd.Categorical(frame["a"], ["u", "v", "w"])
    frame["b"] = pd.Categorical(frame["b"], ["m", "n"])
    frame["o"] = pd.Categorical(frame["o"], ["lo", "mid", "hi", "top"], ordered=True)
    return frame


def as_matrix(rows, n, p):
    """A matrix from JSON, where one without columns has lost its shape."""
    return np.array(rows, dtype=float).reshape(n, p)
