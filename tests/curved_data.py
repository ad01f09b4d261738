"""Data with a curve, for marginal means and their slopes."""

import numpy as np
import pandas as pd


def curved_data():
    """A covariate between 1 and 5, two levels of a factor, and twelve groups of ten rows."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(12), 10)
    x = rng.uniform(1.0, 5.0, 120)
    f = rng.choice(list("ab"), 120)
    return pd.DataFrame({"g": g, "x": x, "f": f, "y": rng.normal(size=120) + x})
