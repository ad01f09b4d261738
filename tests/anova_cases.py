"""Frames and fits of the cases in tests/reference/anova.json, which the tests of terms share."""

import re
import warnings
from functools import cache

import numpy as np
from reference_data import cases, frame

from mixef import lmer

CASES = {case["id"]: case for case in cases("anova.json")}
# Rows that the R script leaves out, counted from 1.
LEFT_OUT = {
    "cake_some": ("cake", [1, 2, 3, 4, 9, 50, 51, 52, 53, 77, 101, 102, 200, 244, 245]),
    "sleep_some": (
        "sleepstudy", [2, 3, 5, 17, 18, 19, 20, 44, 97, 98, 99, 100, 101, 150, 171],
    ),
}  # fmt: skip
EMPTY = {
    "one_empty": "~(A == 'a3' & B == 'b1')",
    "three_empty": "~(A == 'a3' & B == 'b1') & ~(A == 'a1' & B == 'b3') & ~(A == 'a2' & B == 'b2')",
    "deep_empty": "~(A == 'a2' & B == 'b1' & C == 'c2')",
}
FACTORS = ("A", "B", "C", "o", "logic", "recipe", "temperature")


def data_of(name):
    """The frame of a case, by the name that the R script gives it."""
    if name in LEFT_OUT:
        whole, rows = LEFT_OUT[name]
        return frame(whole).drop(index=np.array(rows) - 1)
    if name in EMPTY:
        return frame("factorial").query(EMPTY[name])
    return frame(name)


def factors_of(formula):
    """The factors among the fixed effects of a case."""
    return [f for f in FACTORS if f in re.findall(r"\w+", re.sub(r"\([^()]*\|.*", "", formula))]


@cache
def fit_of(key, contrast=None, REML=None):
    """The fit of a case, with one kind of contrasts for all factors."""
    case = CASES[key]
    coded = {} if contrast is None else dict.fromkeys(factors_of(case["formula"]), contrast)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # columns of empty cells are dropped
        return lmer(
            case["formula"],
            data_of(case["data"]),
            weights=case.get("weights"),
            REML=case["REML"] if REML is None else REML,
            contrasts=coded or None,
        )


def column(table, name):
    """One column of a recorded table, by row."""
    return dict(zip(table["rows"], table["values"][name], strict=True))


def plain(text):
    """R's text without its typographic quotes and trailing spaces."""
    lines = "\n".join(text).replace("‘", "'").replace("’", "'").splitlines()
    return [line.rstrip() for line in lines]
