"""Text that is meant to be a formula runs no code, reaches no attribute, and builds no bomb.

Every case is tried in every place where text is evaluated, with the caller's names and without.
"""

import math
import os
import tracemalloc
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from yardstick import within

import mixef
from mixef import anova, glmer, glmer_nb, lm_list, lmer, simulate_from
from mixef.errors import DataError, FitError, FormulaError, MixefError
from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope, State
from mixef.terms.outside import NUMPY
from mixef.terms.parser import parse_expression

rng = np.random.default_rng(0)
GROUP = np.repeat(np.arange(10), 6)
DATA = pd.DataFrame(
    {"x": rng.normal(size=60), "w": rng.uniform(0.5, 2, 60), "g": [f"g{i}" for i in GROUP]}
)
DATA["y"] = DATA.x + rng.normal(size=10)[GROUP] + rng.normal(size=60)
F = "y ~ x + (1 | g)"


@pytest.fixture(scope="module")
def fit():
    return lmer(F, DATA)


#: Every public way of an expression into an evaluation.
WAYS = {
    "formula": lambda fit, text, **env: lmer(f"y ~ I({text}) + (1 | g)", DATA, **env),
    "response": lambda fit, text, **env: lmer(f"I({text}) ~ x + (1 | g)", DATA, **env),
    "slope": lambda fit, text, **env: lmer(f"y ~ x + (I({text}) | g)", DATA, **env),
    "group": lambda fit, text, **env: lmer(f"y ~ x + (1 | factor({text}))", DATA, **env),
    "offset": lambda fit, text, **env: lmer(F, DATA, offset=text, **env),
    "weights": lambda fit, text, **env: lmer(F, DATA, weights=text, **env),
    "subset": lambda fit, text, **env: lmer(F, DATA, subset=text, **env),
    "update": lambda fit, text, **env: fit.update(f". ~ . + I({text})", **env),
    "update weights": lambda fit, text, **env: fit.update(weights=text, **env),
    "glmer": lambda fit, text, **env: glmer(f"(y > 0) ~ I({text}) + (1 | g)", DATA, "binomial",
                                            **env),
    "glmer_nb": lambda fit, text, **env: glmer_nb(f"round(w) ~ I({text}) + (1 | g)", DATA, **env),
    "lm_list": lambda fit, text, **env: lm_list(f"y ~ I({text}) | g", DATA, **env),
    "simulate_from": lambda fit, text, **env: simulate_from(
        f"~ I({text}) + (1 | g)", DATA, {"beta": [0, 0], "sd": {"g": 1}, "sigma": 1}, **env
    ),
    "simulate": lambda fit, text, **env: fit.simulate(newdata=DATA, weights=text, **env),
    "contest": lambda fit, text, **env: fit.contest(text),
    "re_form": lambda fit, text, **env: fit.predict(re_form=f"~ (1 | {text})"),
    "drop1": lambda fit, text, **env: fit.drop1(scope=f"I({text})"),
    "pb_test": lambda fit, text, **env: mixef.pb_test(fit, f". ~ . - x + I({text})", n=2),
}  # fmt: skip

#: Ways to run something, to read a file, or to reach what is not a number.
ATTACKS = [
    "np.lib._npyio_impl.os.system('touch {path}')",
    "np.save('{path}', x)",
    "x.tofile('{path}')",
    "numpy.ndarray.tofile(x, '{path}')",
    "np.fromfile('{path}')",
    "np.load('{path}')",
    "os.system('touch {path}')",
    "__import__('os').system('touch {path}')",
    "eval('1')",
    "exec('1')",
    "open('{path}', 'w')",
    "x.__class__",
    "f.__globals__",
    "np.__dict__",
    "__builtins__",
    "`__builtins__`",
    "`np.lib`",
    "`os.system`('touch {path}')",
    "np.add(x, w, x)",
    "np.add(x, w, out = x)",
    "np.frompyfunc(x, 1, 1)",
    "np.vectorize(x)",
    "np.apply_along_axis(x, 0, x)",
    "np.add.reduce(x)",
    "np.add.at(x, 0, 1)",
    "np::save('{path}', x)",
    "base::system('touch {path}')",
    "DATA.to_csv('{path}')",
    "pd.read_pickle('{path}')",
    "math.log(x)",
    "DATA",
    "np",
    "math",
    "lmer",
    "log.real",
    "I.__call__(x)",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_runs_code(fit, attack, tmp_path):
    path = tmp_path / "made"
    text = attack.format(path=path)
    before = DATA.copy()
    for way, ask in WAYS.items():
        for env in ({}, {"env": {}}):
            with pytest.raises((MixefError, ValueError)) as caught:
                ask(fit, text, **env)
            last = caught.traceback[-1]
            assert "mixef" in str(last.path), (way, caught.value)
            assert not path.exists(), way
    pd.testing.assert_frame_equal(DATA, before)


secret = 7.0


def shift(x):
    return x + 1


def test_env_is_all_that_is_read_beside_the_columns(fit):
    for way, ask in WAYS.items():
        if way in ("contest", "re_form", "drop1", "pb_test"):  # read no variable but the fit's
            continue
        for text in ("x + secret", "shift(x)"):
            with pytest.raises(FormulaError, match=r"secret|shift"):
                ask(fit, text if way != "subset" else f"{text} > 0", env={})
    local = 1.0
    assert lmer("y ~ I(x * secret * local) + (1 | g)", DATA).nobs == 60 * local
    assert lmer("y ~ shift(x) + (1 | g)", DATA, env={"shift": shift}).nobs == 60
    assert lmer("y ~ I(x + k) + (1 | g)", DATA, env={"k": 1}).nobs == 60
    new = DATA.drop(columns="x").head(2)
    x = np.zeros(2)
    assert fit.predict(new).notna().sum() == len(x)
    with pytest.raises(FormulaError, match="'x' is not a column"):
        fit.predict(new, env={})
    with pytest.raises(FormulaError, match="'x' is not a column"):
        fit.simulate(newdata=new, env={})
    with pytest.raises(FormulaError, match="'x' is not a column"):
        lm_list("y ~ x | g", DATA).predict(new, env={})


def test_a_fit_needs_none_of_the_callers_names_again():
    def made():
        def half(x):
            return x / 2

        k = 3.0
        assert k > 0
        return lmer("y ~ half(x) + I(x * k > 0) + (1 | g)", DATA)

    fit = made()
    assert fit.update(". ~ . - half(x)").formula == "y ~ I(x * k > 0) + (1 | g)"
    np.testing.assert_array_equal(fit.predict(DATA), fit.predict())
    assert fit.simulate(newdata=DATA, seed=1).shape == (60, 1)
    with pytest.raises(FormulaError, match="unknown function 'half'"):
        fit.update(env={})


def test_names_of_data_and_models_come_from_env_too(fit):
    other = fit.update(". ~ . - x")
    assert "other" in str(anova(fit, other))
    assert "other" not in str(anova(fit, other, env={}))
    assert "small" in str(anova(fit, other, env={"small": other, "large": fit}))
    plain = DATA.copy()
    assert "Data: plain" in str(lmer(F, plain).summary())
    assert "plain" not in str(lmer(F, plain, env={}).summary())
    assert "Data: mine" in str(lmer(F, plain, env={"mine": plain}).summary())


def test_a_variable_does_not_stand_for_the_index_of_the_data():
    g = np.zeros(60)
    with pytest.raises(FormulaError, match=r"'g' is in the index of the data.*reset_index"):
        lmer(F, DATA.set_index("g"))
    assert not g.any()


@pytest.mark.parametrize("env", [3, [], {1: 2}, "x"])
def test_env_is_a_dict(fit, env):
    for ask in (
        lambda: lmer(F, DATA, env=env),
        lambda: fit.update(env=env),
        lambda: fit.predict(env=env),
        lambda: anova(fit, fit, env=env),
    ):
        with pytest.raises(TypeError, match="expected a dict from names"):
            ask()


def test_a_function_of_the_callers_gets_copies():
    def spoil(x):
        x *= 0
        return np.arange(60.0)

    before = DATA.copy()
    lmer("y ~ spoil(x) + (1 | g)", DATA)
    pd.testing.assert_frame_equal(DATA, before)


BAD = {
    "none": (lambda x: None, "returned a NoneType"),
    "short": (lambda x: x[:3], r"returned an array of shape \(3,\)"),
    "deep": (lambda x: np.zeros((60, 2, 2)), "shape"),
    "dict": (lambda x: {"a": x}, "returned a dict"),
    "dates": (lambda x: x.astype(complex), "cannot be read"),
    "objects": (lambda x: np.array([object()] * 60), "cannot be read"),
    "ragged": (lambda x: [[1], [1, 2]] * 30, "cannot be read"),
    "generator": (lambda x: (v for v in x), "returned a generator"),
    "raises": (lambda x: 1 / 0, "your function f raised ZeroDivisionError"),
    "arguments": (lambda: 1, "your function f raised TypeError"),
    "frame": (lambda x: pd.DataFrame({"a": x}), "returned a DataFrame"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_function_that_returns_what_cannot_be_used_is_named(name):
    f, message = BAD[name]
    with pytest.raises(FormulaError, match=rf"{message}") as caught:
        lmer("y ~ f(x) + (1 | g)", DATA, env={"f": f})
    assert "f(x)" in str(caught.value)


@pytest.mark.parametrize(
    ("k", "message"),
    [
        ({"a": 1}, "the variable k is of type dict"),
        (object(), "the variable k is of type object"),
        (1j, "the variable k is of type complex"),
        (b"x", "of type bytes"),
        (10**400, "larger than any number"),
        (DATA, "of type DataFrame"),
        ([object()], "of type object"),
        ([[1], [2, 3]], "needs a number"),
        (iter([1]), "iterator"),
        ("a", "needs a number, but got 'a'"),
        (["a", "b"], r"needs a number, but got c\('a', 'b'\)"),
        (np.ones((60, 2, 2)), "k"),
        (np.ones((3, 3)), "k"),
        (math, "'k' is not a column"),
        (math.log, "'k' is not a column"),
        (None, "'k' is not a column"),
    ],
)
def test_a_variable_of_another_type_is_named(k, message):
    with pytest.raises(MixefError, match=message):
        lmer("y ~ I(x * k) + (1 | g)", DATA, env={"k": k})


@pytest.mark.parametrize(
    ("k", "subset"),
    [
        (3, "x > k"), (np.float32(0.5), "x > k"), ({"g1", "g2"}, "g %in% k"),
        (["g1"], "g %in% k"), (np.array(["g1", "g2"]), "g %in% k"), (("g1",), "g in k"),
        (pd.Series([0.0]), "x > k"), (np.array(0.3), "x > k"), ("g1", "g == k"),
        (range(3), "x not in k"),
    ],
)  # fmt: skip
def test_variables_that_can_be_used(k, subset):
    columns = Columns(DATA)
    chosen = Scope(columns, State(), {"k": k}).variable(parse_expression(subset))
    assert (chosen.dtype, len(chosen)) == (bool, 60)


def test_numpy_means_the_same_as_elsewhere():
    values = {
        "np.log(w)": np.log(DATA.w),
        "numpy.square(x)": DATA.x**2,
        "np.where(x > 0, x, 0)": DATA.x.clip(lower=0),
        "np.clip(x, -1, 1)": DATA.x.clip(-1, 1),
        "np.maximum(x, w)": np.maximum(DATA.x, DATA.w),
        "np.round(x, 1)": DATA.x.round(1),
        "np.sin(2 * np.pi * x)": np.sin(2 * np.pi * DATA.x),
    }
    for text, expected in values.items():
        fit = lmer(f"y ~ {text} + (1 | g)", DATA, env={})
        column = np.asarray(fit.getME("X"))[:, 1]
        np.testing.assert_allclose(column, expected, rtol=1e-15, err_msg=text)
    assert {"exp", "log1p", "hypot", "arctan2", "sign"} <= set(NUMPY)
    assert not {"save", "load", "matmul", "vecdot", "sum", "add.reduce", "divmod"} & set(NUMPY)
    for text in ("np.mean(x)", "np.cumsum(x)", "np.random.normal(x)", "np.e.real"):
        with pytest.raises(FormulaError, match="elementwise functions of NumPy"):
            lmer(f"y ~ I({text}) + (1 | g)", DATA)


#: Small texts for large work, each refused, or done, in little time and memory.
BOMBS = [
    "x %in% 1:1e9", "x %in% 1:1e300", "x %in% -1e9:1e9", "x %in% 1:Inf", "x %in% NaN:3",
    "2^1e9", "x^1e9", "2^2^2^2^2^2^2", "cut(x, 1e9)", "poly(x, 1e9)", "ns(x, df = 1e9)",
    "bs(x, df = 1e9)", "bs(x, degree = 1e9)", "round(x, 1e9)", "x %in% c(1:100000, 1:100000)",
    "x * poly(x, 1) * poly(x, 1)", "9" * 5000, "0x" + "f" * 5000, "rep(x, 1e9)",
    "interaction(" + ", ".join(["factor(x)"] * 12) + ")", "factor(x, levels = 1:1e9)",
    "'" + "a" * 100_000 + "' == x", "np.power(10, 1e9)", "np.left_shift(1, 1e9)",
]  # fmt: skip


@pytest.mark.parametrize("text", BOMBS, ids=[b[:30] for b in BOMBS])
def test_small_texts_do_not_make_large_work(text):
    said = ""
    tracemalloc.start()
    try:
        with within(1_300_000), suppress(FitError):  # numbers that nobody fits
            try:
                lmer(f"y ~ I({text}) + (1 | g)", DATA, env={})
            except (FormulaError, DataError) as error:
                said = str(error)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(said) < 2000
    assert peak < 5e7  # twice the most that one takes


def test_the_process_is_as_it_was():
    assert not [name for name in os.listdir() if name.startswith("made")]
