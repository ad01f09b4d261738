"""The formula's functions: wrong arguments are refused by name, and values turned to NaN are told.

Bases and contrasts are compared with R's by test_fixed (model_matrix.json).
"""

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest

from mixef import lmer
from mixef.errors import DataError, DataWarning, FormulaError
from mixef.terms.columns import Columns
from mixef.terms.contrasts import contrast_matrix
from mixef.terms.expressions import Scope, State
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame
from mixef.terms.functions import FUNCTIONS
from mixef.terms.outside import HABITS, NUMPY
from mixef.terms.parser import parse_expression
from mixef.terms.splines import poly_basis

N = 24
rng = np.random.default_rng(0)
DATA = pd.DataFrame(
    {
        "y": rng.normal(size=N), "x": np.arange(1.0, N + 1), "z": rng.normal(size=N),
        "hole": np.r_[np.nan, np.arange(1.0, N)], "nothing": np.full(N, np.nan),
        "same": np.ones(N), "endless": np.r_[np.inf, np.ones(N - 1)],
        "l": rng.random(N) > 0.5, "f": np.tile(list("abc"), N // 3), "g": np.arange(N) // 4,
    }
)  # fmt: skip
WRONG = [
    "'a'", "NaN", "Inf", "-Inf", "-3", "0", "1", "2.5", "1e300", "TRUE", "NULL", "x", "hole", "l",
    "f", "nothing", "same", "endless", "poly(x, 2)", "c(1, 2)", "c('a', 'b')", "c()", "c(NaN)",
    "c(1, 'a')", "1:3", "c(2, 2)", "c(1e300, -1e300)",
]  # fmt: skip


def scope():
    return Scope(Columns(DATA), State())


def calls():
    """Every function with every wrong value at every argument, by place and by keyword."""
    for name, function in {**FUNCTIONS, **{f"np.{key}": f for key, f in NUMPY.items()}}.items():
        parameters = list(inspect.signature(function).parameters.values())[1:]
        places = sum(p.kind is not p.KEYWORD_ONLY for p in parameters)
        yield name, [f"{name}()", f"{name}(x, x, x, x, x, x, x, x)", f"{name}(x, wrong = 1)"]
        for wrong in WRONG:
            tries = [f"{name}({', '.join(['x'] * i + [wrong])})" for i in range(max(places, 2))]
            tries += [
                f"{name}(x, {p.name.replace('_', '.')} = {wrong})"
                for p in parameters[1:]
                if p.kind is p.POSITIONAL_OR_KEYWORD or p.kind is p.KEYWORD_ONLY
            ]
            yield name, tries


@pytest.mark.parametrize("name", sorted({name for name, _ in calls()}))
def test_wrong_arguments_of_every_function_are_refused_or_used(name):
    """No error from below, no warning of NumPy's, and no value of another length."""
    for own, texts in calls():
        for text in texts if own == name else ():
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                said = ""
                try:
                    assert len(scope().variable(parse_expression(text))) == N, text
                except (FormulaError, DataError) as error:
                    said = str(error)
            assert len(said) < 500, text
            assert "<locals>" not in said, text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poly(x, 'a')", "poly(): degree is 'a'; expected a whole number from 1"),
        ("poly(x, 2.5)", "poly(): degree is 2.5; expected a whole number"),
        ("poly(x, z)", "poly(): degree is a variable with a value in every row"),
        ("poly(f, 2)", "poly(): x is not meaningful for a factor (levels a, b, c)"),
        ("poly(x, 99)", "the degree must be from 1 to one less than the number of distinct values"),
        ("poly(x, 2, raw = 3)", "poly(): raw is 3; expected TRUE or FALSE"),
        ("poly(endless, 2)", "poly(): x is infinite in 1 rows"),
        ("ns(x, df = NaN)", "ns(): df is NaN; expected a whole number"),
        ("ns(x, knots = c(1, NaN))", "ns(): knots is c(1, NaN)"),
        ("ns(x, knots = 50)", "ns(): knots has values outside of x, which is between 1 and 24"),
        ("bs(x, Boundary.knots = 3)", "bs(): Boundary.knots is 3; expected two different numbers"),
        ("bs(x, df = 2)", "a spline with df = 2 has too few columns"),
        ("bs(same)", "bs(): x has one value only, 1"),
        ("bs(nothing)", "bs(): x has no value that is not missing"),
        ("cut(x, NaN)", "cut(): breaks is NaN; expected numbers, none of them missing"),
        ("cut(x, Inf)", "cut(): breaks is Inf; expected a whole number from 2"),
        ("cut(x, -3)", "cut(): breaks is -3; expected a whole number from 2"),
        ("cut(x, 3, labels = c('a', 'b'))", "cut(): 3 intervals but 2 labels"),
        ("cut(x, c(0, 5, 5))", "cut(): breaks holds a value twice"),
        ("interaction()", "interaction() has no variable"),
        ("interaction(f, sep = 1)", "interaction(): sep is 1; expected a string"),
        ("pmin()", "pmin() has no argument"),
        ("pmin(x, c(1, 2))", "the lengths 24 and 2 differ"),
        ("round(x, 1e300)", "round(): digits is 1e+300; expected a whole number from -300 to 300"),
        ("log(x, -1)", "log(): base is -1; expected a positive number, but not 1"),
        ("log('a')", "log() needs a number, but got 'a'"),
        ("scale(x, center = 'a')", "scale(): center"),
        ("scale(same)", "scale(): the divisor is zero"),
        ("factor(x, levels = c(1, 1))", "factor(): levels has '1' twice"),
        ("factor(f, labels = c('u', 'v'))", "factor(): 3 levels but 2 labels"),
        ("relevel(f, ref = 'q')", "relevel(): 'q' is not a level; the levels are a, b, c"),
        ("mean(nothing, na.rm = TRUE)", "mean() has too few values that are not missing: 0"),
        ("cbind()", "cbind() has no variable"),
        ("c(x, 1)", "c(): an argument is a variable"),
        ("I()", "cannot evaluate I(): missing a required argument: 'x'; I() takes x"),
        ("log(x, bas = 2)", "got an unexpected keyword argument 'bas'; log() takes x, base"),
        ("x + c(1, 2)", "in x + c(1, 2): the lengths 24 and 2 differ"),
        ("poly(x, 2) + poly(x, 3)", "the matrices have different numbers of columns"),
        ("x == c(1, 2)", "the lengths 24 and 2 differ"),
        ("f == c('a', 'b')", "write %in% for several"),
        ("f + 1", "'+' in f + 1 is not meaningful for a factor"),
    ],
)
def test_what_is_said(text, message):
    with pytest.raises((FormulaError, DataError)) as caught:
        scope().variable(parse_expression(text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("C(g)", "write factor(g) for a factor"),
        ("Q('x')", "in backticks"),
        ("standardize(x)", "write scale(x)"),
        ("s(x)", "write ns(x, df=4)"),
        ("ln(x)", "write log(x)"),
        ("f.isin(['a'])", "write f %in% c(1, 2)"),
        ("x.isna()", "write is.na(x)"),
        ("np.mean(x)", "write mean(...), which mixef knows"),
        ("lg(x)", "did you mean 'log'"),
        ("lag(x)", "compute the column before"),
        ("zerocorr(x | f)", "use diag(x | f)"),
        ("hetar1(0 + f | g)", "use ar1(0 + f | g, hom=FALSE)"),
        ("fulldummy(f)", "use 0 + f"),
        ("toep(0 + f | g)", "covariance structures are us()"),
    ],
)
def test_words_of_other_packages_are_answered(text, answer):
    with pytest.raises(FormulaError) as caught:
        scope().variable(parse_expression(text))
    assert answer in str(caught.value)


def test_what_is_advised_works():
    for name, advice in HABITS.items():
        assert name not in FUNCTIONS
        if advice.startswith("write ") and "`" not in advice:
            text = advice.removeprefix("write ").format("x").split(" for ")[0].split(":")[0]
            assert len(scope().variable(parse_expression(text.split(" or ")[0]))) == N, name


def test_a_constant_beside_rows_in_a_condition():
    def rows(subset):
        return model_frame(parse_formula("y ~ x"), DATA, subset=subset).rows.tolist()

    assert rows("x > 0 | FALSE") == rows("TRUE & x > 0") == rows("x > 0 | NA") == rows("x > 0")
    assert rows("TRUE | x > 0") == list(range(len(DATA["x"])))


def test_words_of_pandas_in_subset():
    def rows(subset):
        return model_frame(parse_formula("y ~ x"), DATA, subset=subset).rows.tolist()

    assert rows("x > 3 and f == 'b'") == rows("x > 3 & f == 'b'")
    assert rows("not l or f in ['a', 'c']") == rows("!l | f %in% c('a', 'c')")
    assert rows("f not in ['a']") == rows("f != 'a'")


@pytest.mark.parametrize(
    ("formula", "text", "count"),
    [
        ("log(z) ~ x", "log(z)", int((DATA.z < 0).sum())),
        ("y ~ sqrt(z)", "sqrt(z)", int((DATA.z < 0).sum())),
        ("y ~ I(z^0.5)", "z^0.5", int((DATA.z < 0).sum())),
        ("y ~ I(log(z) + hole)", "log(z)", int((DATA.z < 0).sum())),
        ("y ~ cut(x, c(0, 10, 20))", "cut(x, c(0, 10, 20))", 4),
        ("y ~ factor(f, levels = c('a', 'b'))", 'factor(f, levels = c("a", "b"))', 8),
        ("y ~ asin(x)", "asin(x)", 23),
        ("y ~ np.log(z)", "np.log(z)", int((DATA.z < 0).sum())),
        ("y ~ root(z)", "root(z)", int((DATA.z < 0).sum())),
        ("y ~ I((x - 5) / (x - 5))", "(x - 5)/(x - 5)", 1),
    ],
)
def test_rows_that_a_function_turns_to_nan_are_told(formula, text, count):
    with pytest.warns(DataWarning) as caught:
        frame = model_frame(parse_formula(formula), DATA, env={"root": np.sqrt})
    (warning,) = caught
    said = f"{text} is missing (NaNs produced) in {count} of 24 rows where nothing"
    assert str(warning.message).startswith(said)
    assert str(warning.message).endswith("these rows are left out")
    assert frame.n == N - count - ("hole" in formula)


def test_conditions_that_a_function_turns_to_nan_are_told():
    count = int((DATA.z < 0).sum())
    with pytest.warns(DataWarning, match=rf"log\(z\) is missing .* in {count} of 24.*no row"):
        frame = model_frame(parse_formula("y ~ x"), DATA, subset="log(z) > -100")
    assert frame.n == N - count


@pytest.mark.parametrize(
    ("formula", "subset"),
    [
        ("y ~ log(hole)", None),
        ("y ~ I(hole * 2) + scale(hole)", None),
        ("y ~ log(z)", "z > 0"),
        ("y ~ ifelse(z > 0, x, NA)", None),
        ("y ~ cut(hole, 3)", None),
        ("y ~ poly(hole, 2)", None),
    ],
)
def test_values_that_were_missing_before_are_not_told_of(formula, subset):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_frame(parse_formula(formula), DATA, subset=subset)


def test_predictions_tell_of_them_too():
    data = DATA.assign(y=DATA.y + DATA.g)
    fit = lmer("y ~ log(x) + (1 | g)", data)
    with pytest.warns(DataWarning, match=r"log\(x\) is missing \(NaNs produced\) in 1 of 2 rows"):
        assert fit.predict({"x": [-1.0, 1.0], "g": [0, 0]}).isna().tolist() == [True, False]


def test_a_vector_beside_a_matrix_goes_to_all_its_columns():
    value = scope().variable(parse_expression("I(x * poly(x, 2))"))
    plain = scope().variable(parse_expression("poly(x, 2)"))
    np.testing.assert_array_equal(value.array, DATA.x.to_numpy()[:, None] * plain.array)


def test_interactions_of_many_levels_keep_those_that_occur():
    n = 1000
    data = {"a": np.arange(n), "b": np.arange(n)[::-1] % 500, "c": np.arange(n) % 7}
    value = Scope(Columns(data), State()).variable(parse_expression("interaction(a, b, c)"))
    assert len(value.used_levels().levels) == n
    assert len(value.levels) < n * 500 * 7
    labels = value.values()
    assert labels[[0, 1, 999]].tolist() == ["0.499.0", "1.498.1", "999.0.5"]
    small = {name: column % 3 for name, column in data.items()}
    grid = Scope(Columns(small), State()).variable(parse_expression("interaction(a, b, c)"))
    assert grid.levels[:4] == ("0.0.0", "1.0.0", "2.0.0", "0.1.0")
    assert len(grid.levels) == 27


def test_polynomials_of_high_degree_are_orthonormal():
    x = 1e6 + np.sort(rng.uniform(size=300)) ** 3
    state = {}
    basis = poly_basis(x, 60, False, state)
    np.testing.assert_allclose(basis.T @ basis, np.eye(60), atol=1e-10)  # 60 steps of rounding
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-10)
    again = poly_basis(x, 60, False, state)
    np.testing.assert_allclose(again, basis, atol=1e-10)


@pytest.mark.parametrize("k", [2, 3, 4, 7, 60])
def test_contrasts_are_what_their_names_say(k):
    """Venables and Ripley (2002), section 6.2, by the coefficients of given level means."""
    levels = tuple(map(str, range(k)))
    means = rng.normal(size=k)

    def coefficients(kind):
        matrix, names = contrast_matrix(kind, levels, "f")
        assert len(names) == matrix.shape[1] == k - 1
        return np.linalg.solve(np.column_stack([np.ones(k), matrix]), means)

    for kind in ("sum", "helmert", "sdif", "poly"):
        assert coefficients(kind)[0] == pytest.approx(means.mean(), rel=1e-10)
    np.testing.assert_allclose(coefficients("sum")[1:], (means - means.mean())[:-1], atol=1e-10)
    np.testing.assert_allclose(coefficients("sdif")[1:], np.diff(means), atol=1e-10)
    before = np.cumsum(means)[:-1] / np.arange(1, k)
    expected = (means[1:] - before) / np.arange(2, k + 1)
    np.testing.assert_allclose(coefficients("helmert")[1:], expected, atol=1e-10)
