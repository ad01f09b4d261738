"""The shipped data sets: what each holds, where it was published, and how it is read."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mixef.checks import shown
from mixef.errors import DataError


@dataclass(frozen=True)
class Entry:
    """One data set: its size, what was measured, and the publication it comes from."""

    rows: int
    columns: tuple[str, ...]
    description: str
    source: str
    units: tuple[tuple[str, str], ...] = ()  # of columns that are measured in some unit


_DAVIES = "Davies & Goldsmith (1972), Statistical Methods in Research and Production, 4th ed."

CATALOGUE: dict[str, Entry] = {
    "sleepstudy": Entry(
        180,
        ("Reaction", "Days", "Subject"),
        "Mean reaction time (ms) of 18 subjects on each of 10 days in a study of sleep "
        "deprivation: the group with 3 hours in bed a night. Days 0 and 1 were training and "
        "day 2 the baseline; the short nights came after it.",
        "Belenky et al. (2003), Journal of Sleep Research 12, 1-12",
        (("Reaction", "ms"), ("Days", "days")),
    ),
    "Dyestuff": Entry(
        30,
        ("Batch", "Yield"),
        "Yield of a dye (grams of standard color) in 5 preparations from each of 6 batches of "
        "an intermediate product.",
        f"{_DAVIES}, section 6.4",
        (("Yield", "g"),),
    ),
    "Dyestuff2": Entry(
        30,
        ("Batch", "Yield"),
        "Made-up yields in the layout of Dyestuff, with less variation between batches than "
        "within them would give: the estimated variance of Batch is zero.",
        "Box & Tiao (1973), Bayesian Inference in Statistical Analysis, section 5.1.2",
    ),
    "Penicillin": Entry(
        144,
        ("diameter", "plate", "sample"),
        "Diameter (mm) of the zone in which 6 samples of penicillin stopped bacteria from "
        "growing, each sample on each of 24 plates: two fully crossed factors.",
        f"{_DAVIES}, section 6.6",
        (("diameter", "mm"),),
    ),
    "Pastes": Entry(
        60,
        ("strength", "batch", "cask", "sample"),
        "Strength of a chemical paste: two tests of each of 3 casks from each of 10 "
        "deliveries. The labels of cask repeat from batch to batch; those of sample do not.",
        f"{_DAVIES}, section 6.5",
    ),
    "cake": Entry(
        270,
        ("replicate", "recipe", "temperature", "angle", "temp"),
        "Angle (degrees) at which chocolate cakes broke: 3 recipes, 6 baking temperatures "
        "(Fahrenheit; an ordered factor, and a number in temp) and 15 replicates in a split-plot "
        "design.",
        "Cook (1938), Chocolate cake, I. Optimum baking temperature, Master's thesis, Iowa State "
        "College; printed in Cochran & Cox (1957), Experimental Designs, 2nd ed., p. 300",
        (("angle", "degrees"), ("temp", "°F")),
    ),
    "cbpp": Entry(
        56,
        ("herd", "incidence", "size", "period"),
        "New cases of contagious bovine pleuropneumonia, and the animals at the start, in 15 "
        "Ethiopian herds over 4 periods. A few herds are missing from some periods.",
        "Lesnoff et al. (2004), Preventive Veterinary Medicine 64, 27-40",
    ),
    "VerbAgg": Entry(
        7584,
        ("Anger", "Gender", "item", "resp", "id", "btype", "situ", "mode", "r2"),
        "Answers of 316 persons to 24 questions on verbal aggression: resp has three ordered "
        "values and r2 joins the upper two.",
        "De Boeck & Wilson (2004), Explanatory Item Response Models, Springer",
    ),
    "grouseticks": Entry(
        403,
        ("INDEX", "TICKS", "BROOD", "HEIGHT", "YEAR", "LOCATION", "cHEIGHT"),
        "Ticks counted on the heads of 403 red grouse chicks from 118 broods at 63 places, with "
        "the height above sea level (m; centred in cHEIGHT).",
        "Elston et al. (2001), Parasitology 122, 563-569",
    ),
    "Arabidopsis": Entry(
        625,
        ("reg", "popu", "gen", "rack", "nutrient", "amd", "status", "total.fruits"),
        "Fruits set by plants of 24 genotypes from 9 populations in 3 regions, with or without "
        "fertilizer and with or without clipping of the shoot tip.",
        "Banta, Stevens & Pigliucci (2010), Oikos 119, 359-369",
    ),
    "InstEval": Entry(
        73421,
        ("s", "d", "studage", "lectage", "service", "dept", "y"),
        "Ratings from 1 (poor) to 5 (very good) that 2972 students s gave to lectures of 1128 "
        "instructors d: two large, partly crossed factors. lectage is the semesters since the "
        "lecture, studage the student's semester, service a lecture for another department.",
        "Lecture evaluations at ETH Zurich, made anonymous; published as InstEval in the R "
        "package lme4 (Bates, Maechler, Bolker & Walker 2015, Journal of Statistical Software "
        "67(1))",
    ),
    "Contraception": Entry(
        1934,
        ("woman", "district", "use", "livch", "age", "urban"),
        "Use of contraception by 1934 women in 60 districts of Bangladesh, with the number of "
        "living children, the age (years from the mean) and whether the district is urban.",
        "Bangladesh Fertility Survey of 1988; Steele, Diamond & Amin (1996), Journal of the "
        "Royal Statistical Society A 159, 289-299",
        (("age", "years from the mean"),),
    ),
    "classroom": Entry(
        1190,
        (
            "sex",
            "minority",
            "mathkind",
            "mathgain",
            "ses",
            "yearstea",
            "mathknow",
            "housepov",
            "mathprep",
            "classid",
            "schoolid",
            "childid",
        ),
        "Gain in mathematics (mathgain, points) from kindergarten (mathkind) to first grade of "
        "1190 children in 312 classrooms of 107 schools, with what is known of children, teachers "
        "and schools; mathknow is missing where a teacher was not tested.",
        "Hill, Rowan & Ball (2005), American Educational Research Journal 42, 371-406; West, Welch "
        "& Galecki (2007), Linear Mixed Models, chapter 4",
    ),
    "cbpp2": Entry(
        56,
        ("herd", "treatment", "avg_size", "period", "size", "incidence"),
        "cbpp with what was done about the disease in each herd (treatment) and the herd's "
        "average size.",
        "Lesnoff et al. (2004), Preventive Veterinary Medicine 64, 27-40",
    ),
    "kb07": Entry(
        1789,
        ("subj", "item", "spkr", "prec", "load", "rt_trunc", "rt_raw"),
        "Times (ms; cut at 5171 in rt_trunc) that 56 listeners needed to find 32 pictures by a "
        "description: of an old or a new speaker (spkr), who kept to a name used before or broke "
        "with it (prec), while the listener did or did not remember digits (load).",
        "Kronmueller & Barr (2007), Journal of Memory and Language 56, 436-455, Experiment 2",
        (("rt_trunc", "ms"), ("rt_raw", "ms")),
    ),
    "epil": Entry(
        236,
        ("y", "trt", "base", "age", "V4", "subject", "period", "lbase", "lage"),
        "Epileptic seizures in each of four periods of two weeks (y) of 59 patients with progabide "
        "or placebo, the seizures in eight weeks before (base) and the age (years); V4 marks the "
        "last period, lbase and lage are logarithms of base and age, centred.",
        "Thall & Vail (1990), Biometrics 46, 657-671",
        (("y", "seizures in two weeks"), ("base", "seizures in eight weeks"), ("age", "years")),
    ),
}


_FOLDER = Path(__file__).parent / "data"


def datasets() -> pd.DataFrame:
    """List the data sets that `load_dataset` knows.

    Returns
    -------
    pandas.DataFrame
        One row a data set, with columns ``name``, ``rows``, ``columns`` (their names, joined by
        commas), ``description`` and ``source`` (the publication of the measurements).

    Examples
    --------
    >>> from mixef.datasets import datasets
    >>> datasets().loc[:2, ["name", "rows", "columns"]]
             name  rows                  columns
    0  sleepstudy   180  Reaction, Days, Subject
    1    Dyestuff    30             Batch, Yield
    2   Dyestuff2    30             Batch, Yield
    """
    return pd.DataFrame(
        {
            "name": list(CATALOGUE),
            "rows": [entry.rows for entry in CATALOGUE.values()],
            "columns": [", ".join(entry.columns) for entry in CATALOGUE.values()],
            "description": [entry.description for entry in CATALOGUE.values()],
            "source": [entry.source for entry in CATALOGUE.values()],
        }
    )


def load_dataset(name: str) -> pd.DataFrame:
    """Load one of the shipped data sets.

    Parameters
    ----------
    name : str
        A name that `datasets` lists; capitals count.

    Returns
    -------
    pandas.DataFrame
        A fresh frame with the rows, the values and the types of the data set in R: factors are
        categoricals with R's levels in R's order (ordered where R's are), numbers are ``int64``
        or ``float64``. ``attrs["name"]`` holds the name, ``attrs["units"]`` the units of columns
        that have one, which labels of pictures show.

    Raises
    ------
    mixef.errors.DataError
        If there is no data set of that name.

    Examples
    --------
    >>> from mixef.datasets import load_dataset
    >>> load_dataset("sleepstudy").head(3)
       Reaction  Days Subject
    0  249.5600   0.0     308
    1  258.7047   1.0     308
    2  250.8006   2.0     308
    """
    if not isinstance(name, str) or name not in CATALOGUE:
        raise DataError(_unknown(name))
    with np.load(_FOLDER / f"{name}.npz", allow_pickle=False) as packed:
        meta = json.loads(packed["meta"].tobytes())
        columns = {key: _column(packed[f"column_{key}"], meta[key]) for key in meta}
    frame = pd.DataFrame(columns)
    frame.attrs |= {"name": name, "units": dict(CATALOGUE[name].units)}
    return frame


def _column(values: np.ndarray, meta: dict) -> np.ndarray | pd.Categorical:
    """Return a column as pandas takes it: a categorical for a factor, else the array."""
    if meta["kind"] != "factor":
        return values
    dtype = pd.CategoricalDtype(meta["levels"], ordered=meta["ordered"])
    return pd.Categorical.from_codes(values, dtype=dtype)


def _unknown(name: object) -> str:
    """Return the message for a name that is not in the catalogue."""
    by_lower = {known.lower(): known for known in CATALOGUE}
    close = difflib.get_close_matches(name.lower() if isinstance(name, str) else "", by_lower, n=1)
    hint = f"did you mean {by_lower[close[0]]!r}? The" if close else "the"
    return f"no data set is named {shown(name)}: {hint} data sets are {', '.join(CATALOGUE)}."
