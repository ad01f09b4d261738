"""Bad data and bad arguments of glmer: an error or a warning that names the culprit."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from reference_data import frame

from mixef import GlmerControl, LmerControl, glmer
from mixef.errors import (
    ConvergenceWarning,
    DataError,
    DataWarning,
    FitError,
    FormulaError,
    MixefError,
    MixefWarning,
    SingularFitWarning,
)
from mixef.estimation.generalized import kind as generalized_fit
from mixef.estimation.generalized import searched as generalized_search

N = 200


def data():
    rng = np.random.default_rng(3)
    g, x = np.arange(N) % 20, rng.normal(size=N)
    eta = 0.3 + 0.4 * x + 0.6 * rng.normal(size=20)[g]
    out = pd.DataFrame({"x": x, "z": rng.normal(size=N), "g": g, "h": rng.integers(0, 7, N)})
    out["obs"], out["one"] = np.arange(N), 1.0
    out["y"] = (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(int)
    out["c"], out["p"] = rng.poisson(np.exp(eta)), rng.gamma(2.0, np.exp(eta) / 2)
    out["t"] = rng.integers(1, 9, N)
    out["s"] = rng.binomial(out["t"], 0.4)
    out["three"] = np.array(list("abc"))[out["h"] % 3]
    return out


D = data()
POSITIVE = D["x"] > 1

ERRORS = {
    "unknown column": ("y ~ x + q + (1|g)", {}, {}, FormulaError, "'q' is not a column"),
    "misspelt column": ("y ~ xx + (1|g)", {}, {}, FormulaError, "did you mean 'x'"),
    "one level": ("y ~ x + (1|k)", {"k": "a"}, {}, DataError, "k has only 'a'"),
    "infinite predictor": (
        "y ~ x + (1|g)", {"x": np.where(POSITIVE, np.inf, D["x"])}, {}, DataError,
        "the variable x is infinite in 35 of 200 rows",
    ),
    "infinite response": (
        "c ~ x + (1|g)", {"c": np.where(POSITIVE, np.inf, D["c"])}, {"family": "poisson"},
        DataError, "the response c is infinite",
    ),
    "infinite offset": (
        "c ~ x + (1|g)", {}, {"family": "poisson", "offset": np.r_[np.inf, np.zeros(N - 1)]},
        DataError, "offset is infinite in 1 of 200 rows",
    ),
    "constant response": ("one ~ x + (1|g)", {}, {}, DataError, "Response is constant: one is 1"),
    "no counts": ("c ~ x + (1|g)", {"c": 0}, {"family": "poisson"}, DataError, "c is 0 in all"),
    "a level an observation, Gamma": (
        "p ~ x + (1|obs)", {}, {"family": "Gamma(log)"}, DataError, "obs has 200 levels for 200",
    ),
    "a level an observation, negative binomial": (
        "c ~ x + (1|obs)", {}, {"family": "nbinom2"}, DataError, "obs has 200 levels for 200",
    ),
    "more random effects than rows": (
        "c ~ x + (x|obs)", {}, {"family": "poisson"}, DataError,
        r"number of observations \(=200\) < number of random effects \(=400\) for term \(x \| obs",
    ),
    "negative weights": (
        "y ~ x + (1|g)", {}, {"weights": -np.ones(N)}, DataError, "weights must not be negative",
    ),
    "weights of another length": (
        "y ~ x + (1|g)", {}, {"weights": [1, 2]}, DataError, "weights has 2 values",
    ),
    "no rows": ("y ~ x + (1|g)", None, {}, DataError, r"0 \(non-NA\) cases"),
    "negative count": (
        "c ~ x + (1|g)", {"c": D["c"] - 1}, {"family": "poisson"}, DataError,
        "response c of a poisson model has the value -1 in row 3",
    ),
    "Gamma below zero": (
        "p ~ x + (1|g)", {"p": D["p"] - 1}, {"family": "Gamma"}, DataError, "expected positive",
    ),
    "three levels": ("three ~ x + (1|g)", {}, {}, DataError, "three has 3: a, b, c"),
    "outside of 0 and 1": (
        "y ~ x + (1|g)", {"y": 1.5 * D["y"]}, {}, DataError, "has the value 1.5 in row 1",
    ),
    "negative failures": (
        "cbind(s, t - s - 5) ~ x + (1|g)", {}, {}, DataError, r"negative count in row 0.*\(1, -3\)",
    ),
    "three columns": ("cbind(s, t, t) ~ x + (1|g)", {}, {}, DataError, "has 3 columns"),
    "factor and Poisson": (
        "three ~ x + (1|g)", {}, {"family": "poisson"}, DataError, "response must be numeric",
    ),
    "no random effects": ("y ~ x", {}, {}, FormulaError, "No random effects terms"),
    "no response": ("~ x + (1|g)", {}, {}, DataError, "has no response"),
    "huge predictor": (
        "y ~ x + (1|g)", {"x": 1e200 * D["x"]}, {}, DataError, "largest value of x is",
    ),
    "start that is no number": ("y ~ x + (1|g)", {}, {"start": [np.nan]}, DataError, r"\[nan\]"),
    "start of another length": ("y ~ x + (1|g)", {}, {"start": [1, 2]}, DataError, "are 2 values"),
    "start with another key": (
        "y ~ x + (1|g)", {}, {"start": {"foo": 1}}, DataError, r"keys \['foo'\]; expected 'par',",
    ),
    "start with one coefficient": (
        "y ~ x + (1|g)", {}, {"start": {"beta": [1]}}, DataError,
        r"coefficients are 1 values; expected 2 finite numbers: \(Intercept\), x",
    ),
    "fit that is exact": (
        "w ~ three + (1|g)", {"w": 1.0 * (D["three"] == "a")}, {"family": "gaussian"}, FitError,
        "fit the response exactly",
    ),
    "quadrature with two factors": (
        "y ~ x + (1|g) + (1|h)", {}, {"nAGQ": 5}, DataError, "the formula has g, h; use nAGQ=1",
    ),
    "quadrature with four columns": ("y ~ x + (x*z|g)", {}, {"nAGQ": 5}, DataError, r"take 5\^4"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    formula, changes, arguments, error, message = ERRORS[name]
    rows = D.iloc[:0] if changes is None else D.assign(**changes)
    with pytest.raises(error, match=message) as caught:
        glmer(formula, rows, **({"family": "binomial"} | arguments))
    assert isinstance(caught.value, MixefError)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"family": "quasibinomial"}, ValueError, '"quasi" families cannot be used in glmer'),
        ({"family": "weibull"}, ValueError, "there is no family 'weibull'; the families are"),
        ({"family": "binomial(foo)"}, ValueError, "there is no link 'foo'; expected one of"),
        ({"family": 3}, ValueError, "family is 3; expected one of"),
        ({"family": None}, TypeError, "glmer needs a family"),
        ({"family": "binomial", "nAGQ": -1}, ValueError, "nAGQ is -1; expected a whole number"),
        ({"family": "binomial", "nAGQ": 101}, ValueError, "nAGQ is 101; .*from 0 to 100"),
        ({"family": "binomial", "control": LmerControl()}, TypeError, "control is LmerControl"),
        ({"family": "binomial", "optimizer": "foo"}, ValueError, "optimizer is 'foo'"),
    ],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        glmer("y ~ x + (1|g)", D, **arguments)


WARNINGS = {
    "zero weights": (
        "c ~ x + (1|g)", {}, {"family": "poisson", "weights": np.r_[0, 0, np.ones(N - 2)]},
        [(DataWarning, "2 of 200 rows have weight zero")],
    ),
    "fractions of counts": (
        "c ~ x + (1|g)", {"c": D["c"] + 0.5}, {"family": "poisson"},
        [(DataWarning, r"offset\(log\(exposure\)\)")],
    ),
    "proportions without trials": (
        "q ~ x + (1|g)", {"q": D["s"] / D["t"]}, {},
        [(DataWarning, "non-integer #successes"), (SingularFitWarning, "boundary")],
    ),
    "term given twice": (
        "y ~ x + (1|g) + (1|g)", {}, {},
        [(DataWarning, r"\(Intercept\) of g is in \(1 \| g\) and again"),
         (ConvergenceWarning, "do not determine g.*simplify the random effects")],
    ),
    "collinear predictor": (
        "y ~ x + x2 + (1|g)", {"x2": 2 * D["x"]}, {}, [(DataWarning, "dropping 1 column.*: x2")],
    ),
    "perfect separation": (
        "s1 ~ x + three + (1|g)", {"s1": (D["x"] > 0.1).astype(int)}, {},
        # Where every fitted probability is 0 or 1, the data say nothing about the variance.
        [(ConvergenceWarning, "perfect separation: x predicts every response")],
    ),
    "quasi-complete separation": (
        "s1 ~ x + three + (1|g)", {"s1": np.where(D["three"] == "b", 1, D["y"])}, {},
        [(ConvergenceWarning, "quasi-complete separation: threeb predicts some responses")],
    ),
    "quasi-complete separation, probit": (
        "s1 ~ x + three + (1|g)", {"s1": np.where(D["three"] == "b", 1, D["y"])},
        {"family": "binomial(probit)"},
        [(ConvergenceWarning, "quasi-complete separation: threeb predicts some responses")],
    ),
    "separation by zeros": (
        "s1 ~ x + three + (1|g)", {"s1": np.where(D["three"] == "c", 0, D["c"])},
        {"family": "poisson"},
        [(ConvergenceWarning, "quasi-complete separation: threec predicts some responses")],
    ),
    "counts that are not overdispersed": (
        "s1 ~ x + (1|g)", {"s1": np.random.default_rng(2).binomial(4, 0.5, N)},
        {"family": "nbinom2"},
        [(ConvergenceWarning, "the shape of the negative binomial goes to infinity"),
         (SingularFitWarning, "boundary")],
    ),
    "means at the end of their range": (
        "s1 ~ x + (1|g)",
        {"s1": np.where(D["x"] > 0.5, 1, D["y"])},
        {"family": "binomial(log)", "control": GlmerControl(check_conv_singular="ignore")},
        [(ConvergenceWarning, "fitted means run into 1, the end of what the binomial family")],
    ),
    "too few evaluations": (
        "y ~ x + (1|g)", {}, {"control": GlmerControl(max_evaluations=2)},
        [(ConvergenceWarning, r"failed to converge.*g\.\(Intercept\).*raise max_evaluations")],
    ),
}  # fmt: skip


PURE = D["g"].to_numpy() % 2  # by level of g
HALVES = np.where(D["x"] > 0, PURE, 1 - PURE)  # by x within every level
WARNINGS |= {
    "separation by group": (
        "s1 ~ x + (1|g)", {"s1": PURE}, {},
        [(ConvergenceWarning, r"separation by group: no level of g has responses of both kinds "
                              r"\(10 have only 0, 10 only 1\).*standard deviation of \(1 \| g\)")],
    ),
    "separation by group, quadrature": (
        "s1 ~ x + (1|g)", {"s1": PURE}, {"nAGQ": 9},
        [(ConvergenceWarning, "separation by group: no level of g")],
    ),
    "separation by group, coefficients in the mode": (
        "s1 ~ x + (1|g)", {"s1": PURE}, {"nAGQ": 0},
        [(ConvergenceWarning, "separation by group: no level of g")],
    ),
    "separation by one of two groups": (
        "s1 ~ x + (1|g) + (1|h)", {"s1": PURE}, {},
        [(ConvergenceWarning, "separation by group: no level of g"),
         (SingularFitWarning, "boundary")],
    ),
    "separation by group, with slopes": (
        "s1 ~ (x | g)", {"s1": PURE}, {"control": GlmerControl(check_conv_singular="ignore")},
        [(ConvergenceWarning, "separation by group: no level of g")],
    ),
    "separation by group, of counts": (
        "cbind(s1, 4 - s1) ~ x + (1|g)", {"s1": 4 * PURE}, {"family": "binomial(probit)"},
        [(ConvergenceWarning, "separation by group: no level of g")],
    ),
    "separation by slopes within groups": (
        "s1 ~ (0 + x | g)", {"s1": HALVES}, {},
        [(ConvergenceWarning, r"separation by group: the effects of \(0 \+ x \| g\) predict")],
    ),
    "separation and no overdispersion": (
        "s1 ~ x + three + (1|g)",
        {"s1": np.where(D["three"] == "c", 0, np.random.default_rng(2).binomial(4, 0.5, N))},
        {"family": "nbinom2", "control": GlmerControl(check_conv_singular="ignore")},
        [(ConvergenceWarning, "quasi-complete separation: threec predicts some responses"),
         (ConvergenceWarning, "shape of the negative binomial goes to infinity.*family='poisson'")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WARNINGS)
def test_warnings(name):
    formula, changes, arguments, expected = WARNINGS[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = glmer(formula, D.assign(**changes), **({"family": "binomial"} | arguments))
    for category, message in expected:
        texts = [str(w.message) for w in caught if w.category is category]
        assert any(re.search(message, text) for text in texts), texts
    assert all(issubclass(w.category, MixefWarning) for w in caught)
    assert {w.category for w in caught} == {category for category, _ in expected}
    assert fit.converged == (not any("separation" in m or "failed" in m or "run into" in m
                                     for _, m in expected))  # fmt: skip


NOT_SEPARATED = {
    "one level has both": ("s1 ~ x + (1|g)", {"s1": np.r_[1 - PURE[:1], PURE[1:]]}, "binomial"),
    "a row a level": ("y ~ x + (1|obs)", {"obs": np.arange(N)}, "binomial"),
    "counts that are zero in whole levels": ("s1 ~ x + (1|g)", {"s1": D["c"] * PURE}, "poisson"),
    "an end that is not at infinity": (
        "s1 ~ three + (1|g)", {"s1": np.where(D["three"] == "c", 0, D["c"])}, "poisson(sqrt)"
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NOT_SEPARATED)
def test_what_is_no_separation(name):
    formula, changes, family = NOT_SEPARATED[name]
    fit = glmer(formula, D.assign(**changes), family)
    assert fit.convergence.separation == ""


@pytest.mark.parametrize("check", ["ignore", "raise"])
def test_separation_has_a_check(check):
    rows = D.assign(s1=np.where(D["three"] == "b", 1, D["y"]))
    control = GlmerControl(check_separation=check, check_conv_hess="ignore")
    if check == "raise":
        with pytest.raises(FitError, match="quasi-complete separation: threeb"):
            glmer("s1 ~ x + three + (1|g)", rows, "binomial", control=control)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        glmer("s1 ~ x + three + (1|g)", rows, "binomial", control=control)


@pytest.mark.parametrize(
    ("formula", "changes", "family"),
    [
        ("y ~ x + (1|obs)", {}, "binomial"),
        ("c ~ x + (1|g) + (1|obs)", {}, "poisson"),
        ("c ~ x + (1|g)", {"c": D["c"] * 10**6}, "poisson"),
        ("c ~ x + (1|g)", {"c": np.where(D["g"] == 3, 0, D["c"])}, "poisson"),
        ("y ~ x + (1|k)", {"k": np.where(D["obs"] < 5, D["obs"] + 100, D["g"])}, "binomial"),
        ("c ~ x + offset(one * 1e5) + (1|g)", {}, "poisson"),
        ("y ~ 0 + (1|g)", {}, "binomial"),
        ("y ~ x + (1|g)", {"x": np.where(POSITIVE, np.nan, D["x"])}, "binomial"),
        ("y ~ x + (1|g)", {"x": 1e6 * D["x"] + 5e8}, "binomial"),
    ],
)
def test_odd_data_that_can_be_fitted(formula, changes, family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", SingularFitWarning)
        fit = glmer(formula, D.assign(**changes), family)
    assert fit.converged
    assert np.isfinite(fit.vcov().to_numpy()).all()


@pytest.mark.parametrize("optimizer", ["L-BFGS-B", "Nelder-Mead", "Powell", "COBYLA"])
def test_other_optimizers_end_at_the_same_place(optimizer):
    ours = glmer("y ~ x + (1|g)", D, "binomial")
    other = glmer("y ~ x + (1|g)", D, "binomial", optimizer=optimizer)
    assert other.converged
    # Searches without derivatives stop at 1e-7 or so of the parameters.
    assert other.objective == pytest.approx(ours.objective, rel=0, abs=1e-6)
    assert other.objective > ours.objective - 1e-10


def test_a_singular_end_is_searched_again(monkeypatch):
    """Laplace's criterion has a minimum below the singular one that the first search ends at.

    The 1430 Bernoulli rows were simulated: three effects with standard deviations of about 5 in
    each of 91 groups, probit link, rare events. lme4 1.1-31 ends at the lower minimum.
    """
    data, formula = frame("two_minima"), "y ~ 0 + x + (0 + f | g)"
    both = glmer(formula, data, "binomial(probit)", control=quiet())
    monkeypatch.setattr(generalized_search, "vanished_directions", lambda *_: ())
    first = glmer(formula, data, "binomial(probit)", control=quiet())
    assert first.converged
    assert both.converged
    assert first.objective > both.objective + 0.05
    assert both.convergence.n_evaluations > first.convergence.n_evaluations
    assert len(both.convergence.log) == both.convergence.n_evaluations
    # The numbers of evaluations are bounded together.
    few = quiet(max_evaluations=first.convergence.n_evaluations + 3)
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        short = glmer(formula, data, "binomial(probit)", control=few)
    assert short.convergence.n_evaluations <= few.max_evaluations
    # The mode, which random effects this large make hard to find, is good to 1e-8 of the criterion.
    assert short.objective == pytest.approx(first.objective, abs=2e-8)


def quiet(**options):
    return GlmerControl(check_conv_singular="ignore", **options)


def test_an_end_without_a_hessian_says_so(monkeypatch):
    monkeypatch.setattr(generalized_fit.GeneralizedCriterion, "hessian", lambda *_: None)
    with pytest.warns(ConvergenceWarning, match="the Hessian at the optimum could not be computed"):
        fit = glmer("y ~ x + (1|g)", D, "binomial")
    assert "standard errors take the covariance parameters as known" in str(fit.summary())
    np.testing.assert_allclose(fit.vcov(), fit.vcov(use_hessian=False))
    with pytest.raises(FitError, match="the Hessian at the optimum"):
        glmer("y ~ x + (1|g)", D, "binomial", control=GlmerControl(check_conv_hess="raise"))
