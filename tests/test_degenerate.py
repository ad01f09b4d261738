"""Bad arguments and degenerate data: the error's class, and a message with culprit and remedy.

Every case runs with warnings as errors, save those that it names: nothing leaks from NumPy.
"""

import warnings
from pathlib import Path

import dense_gaussian
import numpy as np
import pandas as pd
import pytest
from reference_data import frame

from mixef import LmerControl, all_fit, delta_method, etable, lmer
from mixef.errors import (
    ArgumentError,
    ConvergenceWarning,
    DataError,
    DataWarning,
    FitError,
    FormulaError,
    MixefWarning,
    SingularFitWarning,
)

FORMULA = "Reaction ~ Days + (Days | Subject)"
N = 180
FIRST = np.arange(N) == 0
LENIENT = LmerControl(
    check_nobs_vs_nlev="ignore",
    check_nobs_vs_nRE="ignore",
    check_nlev_gtr_1="ignore",
    check_conv_hess="ignore",  # such variances are not determined
)


def study(**changes):
    """The sleepstudy with further columns."""
    data = frame("sleepstudy").assign(
        f=np.tile(["a", "b", "c"], 60), two=np.tile(["u", "v"], 90), one="only", flat=3.0, zero=0.0
    )
    return data.assign(**{k: v(data) if callable(v) else v for k, v in changes.items()})


def refused(error, parts, formula=FORMULA, data=None, warn=(), **arguments):
    """Check that a model is refused by this error, and that the message holds these parts."""
    data = study() if data is None else data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for category in warn:
            warnings.simplefilter("ignore", category)
        with pytest.raises(error) as caught:
            lmer(formula, data, **arguments)
    assert isinstance(caught.value, error)
    for part in parts:
        assert part in str(caught.value)


def fitted(formula=FORMULA, data=None, warn=(), **arguments):
    """Fit; only these warnings may occur, and each of them has to; return their texts too."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fit = lmer(formula, study() if data is None else data, **arguments)
    assert {w.category for w in seen} == set(warn), [str(w.message) for w in seen]
    return fit, " / ".join(str(w.message) for w in seen)


# Formulas


FORMULAS = {
    "unknown name": (
        "Reaction ~ qwert + (1 | Subject)",
        ["'qwert' is not a column", "columns are 'Reaction'"],
    ),
    "misspelt predictor": ("Reaction ~ days + (1 | Subject)", ["did you mean 'Days'?"]),
    "misspelt group": ("Reaction ~ Days + (1 | Subjcet)", ["'Subjcet'", "did you mean 'Subject'?"]),
    "misspelt function": ("Reaction ~ scal(Days) + (1 | Subject)", ["did you mean 'scale'?"]),
    "empty": ("", ["cannot read the formula", "found the end"]),
    "no tilde": ("Reaction", ["'Reaction' is no formula: expected '~'"]),
    "no right side": ("Reaction ~", ["expected a variable", "found the end"]),
    "two tildes": ("Reaction ~ Days ~ (1 | Subject)", ["more than one '~'"]),
    "open parenthesis": ("Reaction ~ (1 | Subject", ["expected ')', found the end"]),
    "close parenthesis": ("Reaction ~ Days)", ["found ')'"]),
    "equals sign": ("Reaction = Days + (1 | Subject)", ["found '='"]),
    "strange character": ("Reaction ~ Days @ f", ["unexpected character '@'", "backticks"]),
    "no group": ("Reaction ~ (1 |)", ["found ')'"]),
    "no left side": ("Reaction ~ (| Subject)", ["found '|'"]),
    "bar without parentheses": (
        "Reaction ~ Days + 1 | Subject",
        ["needs parentheses", "write (Days + 1 | Subject)"],
    ),
    "bar in a product": ("Reaction ~ Days * (1 | Subject)", ["can only be added with '+'"]),
    "two bars": ("Reaction ~ (1 | Subject | f)", ["one term holds one '|'"]),
    "subtracted bar": ("Reaction ~ Days - (1 | Subject)", ["cannot be subtracted: remove"]),
    "no bar": ("Reaction ~ Days", ["No random effects terms", "add one such as (1 | group)"]),
    "empty term": ("Reaction ~ (0 | Subject)", ["(0 | Subject) has no columns", "(1 | Subject)"]),
    "unknown structure": ("Reaction ~ toep(Days | Subject)", ["'toep'", "us(), diag(), cs()"]),
    "number as response": ("1 ~ (1 | Subject)", ["number 1 cannot be a response"]),
    "response as predictor": ("Reaction ~ Reaction + (1 | Subject)", ["its own predictors"]),
    "log of a label": ("Reaction ~ log(two) + (1 | Subject)", ["log()", "levels u, v"]),
}


@pytest.mark.parametrize(("formula", "parts"), FORMULAS.values(), ids=FORMULAS)
def test_formulas_that_cannot_be_used(formula, parts):
    refused(FormulaError, parts, formula)


@pytest.mark.parametrize("formula", [3, None, ["y ~ x"], b"y ~ x", study()], ids=repr)
def test_a_formula_is_text(formula):
    name = type(formula).__name__
    refused(FormulaError, ["a formula must be a string", f"of type {name}"], formula)


# Data


def with_one(column, value):
    """The study with one value of a column changed."""
    return study(**{column: lambda d: np.where(FIRST, value, d[column].to_numpy(dtype=float))})


DATA = {
    "one level": ("Reaction ~ Days + (1 | one)", study(), ["one has only 'only'", "drop the term"]),
    "one fixed level": (
        "Reaction ~ one + (1 | Subject)",
        study(),
        ["one has only the level 'only'", "take it out"],
    ),
    "one level of a random slope": (
        "Reaction ~ Days + (one | Subject)",
        study(),
        ["one has only the level 'only'"],
    ),
    "predictor missing": (FORMULA, study(Days=np.nan), ["Days is missing in every row"]),
    "group missing": (FORMULA, study(Subject=None), ["Subject is missing in every row"]),
    "response missing": (FORMULA, study(Reaction=np.nan), ["Reaction is missing in every row"]),
    "no overlap": (
        FORMULA,
        study(Days=np.where(FIRST, 1, np.nan), Reaction=np.where(FIRST, np.nan, 1)),
        ["every row misses some variable"],
    ),
    "infinite response": (
        FORMULA,
        with_one("Reaction", np.inf),
        ["the response Reaction is infinite in 1 of 180 rows", "drop those rows"],
    ),
    "infinite predictor": (
        FORMULA,
        with_one("Days", -np.inf),
        ["the variable Days is infinite in 1 of 180 rows"],
    ),
    "log of zero": ("Reaction ~ log(Days) + (1 | Subject)", study(), ["log(Days) is infinite"]),
    "no rows": (FORMULA, study().iloc[:0], ["the data have no rows"]),
    "text response": ("two ~ Days + (1 | Subject)", study(), ["two is a character", "convert it"]),
    "factor response": (
        "f ~ Days + (1 | Subject)",
        study(f=lambda d: d["f"].astype("category")),
        ["f is a factor with levels a, b, c"],
    ),
    "matrix response": (
        "cbind(Reaction, Days) ~ 1 + (1 | Subject)",
        study(),
        ["cbind(Reaction, Days) is a matrix with 2 columns", "one model a column"],
    ),
    "no response": ("~ Days + (1 | Subject)", study(), ["has no response; write 'y ~ ...'"]),
    "matrix as group": ("Reaction ~ (1 | poly(Days, 2))", study(), ["poly(Days, 2) is a matrix"]),
    "degree too high": ("Reaction ~ poly(Days, 20) + (1 | Subject)", study(), ["20", "10"]),
    "a level a row": (
        "Reaction ~ (1 | obs)",
        study(obs=np.arange(N)),
        ["obs has 180 levels for 180 observations", "use a coarser factor"],
    ),
    "response as group": ("Reaction ~ (1 | Reaction)", study(), ["Reaction has 180 levels"]),
    "more effects than rows": (
        "Reaction ~ (factor(Days) | Subject)",
        study(),
        ["(=180) <= number of random effects (=180)", "(factor(Days) | Subject)", "fewer columns"],
    ),
    "columns as rows a level": (
        "Reaction ~ Days + (Days | pair)",
        study(pair=np.repeat(np.arange(90), 2)),
        ["random effects (=180) for term (Days | pair)"],
    ),
    "complex numbers": (FORMULA, study(Days=1j), ["'Days' has type complex128"]),
    "constant response": (FORMULA, study(Reaction=5.0), ["Reaction", "it is constant"]),
    "zero response": (FORMULA, study(Reaction=0.0), ["Reaction", "it is constant"]),
    "exact response": (
        FORMULA,
        study(Reaction=lambda d: 2 + 3.0 * d["Days"]),
        ["the fixed effects fit it exactly", "check the response and the formula"],
    ),
}


@pytest.mark.parametrize(("formula", "data", "parts"), DATA.values(), ids=DATA)
def test_data_that_cannot_be_used(formula, data, parts):
    refused(DataError, parts, formula, data)


EXACT = {
    "constant, no fixed effects": ("Reaction ~ 0 + (1 | Subject)", study(Reaction=5.0)),
    "one value a level": (
        "Reaction ~ 1 + (1 | Subject)",
        study(Reaction=lambda d: d["Subject"].astype(float)),
    ),
    "one line a level": (
        FORMULA,
        study(Reaction=lambda d: d["Days"] * d["Subject"].astype(float)),
    ),
    "response as random slope": ("Reaction ~ Days + (Reaction | Subject)", study()),
}


@pytest.mark.parametrize("REML", [True, False])
@pytest.mark.parametrize(("formula", "data"), EXACT.values(), ids=EXACT)
def test_a_response_that_random_effects_fit_exactly(formula, data, REML):
    parts = ["fit the response exactly", "use fewer random effects"]
    refused(FitError, parts, formula, data, REML=REML)


def test_small_residual_variance_is_not_taken_for_an_exact_fit():
    # Levels 1e4 residual standard deviations apart.
    noise = np.random.default_rng(3).normal(size=N)
    data = study(Reaction=lambda d: 1e4 * d["Subject"].cat.codes + noise)
    fit, _ = fitted("Reaction ~ 1 + (1 | Subject)", data)
    assert fit.converged
    codes = data["Subject"].cat.codes.to_numpy()
    within = noise - np.bincount(codes, noise)[codes] / 10
    # The within-level mean square: the criterion is formed on the rows, without cancellation.
    assert fit.sigma**2 == pytest.approx(within @ within / (N - 18), rel=1e-8)


@pytest.mark.parametrize(
    "data",
    [[1, 2], np.ones((3, 3)), 3, study],
    ids=["list", "array", "number", "function"],
)
def test_data_of_another_type(data):
    parts = [f"cannot read data of type {type(data).__name__}", "expected a frame of pandas"]
    refused(DataError, parts, data=data)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        ("rows.parquet", "cannot read Parquet files from 'rows.parquet'"),
        (Path("rows.csv"), r"read another file before, as by pandas.read_csv\(\)"),
        ("sleepstudy", "the data are 'sleepstudy'; a path leads to Parquet files"),
        ([{"Days": 1.0, "Subject": "308"}], r"pandas.DataFrame\(\) makes a frame of"),
        (np.zeros(2, dtype=[("Days", float)]), r"pandas.DataFrame\(\) makes a frame of a struct"),
        ({"Days": 1.0, "Subject": "308"}, "for one row, give lists of one"),
    ],
    ids=["file", "path", "text", "rows", "structured", "one row"],
)
def test_data_one_step_from_a_frame(data, remedy):
    with pytest.raises(DataError, match=remedy):
        lmer(FORMULA, data)


def test_one_value_stands_for_all_rows_of_a_dict():
    """As for pandas.DataFrame()."""
    data = frame("sleepstudy")
    fit = lmer(FORMULA, data)
    one, listed = {"Days": 2.0, "Subject": ["308", "309"]}, {"Days": [2.0, 2.0]}
    expected = fit.predict({**one, **listed})
    np.testing.assert_array_equal(fit.predict(one), expected)
    np.testing.assert_array_equal(fit.predict({**one, "Days": np.array(2)}), expected)
    ids = lmer("Reaction ~ Days + (1 | id)", data.assign(id=2**62 + np.arange(180) // 10))
    one = {"Days": [0, 0], "id": 2**62 + 3}
    np.testing.assert_array_equal(ids.predict(one), ids.predict({**one, "id": [2**62 + 3] * 2}))


def test_no_data_and_no_variables():
    with pytest.raises(DataError, match="no data were given, and no variable"):
        lmer(FORMULA)


def test_two_columns_of_one_name():
    data = study()
    refused(
        DataError,
        ["more than one column named 'Days'"],
        data=pd.concat([data, data[["Days"]]], axis=1),
    )


@pytest.mark.parametrize("column", ["Days", "Reaction"])
@pytest.mark.parametrize("factor", [1e-300, 1e-200, 1e200, 1e300])
def test_values_that_cannot_be_squared(column, factor):
    data = study(**{column: lambda d: d[column] * factor})
    refused(DataError, [f"the largest value of {column} is", "rescale it"], data=data)


def test_weights_and_offsets_that_cannot_be_squared():
    refused(DataError, ["weights is 1e+305", "rescale"], weights=np.full(N, 1e305))
    refused(DataError, ["offset is 1e+300", "rescale"], offset=np.full(N, 1e300))
    refused(DataError, ["Days is 1e+300", "rescale"], data=with_one("Days", 1e300))


@pytest.mark.parametrize("factor", [1e-70, 1e-12, 1e12, 1e70])
def test_far_units_cost_nothing(factor):
    plain, _ = fitted()
    fit, _ = fitted(data=study(Days=lambda d: d["Days"] * factor))
    # Profiled and scaled inside: only rounding differs.
    assert fit.objective - 2 * np.log(factor) == pytest.approx(plain.objective, rel=1e-12)
    assert fit.beta[1] * factor == pytest.approx(plain.beta[1], rel=1e-10)
    assert np.isfinite(fit.vcov().to_numpy()).all()


# Arguments


ARGUMENTS = {
    "weights negative": (DataError, {"weights": -np.ones(N)}, ["negative", "180"]),
    "weights missing": (DataError, {"weights": np.full(N, np.nan)}, ["weights is missing"]),
    "weights infinite": (DataError, {"weights": np.full(N, np.inf)}, ["weights must be finite"]),
    "weights zero": (DataError, {"weights": 0.0}, ["all weights are zero"]),
    "weights text": (DataError, {"weights": "two"}, ["weights = 'two' must be numeric"]),
    "weights unknown": (FormulaError, {"weights": "daays"}, ["'daays'", "columns are"]),
    "weights short": (DataError, {"weights": np.ones(3)}, ["3 values", "180 rows", "one value"]),
    "weights matrix": (DataError, {"weights": np.ones((N, 2))}, ["shape (180, 2)", "(180,)"]),
    "weights object": (
        DataError,
        {"weights": object()},
        ["weights is <object object"],
    ),
    "offset short": (DataError, {"offset": np.ones(3)}, ["offset has 3 values"]),
    "offset infinite": (DataError, {"offset": np.where(FIRST, np.inf, 0.0)}, ["offset is inf"]),
    "offset missing": (DataError, {"offset": np.full(N, np.nan)}, ["is missing in every row"]),
    "offset object": (
        DataError,
        {"offset": object()},
        ["offset is <object object"],
    ),
    "subset nothing": (DataError, {"subset": "Days > 100"}, ["subset chooses no row"]),
    "subset unreadable": (FormulaError, {"subset": "Days >"}, ["expected a variable"]),
    "subset unknown": (FormulaError, {"subset": "dys > 1"}, ["'dys' is not a column"]),
    "subset short": (ValueError, {"subset": np.ones(3, bool)}, ["180 booleans"]),
    "subset outside": (DataError, {"subset": [500]}, ["outside of the 180 rows"]),
    "subset object": (TypeError, {"subset": object()}, ["expected a condition"]),
    "na_action": (ValueError, {"na_action": "drop"}, ["'drop'", "'omit', 'exclude' or"]),
    "na_action None": (TypeError, {"na_action": None}, ["None", "'omit', 'exclude' or"]),
    "REML text": (TypeError, {"REML": "yes"}, ["REML is 'yes'", "True or False"]),
    "REML None": (TypeError, {"REML": None}, ["REML is None", "True or False"]),
    "REML number": (TypeError, {"REML": 2}, ["REML is 2", "True or False"]),
    "start short": (DataError, {"start": [1, 0]}, ["2 values", "expected 3", "Subject.Days"]),
    "start scalar": (DataError, {"start": 1.0}, ["1 values", "expected 3"]),
    "start text": (DataError, {"start": "identity"}, ["'identity'", "expected 3 finite numbers"]),
    "start missing": (DataError, {"start": [1, np.nan, 1]}, ["nan", "finite"]),
    "start infinite": (DataError, {"start": [1, 0, np.inf]}, ["inf", "finite"]),
    "start huge": (DataError, {"start": [1e300, 0, 1]}, ["1e+300"]),
    "start keys": (DataError, {"start": {"beta": [1]}}, ["'beta'", "expected 'par' or 'theta'"]),
    "control dict": (TypeError, {"control": {"optimizer": "newton"}}, ["instance of LmerControl"]),
    "control class": (TypeError, {"control": LmerControl}, ["instance of LmerControl"]),
    "control text": (TypeError, {"control": "newton", "optimizer": "newton"}, ["'newton'"]),
    "optimizer": (ValueError, {"optimizer": "bobyqa"}, ["'bobyqa'", "expected one of", "newton"]),
    "contrasts unknown": (DataError, {"contrasts": {"q": "sum"}}, ["'q'", "not in the model"]),
    "contrasts number": (DataError, {"contrasts": {"Days": "sum"}}, ["'Days'", "not a factor"]),
    "contrasts text": (TypeError, {"contrasts": "sum"}, ["'sum'", "expected a dict"]),
    "contrasts list": (TypeError, {"contrasts": ["sum"]}, ["expected a dict"]),
}
WITH_FACTOR = {
    "misspelt": ("sums", ["unknown contrast 'sums' for f", "known are treatment"]),
    "shape": (np.eye(5), ["matrix of f is 5 x 5", "expected 3 rows"]),
    "number": (3, ["matrix of f is 1 x 1", "expected 3 rows"]),
    "missing": (np.full((3, 2), np.nan), ["matrix of f holds NaN"]),
    "base": (("treatment", "z"), ["'z' is not a level of f: a, b, c"]),
    "type": (object(), ["contrasts of f are a object", "expected a name such as 'sum'"]),
}


@pytest.mark.parametrize(("error", "arguments", "parts"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_cannot_be_used(error, arguments, parts):
    refused(error, parts, **arguments)


@pytest.mark.parametrize(("contrast", "parts"), WITH_FACTOR.values(), ids=WITH_FACTOR)
def test_contrasts_that_cannot_be_used(contrast, parts):
    refused(DataError, parts, "Reaction ~ f + (1 | Subject)", contrasts={"f": contrast})


def test_an_unknown_argument_is_pythons_own_error():
    with pytest.raises(TypeError, match="nAGQ"):
        lmer(FORMULA, study(), nAGQ=3)


# Models that are fitted, with or without a warning


def test_rows_of_weight_zero_and_missing_weights_are_left_out():
    rest, _ = fitted(data=study().iloc[1:])
    fit, text = fitted(weights=np.where(FIRST, 0.0, 1.0), warn=[DataWarning])
    assert "1 of 180 rows have weight zero" in text
    assert (fit.nobs, fit.objective) == (179, pytest.approx(rest.objective, rel=1e-12))
    fit, _ = fitted(weights=np.where(FIRST, np.nan, 1.0))
    assert (fit.nobs, fit.objective) == (179, pytest.approx(rest.objective, rel=1e-12))


def test_weights_over_twelve_orders_of_magnitude():
    weights = 10.0 ** np.random.default_rng(1).uniform(-6, 6, N)
    fit, _ = fitted("Reaction ~ Days + (1 | Subject)", weights=weights)
    assert fit.converged
    objective, beta, sigma = dense_gaussian.of_fit(fit, fit.getME("Tlist"))
    # 1e-9: V has a condition number of 1e12.
    assert fit.objective == pytest.approx(objective, rel=1e-9)
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-7)
    assert fit.sigma == pytest.approx(sigma, rel=1e-7)


@pytest.mark.parametrize("term", ["(1 | Subject)", "(Days | Subject)"])
def test_a_coefficient_twice(term):
    once, _ = fitted(f"Reaction ~ Days + {term}")
    control = LmerControl(check_conv_hess="ignore")  # flat, as the first warning says
    twice = f"Reaction ~ Days + (1 | Subject) + {term}"
    fit, text = fitted(twice, warn=[DataWarning], control=control)
    assert "(Intercept) of Subject is in (1 | Subject) and again in" in text
    assert "drop it from one of them" in text
    assert fit.objective == pytest.approx(once.objective, abs=1e-6)
    # the sum of two modes, which each end in the flat valley shares as it likes
    pd.testing.assert_frame_equal(fit.coef()["Subject"], once.coef()["Subject"], rtol=1e-4)


def test_coefficients_of_one_name_go_to_their_terms():
    data = study(b=study()["two"].map({"u": "1", "v": "2"}), b2=np.sqrt(np.arange(N)))
    singular = [DataWarning, SingularFitWarning]
    of_factor, _ = fitted("Reaction ~ b + b2 + (b | Subject)", data, warn=singular)
    of_number, _ = fitted("Reaction ~ b + b2 + (0 + b2 | Subject)", data, warn=[DataWarning])
    for fit, column in ((of_factor, 1), (of_number, 2)):
        change = fit.coef()["Subject"].to_numpy() - fit.beta
        mode = fit.ranef()["Subject"]["b2"].to_numpy()
        np.testing.assert_allclose(change[:, column], mode, rtol=1e-9)
        assert not change[:, 3 - column].any()
    assert list(all_fit(of_number, ["newton"]).summary().fixef) == [
        "(Intercept)", "b2 of b", "b2 of b2",
    ]  # fmt: skip
    with pytest.raises(ArgumentError, match=r"a variable or level gives two rows of .* 'b2'"):
        etable(of_number)


def test_a_column_that_is_called_as_the_intercept():
    data = study(**{"(Intercept)": np.sqrt(np.arange(N))})
    fit, text = fitted("Reaction ~ `(Intercept)` + (1 | Subject)", data, warn=[DataWarning])
    assert "both have a coefficient called (Intercept)" in text
    with pytest.raises(ArgumentError, match=r"2 coefficients .* of the terms 1, `\(Intercept\)`"):
        fit.contest("(Intercept)")
    with pytest.raises(FormulaError, match="is no parameter"):
        delta_method(fit, "`(Intercept)` * 2")


def test_a_linear_model_of_booleans_draws_numbers():
    data = study(slow=study()["Reaction"] > 300)
    fit, _ = fitted("slow ~ Days + (1 | Subject)", data)
    assert fit.simulate(1, seed=1)["sim_1"].nunique() == N
    assert fit.refit(fit.simulate(1, seed=1)["sim_1"]).converged


def test_what_rows_and_terms_do_where_little_is_left():
    few = study().iloc[[0, 1, 10]]
    fit, _ = fitted("Reaction ~ two + (1 | Subject)", few, warn=[ConvergenceWarning])
    assert fit.rstudent().isna().all()  # without a row, no degree of freedom is left
    assert fit.dffits().isna().all()
    for right in ("0", "1"):
        plain, _ = fitted(f"Reaction ~ {right} + (1 | Subject)")
        assert plain.r2(partial=True).partial.empty


@pytest.mark.parametrize("column", ["flat", "zero"])
def test_fixed_columns_that_the_intercept_makes_superfluous(column):
    plain, _ = fitted("Reaction ~ Days + (1 | Subject)")
    fit, text = fitted(f"Reaction ~ Days + {column} + (1 | Subject)", warn=[DataWarning])
    assert f"dropping 1 column / coefficient: {column}" in text
    assert fit.objective == pytest.approx(plain.objective, rel=1e-13)
    assert np.isnan(fit.fixef(add_dropped=True)[column])


def test_of_many_parameters_without_information_ten_are_named():
    equal = " + ".join(["(1 | Subject)"] * 14)
    fit, _ = fitted(f"Reaction ~ Days + {equal}", warn=[ConvergenceWarning, DataWarning])
    alone, _ = fitted("Reaction ~ Days + (1 | Subject)")
    assert fit.objective == pytest.approx(alone.objective, abs=1e-8)
    (problem,) = fit.convergence.problems
    assert problem.count("Subject.(Intercept)") == 10
    assert "more one by one; simplify the random effects" in problem


@pytest.mark.parametrize("term", ["(0 + zero | Subject)", "(zero | Subject)", "(flat | Subject)"])
def test_random_columns_without_information_are_named(term):
    fit, text = fitted(f"Reaction ~ Days + {term}", warn=[ConvergenceWarning])
    column = "zero" if "zero" in term else "flat"
    assert "nearly unidentifiable" in text
    assert f"Subject.{column}" in text
    assert "simplify the random effects" in text
    assert np.isfinite(fit.objective)
    assert fit.VarCorr().to_frame()["sdcor"].abs().max() < 1e3  # of the response's size
    assert len(fit.refit(fit.simulate(2, seed=1))) == 2


def test_more_fixed_columns_than_rows():
    rng = np.random.default_rng(5)
    data = study().iloc[:30].assign(**{f"x{i}": rng.normal(size=30) for i in range(40)})
    wide = "Reaction ~ " + " + ".join(f"x{i}" for i in range(40)) + " + (1 | Subject)"
    parts = ["30 observations cannot determine 30 fixed effects", "drop fixed effects or add data"]
    refused(DataError, parts, wide, data, warn=[DataWarning])
    parts = ["the fixed effects fit it exactly"]
    refused(DataError, parts, wide, data, warn=[DataWarning], REML=False)


def test_no_fixed_effects():
    fit, _ = fitted("Reaction ~ 0 + (1 | Subject)")
    # lme4 1.1-31: REMLcrit(lmer(Reaction ~ 0 + (1|Subject), sleepstudy)), with 12 digits.
    assert fit.objective == pytest.approx(1985.67969094, rel=1e-11)
    assert fit.objective == pytest.approx(dense_gaussian.of_fit(fit, fit.getME("Tlist"))[0])
    assert fit.fixef().empty
    assert fit.vcov().shape == (0, 0)
    assert fit.fitted().notna().all()


def test_one_level_and_one_row_a_level_where_the_checks_are_off():
    fit, _ = fitted("Reaction ~ Days + (1 | one)", control=LENIENT)
    # A variance that REML cannot tell from the intercept. R 4.2, with 12 digits:
    # -2 * logLik(lm(Reaction ~ Days, sleepstudy), REML = TRUE).
    assert fit.objective == pytest.approx(1893.66366347, rel=1e-11)
    fit, _ = fitted("Reaction ~ 1 + (1 | obs)", study(obs=np.arange(N)), control=LENIENT)
    # Only the sum of the two variances is determined: the variance of the response.
    total = fit.sigma**2 * (1 + fit.theta[0] ** 2)
    assert total == pytest.approx(study()["Reaction"].var(), rel=1e-9)


@pytest.mark.parametrize("REML", [True, False])
@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_tiny_data(n, REML):
    data = study().iloc[[0, 10, 1, 11, 20, 21][:n]]
    fit, _ = fitted("Reaction ~ 1 + (1 | Subject)", data, REML=REML)
    assert fit.converged

    def criterion(theta):
        return dense_gaussian.of_fit(fit, [np.array([[theta]])])[0]

    assert fit.objective == pytest.approx(criterion(fit.theta[0]), rel=1e-12)
    assert fit.objective <= min(criterion(t) for t in np.arange(0, 20, 0.05)) + 1e-9


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_rows_than_a_model_needs(n):
    parts = ["only '308'"] if n == 1 else ["2 levels for 2 observations"]
    refused(DataError, parts, "Reaction ~ 1 + (1 | Subject)", study().iloc[[0, 10][:n]])


def test_levels_seen_once():
    data = study(g=np.r_[np.arange(N - 2), 0, 0])
    fit, _ = fitted("Reaction ~ Days + (1 | g)", data)
    assert fit.converged
    assert fit.ngrps().to_dict() == {"g": 178}


def test_singular_fits_say_which_variance_vanished():
    fit, text = fitted("Reaction ~ Days + (1 | Subject) + (1 | f)", warn=[SingularFitWarning])
    assert "the variance of (Intercept) in (1 | f) is zero" in text
    assert fit.converged
    assert fit.is_singular()
    fit, _ = fitted()
    assert not fit.is_singular()


def test_warnings_point_at_the_line_that_asked_for_the_fit():
    with pytest.warns(MixefWarning) as seen:
        lmer("Reaction ~ Days + flat + (1 | Subject) + (1 | f)", study())
    with pytest.warns(DataWarning) as also:
        lmer(FORMULA, study(), weights=np.where(FIRST, 0.0, 1.0))
    assert {w.filename for w in [*seen, *also]} == {__file__}
    assert len(seen) == 2


# Methods of a fit


FIT = lmer("Reaction ~ Days + f + (Days | Subject)", study())
ROW = pd.DataFrame({"Days": [1.0], "f": ["a"], "Subject": ["308"]})
CALLS = {
    "unseen group": (lambda: FIT.predict(ROW.assign(Subject="zz")), DataError, ["zz of Subject"]),
    "unseen level": (lambda: FIT.predict(ROW.assign(f="q")), DataError, ["'q'", "f", "'a'"]),
    "no predictor": (lambda: FIT.predict(ROW[["Days", "Subject"]]), FormulaError, ["'f'"]),
    "no group": (lambda: FIT.predict(ROW[["Days", "f"]]), FormulaError, ["'Subject'"]),
    "another type": (lambda: FIT.predict(ROW.assign(Days="x")), DataError, ["Days was", "now"]),
    "no frame": (lambda: FIT.predict([1, 2]), DataError, ["type list"]),
    "new_levels": (lambda: FIT.predict(ROW, new_levels="zero"), ValueError, ["'zero'", "error"]),
    "re_form group": (lambda: FIT.predict(ROW, "~(1|f)"), FormulaError, ["f", "it has Subject"]),
    "re_form column": (lambda: FIT.predict(ROW, "~(f|Subject)"), FormulaError, ["effect fb"]),
    "re_form type": (lambda: FIT.predict(ROW, 3), TypeError, ["3", "expected None, False"]),
    "re_form fixed": (lambda: FIT.predict(ROW, "~Days"), FormulaError, ["use '~0' for none"]),
    "refit short": (lambda: FIT.refit(np.ones(3)), DataError, ["(3,)", "expected (180,)"]),
    "refit missing": (lambda: FIT.refit(np.full(N, np.nan)), DataError, ["every row"]),
    "refit text": (lambda: FIT.refit(["a"] * N), DataError, ["must be numeric"]),
    "refit constant": (lambda: FIT.refit(np.ones(N)), DataError, ["it is constant"]),
    "update argument": (lambda: FIT.update(foo=1), TypeError, ["foo"]),
    "update formula": (lambda: FIT.update(". ~ . +"), FormulaError, ["found the end"]),
    "update control": (lambda: FIT.update(control=3), TypeError, ["LmerControl"]),
    "residuals": (lambda: FIT.residuals("pears"), ValueError, ["'pears'", "pearson"]),
    "getME": (lambda: FIT.getME("thet"), ValueError, ["'thet'", "theta"]),
    "getME list": (lambda: FIT.getME(["thet"]), ValueError, ["'thet'", "expected one of"]),
    "devfun": (lambda: FIT.getME("devfun")([1.0]), DataError, ["1 values", "expected 3"]),
    "ddf": (lambda: FIT.coef_table(ddf="welch"), ValueError, ["'welch'"]),
}


@pytest.mark.parametrize(("call", "error", "parts"), CALLS.values(), ids=CALLS)
def test_methods_refuse_what_they_cannot_use(call, error, parts):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, error)
    for part in parts:
        assert part in str(caught.value)


def test_unseen_groups_by_choice():
    unseen = ROW.assign(Subject="zz")
    population = FIT.predict(unseen, new_levels="population").iloc[0]
    assert population == pytest.approx(FIT.beta[:2].sum(), rel=1e-14)
    assert np.isnan(FIT.predict(unseen, new_levels="missing").iloc[0])
    assert FIT.predict(ROW.iloc[:0]).empty
