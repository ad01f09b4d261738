"""Kenward and Roger's tests against matrices formed in full; pbkrtest's are in test_ddf."""

import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from dense_kenward_roger import dense
from reference_data import frame
from structures import SPARSE

from mixef import lmer
from mixef.errors import SingularFitWarning
from mixef.estimation.linear import marginal as marginal
from mixef.estimation.search.hessian import difference_hessian
from mixef.inference.hypotheses import kenward_roger
from mixef.inference.hypotheses.ddf import approximation, f_test, t_tests
from mixef.inference.hypotheses.kenward_roger import moments
from mixef.inference.summary import Summary
from mixef.linalg.factor import Factor


def simulated(name):
    """Data whose structure makes one kind of factor."""
    rng = np.random.default_rng(3)
    n = 320
    d = pd.DataFrame(
        {
            "x": rng.normal(size=n) + 3.0,
            "f": rng.choice(["u", "v", "w"], n),
            "a": rng.integers(0, 110, n),
            "b": rng.integers(0, 25, n),
            "w": rng.uniform(0.2, 4.0, n),
        }
    )
    d["c"] = d["a"] % 45
    d["g"] = np.arange(n) // 4
    effects = rng.normal(size=(110, 3))
    d["y"] = (
        0.3 * d["x"]
        + effects[d["a"], 0]
        + 0.4 * effects[d["b"], 1] * d["x"]
        + 0.7 * effects[d["c"], 2]
        + 0.5 * effects[d["g"], 0]
        + rng.normal(size=n) / np.sqrt(d["w"])
    )
    return d


#: Formula and data; what the name says. The factors are dense, by levels (Schur) and sparse.
MODELS = {
    "one variance": ("Yield ~ 1 + (1 | Batch)", "Dyestuff"),
    "slopes": ("Reaction ~ Days + (Days | Subject)", "sleepstudy_unbalanced"),
    "diag": ("Reaction ~ Days + diag(1 + Days | Subject)", "sleepstudy_unbalanced"),
    "two terms": ("y ~ x * f + z + (1 + x | a) + (1 | b) + (1 | c)", "crossed"),
    "three columns": ("y ~ x * f + (x + t | g)", "vector"),
    "one large factor": ("y ~ x + f + (1 + x | g)", "simulated"),
    "large crossed": ("y ~ x + f + (1 | a) + (1 + x | b)", "simulated"),
    "large nested": ("y ~ x + f + (1 | c) + (1 | a)", "simulated"),
    "weights": ("y ~ x + f + (1 | a) + (1 + x | b)", "simulated", "w"),
    "small with weights": ("yw ~ x + f + (1 | a) + (1 | b)", "crossed", "w"),
    "variance of zero": ("Yield ~ 1 + (1 | Batch)", "Dyestuff2"),
    "singular slopes": ("yup ~ x + f + (x | g)", "vector"),
    "singular beside others": ("y0 ~ x + f + (1 | g) + (1 | t)", "vector"),
    "offset": ("y ~ x + offset(w) + (1 | a) + (1 | b)", "simulated"),
}


@pytest.fixture(scope="module", params=MODELS)
def fit(request):
    return fit_of(request.param)


def fit_of(name):
    formula, data, *weights = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return lmer(
            formula,
            simulated(name) if data == "simulated" else frame(data),
            weights=weights[0] if weights else None,
        )


def hypotheses(p):
    rng = np.random.default_rng(p)
    yield np.eye(p)
    yield np.eye(p)[-1:]
    if p > 2:
        yield rng.normal(size=(2, p))
        yield np.eye(p)[1:]


# Inverses of dense matrices of condition 1e5 and less leave about 1e-10.
def test_all_is_as_with_matrices_in_full(fit):
    expected = dense(fit)
    ours = approximation(fit._fit, "kenward-roger")
    scale = np.sqrt(np.outer(expected.Phi.diagonal(), expected.Phi.diagonal()))
    assert ours.vcov / scale == pytest.approx(expected.Phi_A / scale, abs=1e-9)
    assert (ours.vcov == ours.vcov.T).all()
    for L in hypotheses(len(fit.beta)):
        F, rows, df = expected.test(L, rhs=0.1)
        test = f_test(fit._fit, L, np.full(len(L), 0.1), ddf="kenward-roger")
        assert test.num_df == rows
        assert (test.statistic, test.den_df) == pytest.approx((F, df), rel=1e-8)
        each = t_tests(fit._fit, L, ddf="kenward-roger")
        assert each.df == pytest.approx([expected.test(row[None])[2] for row in L], rel=1e-8)
        assert each.std_error**2 == pytest.approx((L @ expected.Phi_A @ L.T).diagonal(), rel=1e-8)


def test_the_models_reach_every_factor_and_both_forms_of_products():
    kinds, invertible = set(), set()
    for name in MODELS:
        fit = fit_of(name)._fit
        factor = fit.criterion().factor_at(fit.point)
        kinds.add(type(factor).__name__)
        invertible.add(min(factor.least) > 1e-2)
    assert kinds == {"DenseFactor", "SchurFactor", SPARSE.__name__}
    assert invertible == {True, False}


@pytest.mark.parametrize("name", ["slopes", "three columns", "two terms", "singular slopes"])
def test_columns_in_groups_give_what_all_pairs_give(name, monkeypatch):
    fit = fit_of(name)._fit
    whole = kenward_roger.kenward_roger(fit)
    monkeypatch.setattr(type(fit.criterion().factor), "projected_squares", Factor.projected_squares)
    monkeypatch.setattr(marginal, "CHUNK", 5)
    parts = kenward_roger.kenward_roger(fit)
    unit = np.sqrt(whole.W.diagonal())
    assert parts.W / np.outer(unit, unit) == pytest.approx(whole.W / np.outer(unit, unit), abs=1e-9)
    assert parts.vcov == pytest.approx(whole.vcov, rel=1e-9)


@pytest.mark.parametrize("REML", [True, False])
@pytest.mark.parametrize("name", ["large crossed", "large nested", "weights"])
def test_the_same_sums_give_the_exact_hessian(name, REML):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        fit = fit_of(name).update(REML=REML)._fit
    criterion, par = fit.criterion(), fit.scaled_par
    criterion.value(par)
    information = criterion.derivatives()[1]
    expected = difference_hessian(criterion, par, information)
    ours = criterion.hessian(par)
    unit = np.sqrt(expected.diagonal())
    # Central differences are off by their third derivatives, at 2e-3 of a standard error.
    assert ours / np.outer(unit, unit) == pytest.approx(expected / np.outer(unit, unit), abs=1e-5)
    assert abs(information - expected).max() > 1e-3 * abs(expected).max()  # which it is not


def test_an_ml_fit_is_tested_by_its_refit():
    fit = fit_of("slopes")
    other = fit.refit_ml()
    assert other.theta[0] < 0.98 * fit.theta[0]
    ours, expected = other.coef_table("KR"), fit.coef_table("KR")
    pd.testing.assert_frame_equal(ours, expected, rtol=1e-7, check_names=False)
    assert not other.REML
    title = str(other.summary("KR")).splitlines()[:2]
    assert title == [
        "Linear mixed model fit by maximum likelihood. t-tests use Kenward-Roger's",
        "  method on a refit by REML",
    ]


def test_every_table_of_an_ml_fit_says_that_its_numbers_are_those_of_a_refit():
    by_ml, by_reml = fit_of("slopes").refit_ml(), fit_of("slopes")
    says = "on a refit by REML"
    name = by_ml.fixef().index[-1]
    for make in (
        lambda fit, ddf: fit.anova(ddf=ddf),
        lambda fit, ddf: fit.drop1(test="F", ddf=ddf),
        lambda fit, ddf: fit.contest(name, ddf=ddf),
        lambda fit, ddf: fit.contest(name, joint=False, ddf=ddf),
        lambda fit, ddf: fit.coef_table(ddf),
        lambda fit, ddf: fit.tidy(ddf=ddf),
        lambda fit, ddf: fit.summary(ddf),
    ):
        table, expected = make(by_ml, "kr"), make(by_reml, "kr")
        flat = " ".join(str(table).split())
        assert says in flat
        assert says in " ".join(table._repr_html_().split())
        for ddf, fit in (("kr", by_reml), ("satterthwaite", by_ml), (None, by_ml)):
            assert says not in " ".join(str(make(fit, ddf)).split())
        if not isinstance(table, Summary):
            frames = [getattr(t, "frame", t) for t in (table, expected)]
            pd.testing.assert_frame_equal(*frames, rtol=1e-5, check_names=False)


def test_units_change_nothing():
    data = frame("sleepstudy_unbalanced")
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    other = lmer(
        "Reaction ~ Days + (Days | Subject)",
        data.assign(Reaction=data["Reaction"] * 1e-4, Days=data["Days"] * 1e5 + 3e5),
        weights=np.full(len(data), 7.0),
    )
    L = [[0.0, 1.0]]
    ours, expected = (f_test(f._fit, L, ddf="KR") for f in (other, fit))
    assert ours.den_df == pytest.approx(expected.den_df, rel=1e-7)
    assert ours.statistic == pytest.approx(expected.statistic, rel=1e-7)


def test_balanced_designs_have_the_classical_tests():
    """Split plots: cake has 45 whole plots in 3 recipes, with 6 temperatures each."""
    fit = lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", frame("cake"))._fit
    p = len(fit.kept)
    blocks = {"recipe": (1, 3, 42), "temperature": (3, 8, 210), "both": (8, p, 210)}
    for first, last, df in blocks.values():
        L = np.eye(p)[first:last]
        exact, satterthwaite = f_test(fit, L, ddf="KR"), f_test(fit, L)
        assert exact.den_df == pytest.approx(df, rel=1e-9)
        assert exact.statistic == pytest.approx(satterthwaite.statistic, rel=1e-9)


def test_two_coefficients_of_balanced_slopes_have_hotellings_test():
    """T^2 of the 18 subjects' own lines: F = T^2 (18 - 2) / (2 (18 - 1)) on 2 and 16."""
    data = frame("sleepstudy")
    by_subject = data["Reaction"].to_numpy().reshape(18, 10)
    lines = np.linalg.lstsq(np.vander(np.arange(10.0), 2)[:, ::-1], by_subject.T, rcond=None)[0]
    mean, spread = lines.mean(axis=1), np.cov(lines) / 18
    T2 = mean @ np.linalg.solve(spread, mean)
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)._fit
    test = f_test(fit, np.eye(2), ddf="KR")
    assert test.den_df == pytest.approx(16, rel=1e-9)
    assert test.statistic == pytest.approx(T2 * 16 / (2 * 17), rel=1e-6)  # the optimum's digits


@pytest.mark.parametrize("A2", [0.01, 0.4, 0.99, 1.3, 5.0])
def test_one_row_has_a_scaling_of_one(A2):
    """The paper's formulas at l = 1, where A1 = A2, in exact arithmetic."""
    A = Fraction(A2).limit_denominator(1000)
    B, g = 7 * A / 2, Fraction(-1)
    c = [x / (3 + 2 * (1 - g)) for x in (g, 1 - g, 3 - g)]
    E = 1 / (1 - A)
    V = 2 * (1 + c[0] * B) / ((1 - c[1] * B) ** 2 * (1 - c[2] * B))
    m = 4 + 3 / (V / (2 * E**2) - 1)
    assert m / (E * (m - 2)) == 1
    assert moments(1, float(A), float(A)) == pytest.approx((float(m), 1.0))


@pytest.mark.parametrize(("q", "df"), [(2, 9.0), (3, 2.5), (5, 60.0), (3, 2.005)])
def test_an_exact_f_test_keeps_its_degrees_of_freedom(q, df):
    """Ordinary regression: W = 2 / df for the residual variance, whose P is -I."""
    m, scaling = moments(q, 2 * q * q / df, 2 * q / df)
    assert m == pytest.approx(df, rel=1e-10)
    assert scaling == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("off", [-7, -1, 0, 1, 3, 5])
@pytest.mark.parametrize("q", [2, 3, 6])
def test_two_degrees_of_freedom_whatever_rounding_does(q, off):
    """Balanced data have A1 = q A2, up to rounding; pbkrtest 0.5.5 gives its beets 2."""
    A2 = q * (1.0 + off * np.finfo(float).eps)
    assert moments(q, q * q, A2) == pytest.approx((2.0, 1.0), abs=1e-9)


@pytest.mark.parametrize(
    ("A1", "A2"), [(9.0, 3.0), (0.9, 2.9), (30.0, 11.0), (4.0, 4.0), (1e-9, 5)]
)
@pytest.mark.parametrize("q", [2, 3, 6])
def test_degrees_of_freedom_and_scaling_are_positive(q, A1, A2):
    m, scaling = moments(q, A1, A2)
    assert m > 0
    assert scaling > 0
