"""Every public function with a zoo of wrong values: refused by mixef's own checks, and at once."""

import ast
import inspect
import signal
import traceback
import warnings
from datetime import date
from decimal import Decimal
from functools import cache, partial
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest

import mixef
from mixef import glmer, lm_list, lmer
from mixef.inference.marginal.effects import effects

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PACKAGE = Path(mixef.__file__).parent
# All cores, which is right and slow to begin; a search that runs to its limit.
SLOW = [("n_jobs", "minus one"), ("weights", "huge")]
# No call of this takes longer (of the processor, whose clock others do not slow down).
SECONDS = 5
RNG = np.random.default_rng(5)
DATA = pd.DataFrame({"g": np.repeat(list("abcdef"), 5), "x": RNG.normal(size=30).round(2)})
DATA["y"] = DATA["x"] + np.repeat(RNG.normal(size=6), 5) + RNG.normal(size=30)
DATA["b"] = (DATA["y"] > 0).astype(int)
DATA["f"] = list("uvw") * 10
FIT = lmer("y ~ x + f + (1 | g)", DATA)
SMALL = lmer("y ~ x + (1 | g)", DATA)
COUNTS = glmer("b ~ x + (1 | g)", DATA, "binomial")
LIST = lm_list("y ~ x | g", DATA)


class Broken:
    """Anything of a user's own: nothing about it works."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __array__(self, *rest, **more):
        raise RuntimeError("no array")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


ZOO = {
    "None": None,
    "True": True,
    "zero": 0,
    "minus one": -1,
    "a fraction": 2.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "huge": 10**30,
    "minus huge": -(10**30),
    "complex": 1j,
    "decimal": Decimal("0.5"),
    "empty text": "",
    "text": "zzz",
    "unreadable": "((",
    "bytes": b"x",
    "date": date(2020, 1, 1),
    "empty list": [],
    "numbers": [1, 2],
    "texts": ["zzz", "x"],
    "ragged": [[1], [1, 2]],
    "tuple": (1.5,),
    "empty dict": {},
    "dict": {"zzz": 1},
    "dict of dicts": {"x": {"y": {}}},
    "set": {3},
    "iterator": iter([1]),
    "vector": np.array([0.5, np.nan]),
    "matrix": np.ones((2, 2)),
    "cube": np.ones((2, 2, 2)),
    "scalar array": np.array(2.0),
    "booleans": np.array([True, False]),
    "complex vector": np.array([1j, 2]),
    "dates": np.array(["2020-01-01"], dtype="M8[D]"),
    "objects": np.array([None, {}], dtype=object),
    "series": pd.Series([1.0, 2.0]),
    "frame": pd.DataFrame({"a": [1], "b": ["c"]}),
    "column of polars": pl.Series([1.0, 2.0]),
    "empty frame": pd.DataFrame(),
    "index": pd.Index(["a"]),
    "index of pairs": pd.MultiIndex.from_tuples([(1, 2)]),
    "series of texts": pd.Series(["x"]),
    "class": int,
    "frame class": pd.DataFrame,
    "function": lambda *args, **more: None,
    "module": np,
    "ellipsis": ...,
    "fit": FIT,
    "state": FIT._fit,
    "broken": Broken(),
}

FEW = {"n": 2, "seed": 1}
TRUTH = {"beta": [1.0, 2.0], "sd": {"g": 1.5}, "sigma": 0.5}
CALLS = {
    "lmer": (lmer, {"formula": "y ~ x + (1 | g)", "data": DATA}),
    "glmer": (glmer, {"formula": "b ~ x + (1 | g)", "data": DATA, "family": "binomial"}),
    "glmer_nb": (mixef.glmer_nb, {"formula": "b ~ x + (1 | g)", "data": DATA}),
    "lm_list": (lm_list, {"formula": "y ~ x | g", "data": DATA}),
    "anova": (lambda *, model=SMALL, **more: mixef.anova(FIT, model, **more), {}),
    "anova of one": (lambda *, type="III", ddf="auto": mixef.anova(FIT, type=type, ddf=ddf), {}),
    "with_vcov of a matrix": (lambda *, df=None: FIT.with_vcov(FIT.vcov(), df=df), {}),
    "vcov robust": (lambda *, cluster="g": FIT.vcov(robust="CR2", cluster=cluster), {}),
    "etable": (partial(mixef.etable, SMALL), {"stats": "nobs"}),
    "report": (mixef.report, {"fit": SMALL}),
    "compare": (lambda *, model=SMALL, **more: mixef.compare(FIT, model, **more), {}),
    "compare options": (
        lambda *, by="AIC", sort=True, refit=True, model_names=None, env=None: mixef.compare(
            FIT, SMALL, by=by, sort=sort, refit=refit, model_names=model_names, env=env
        ),
        {},
    ),
    "delta_method": (mixef.delta_method, {"fit": SMALL, "expressions": "exp(x)"}),
    "ranova": (mixef.ranova, {"fit": SMALL}),
    "step": (mixef.step, {"fit": SMALL}),
    "all_fit": (mixef.all_fit, {"fit": SMALL, "optimizers": ["newton"]}),
    "exact_rlrt": (mixef.exact_rlrt, {"fit": SMALL, **FEW}),
    "pb_test": (mixef.pb_test, {"fit": FIT, "small": SMALL, **FEW}),
    "power": (mixef.power, {"fit": FIT, "test": "x", **FEW}),
    "simulate_from": (
        mixef.simulate_from,
        {"formula": "~ x + (1 | g)", "data": DATA, "params": TRUTH, **FEW},
    ),
    "UserLink": (mixef.UserLink, {"name": "own", "link": np.log, "inverse": np.exp}),
    "UserFamily": (
        mixef.UserFamily,
        {"name": "own", "link": "log", "variance": np.abs, "deviance": np.subtract},
    ),
    "load_dataset": (mixef.load_dataset, {"name": "cake"}),
    "GHrule": (mixef.GHrule, {"k": 3}),
    **{
        name: (getattr(mixef, name), {})
        for name in ("LmerControl", "GlmerControl", "Binomial", "Poisson", "Gamma", "Gaussian",
                     "InverseGaussian", "NegativeBinomial", "NegativeBinomial1", "Beta",
                     "BetaBinomial", "StudentT", "datasets")
    },
    "model_matrices": (
        mixef.model_matrices, {"formula": "y ~ x + f + (1 | g)", "data": DATA, "family": None}
    ),
    "effects": (partial(effects, FIT._fit), {"x": "x"}),
}  # fmt: skip


def inside(function):
    """A call with one argument, which is inside another one there."""
    return (lambda *, value=0: function(value)), {}


ONE = {"x": [1.0], "g": ["a"], "f": ["u"]}
CALLS |= {
    f"inside {name}": inside(function)
    for name, function in {
        "a dict of data": lambda v: lmer("y ~ x + (1 | g)", {**DATA, "x": v}),
        "new data": lambda v: FIT.predict({**ONE, "x": v}),
        "a column of numbers": lambda v: FIT.predict({**ONE, "x": [v]}),
        "a column of groups": lambda v: FIT.predict({**ONE, "g": [v]}),
        "env": lambda v: lmer("y ~ x:other + (1 | g)", DATA, env={"other": v}),
        "contrasts": lambda v: lmer("y ~ f + (1 | g)", DATA, contrasts={"f": v}),
        "at": lambda v: FIT.emmeans("f", at={"x": v}),
        "at, of a factor": lambda v: FIT.emmeans("f", at={"f": v}),
        "sizes": lambda v: mixef.power(FIT, "x", sizes={"g": v}, n=2, seed=1),
        "params": lambda v: mixef.simulate_from("~ x + (1 | g)", DATA, {**TRUTH, "sd": v}),
        "what a bootstrap returns": lambda v: SMALL.bootstrap(1, fn=lambda fit: v, seed=1),
    }.items()
}
OWN = {
    "contest": {"L": "x"},
    "with_vcov": {"vcov": "CR2"},
    "refit": {"y": DATA["y"]},
    "simulate": FEW,
    "bootstrap": FEW,
    "confint": {"method": "wald", **FEW},
    "profile": {"which": "x"},
    "getME": {"name": "X"},
    "integrand": {"z": 0.0},
    "emmeans": {"specs": "f"},
    "emtrends": {"var": "x"},
}
for kind, model in (("", FIT), ("glmm ", COUNTS), ("list ", LIST)):
    for name, method in inspect.getmembers(model, callable):
        if not name.startswith("_") and len(inspect.signature(method).parameters):
            CALLS[kind + name] = (method, OWN.get(name, {}) if model is not LIST else {})
RESULTS = {
    "profile": SMALL.profile("x"),
    "boot": SMALL.bootstrap(3, seed=1),
    "contest": SMALL.contest("x"),
    "VarCorr": SMALL.VarCorr(),
    "summary": SMALL.summary(),
    "residuals": SMALL.simulated_residuals(20, seed=1),
    "means": FIT.emmeans("f", by="x"),
}
SLOPES = lmer("Reaction ~ Days + (Days | Subject)", mixef.load_dataset("sleepstudy"))
PICTURES = ("residuals", "scale_location", "qq", "caterpillar", "shrinkage",
            "random_effects_density", "ranef_pairs")  # fmt: skip
for name in PICTURES:
    CALLS[f"plot.{name}"] = (getattr(SLOPES.plot, name), {})
CALLS |= {"ranef.plot": (SMALL.ranef().plot, {}), "influence.plot": (SMALL.influence("g").plot, {})}
NEEDED = {"name": "x", "values": 1.0, "zeta": 1.0, "group": "g", "g": "f", "time": range(30)}
NEEDED |= {"x": DATA["x"], "y": DATA["y"]}
for kind, result in RESULTS.items():
    for name, method in inspect.getmembers(result, inspect.ismethod):
        if not name.startswith("_") and name != "of":
            needed = [key for key in inspect.signature(method).parameters if key in NEEDED]
            CALLS[f"{kind}.{name}"] = (method, {key: NEEDED[key] for key in needed})


def arguments_of(function):
    """The arguments that a function has by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]


@cache
def raises_of(file):
    """The lines of the raise statements of a file."""
    tree = ast.parse(Path(file).read_text())
    return [(n.lineno, n.end_lineno) for n in ast.walk(tree) if isinstance(n, ast.Raise)]


def is_on_purpose(error):
    """Whether an error comes from a raise statement of mixef."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    if not last.filename.startswith(str(PACKAGE)):
        return False
    return any(first <= last.lineno <= end for first, end in raises_of(last.filename))


class Hangs(BaseException):
    """A call that does not end."""


def too_long(*rest):
    raise Hangs


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", CALLS)
def test_wrong_values_are_refused_on_purpose(name):
    function, base = CALLS[name]
    wrong = []
    signal.signal(signal.SIGPROF, too_long)
    for argument in arguments_of(function):
        for kind, value in ZOO.items():
            if (argument, kind) in SLOW:
                continue
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    function(**{**base, argument: value})
            except Hangs:
                wrong.append(f"{argument} = {kind}: does not end")
            except Exception as error:
                if not is_on_purpose(error):
                    place = traceback.extract_tb(error.__traceback__)[-1]
                    wrong.append(
                        f"{argument} = {kind}: {type(error).__name__}: {error!s:.80} "
                        f"({Path(place.filename).name}:{place.lineno})"
                    )
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
    assert not wrong, "\n".join([f"{len(wrong)} values", *wrong])


BEYOND = {
    "simulate": lambda: FIT.simulate(10**12),
    "bootstrap": lambda: FIT.bootstrap(10**10),
    "confint": lambda: FIT.confint(method="boot", n=10**10),
    "exact_rlrt": lambda: mixef.exact_rlrt(SMALL, n=10**10),
    "pb_test": lambda: mixef.pb_test(FIT, SMALL, n=10**11),
    "power n": lambda: mixef.power(FIT, "x", n=10**11),
    "power levels": lambda: mixef.power(FIT, "x", sizes={"g": [6, 10**8]}, n=2),
    "power rows": lambda: mixef.power(FIT, "x", within={"g": 10**9}, n=2),
    "simulate_from": lambda: mixef.simulate_from("~ x + (1 | g)", DATA, TRUTH, n=10**12),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_memory_cannot_hold_is_refused_before_it_starts(name):
    with pytest.raises(ValueError, match=r"needs about .* GB of memory .* GB are available"):
        BEYOND[name]()


@pytest.mark.parametrize("level", [1 - 1e-16, 1e-16, 1.0, 0.0, 95])
@pytest.mark.parametrize("method", ["wald", "profile", "boot"])
def test_levels_that_doubles_do_not_resolve(level, method):
    with pytest.raises(ValueError, match="level is"):
        FIT.confint("x", level=level, method=method)
    with pytest.raises(ValueError, match="level is"):
        FIT.predict(DATA[:1], interval="confidence", level=level)
    with pytest.raises(ValueError, match="level is"):
        LIST.confint(level)


@pytest.mark.parametrize(
    ("ask", "reader"),
    [
        (lambda: FIT.drop1(ddf="kenward-roger"), "ddf is 'kenward-roger', which is for test='F'"),
        (lambda: FIT.drop1(test="F", k=3), "k is 3.0, which is for AIC"),
        (lambda: FIT.augment(overwrite=True), "overwrite is True, which is for path="),
    ],
)
def test_what_would_choose_another_test_or_file_is_refused(ask, reader):
    """Limits of what was not asked for are left unread, as in R: wrappers pass them along."""
    with pytest.raises(mixef.errors.ArgumentError, match=reader):
        ask()


def test_starts_are_one_thing():
    with pytest.raises(ValueError, match="start has both 'par' and 'theta'"):
        lmer("y ~ x + (1 | g)", DATA, start={"theta": [1], "par": [5]})
    with pytest.raises(ValueError, match="start has both 'beta' and 'fixef'"):
        glmer("b ~ x + (1 | g)", DATA, "binomial", start={"beta": [1, 1], "fixef": [1, 1]})
    with pytest.raises(mixef.errors.FitError, match="no optimizer can start there"):
        mixef.all_fit(SMALL, ["newton"], start="a")


def test_a_check_that_is_not_ours_is_seen():
    """So that the test of wrong values can fail."""
    with pytest.raises(TypeError) as caught:
        mixef.checks.whole()
    assert not is_on_purpose(caught.value)
    with pytest.raises(mixef.errors.ArgumentError) as caught:
        mixef.checks.whole("a", "n")
    assert is_on_purpose(caught.value)
