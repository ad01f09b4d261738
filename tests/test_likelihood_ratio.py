"""Likelihood-ratio tables beside lme4's, and what does not compare."""

import re
import types
import warnings

import numpy as np
import pandas as pd
import pytest
from anova_cases import plain
from reference_data import frame, read_reference

from mixef import anova, glmer, glmer_nb, lmer
from mixef.errors import DataError
from mixef.inference.hypotheses.likelihood_ratio import COLUMNS, likelihood_table
from mixef.inference.hypotheses.ordinary import is_ordinary, ordinary_fit

REFERENCE = read_reference("anova.json")
LRT = REFERENCE["lrt"]
CM = {
    "cm1": "use ~ age + I(age^2) + urban + livch + (1 | district)",
    "cm2": "use ~ age + I(age^2) + urban + ch + (1 | district)",
    "cm3": "use ~ age * ch + I(age^2) + urban + (1 | district)",
    "cm4": "use ~ age * ch + I(age^2) + urban + (urban | district)",
    "cm5": "use ~ age * ch + I(age^2) + urban + (1 | urban:district) + (1 | district)",
    "cm6": "use ~ age * ch + I(age^2) + urban + (1 | urban:district)",
}
WEIGHTS = np.tile([1.0, 2.0, 0.5], 60)


@pytest.fixture(scope="module")
def sleep():
    data = frame("sleepstudy")
    formulas = {
        "fm1": "Reaction ~ Days + (Days | Subject)",
        "fm2": "Reaction ~ Days + (Days || Subject)",
        "fm3": "Reaction ~ Days + (1 | Subject)",
    }
    return {name: lmer(formula, data) for name, formula in formulas.items()}


@pytest.fixture(scope="module")
def cbpp():
    text = "cbind(incidence, size - incidence) ~ "
    return {
        name: glmer(text + right, frame("cbpp"), family="binomial")
        for name, right in {"gm1": "period + (1 | herd)", "gm0": "1 + (1 | herd)"}.items()
    }


def check(table, expected, rtol=1e-6):
    """Compare with a table of lme4 1.1-31, which calls -2*log(L) deviance."""
    assert list(table.columns) == list(COLUMNS)
    assert list(table.index) == expected["rows"]
    for name, theirs in zip(COLUMNS, expected["columns"], strict=True):
        recorded = np.array(expected["values"][theirs], dtype=float)
        np.testing.assert_allclose(table[name], recorded, rtol=rtol, atol=1e-7, err_msg=name)


def test_sleepstudy_by_ml(sleep):
    """lme4's refits stop within 1e-7 of the optimum; p values magnify it."""
    fm1, fm2, fm3 = sleep.values()
    table = anova(fm1, fm2, fm3)
    check(table, LRT["sleep"])
    assert table.heading[:3] == (
        "refitting model(s) with ML (instead of REML)", "Data: sleepstudy", "Models:",
    )  # fmt: skip
    assert table.notes[0] == table.heading[0]
    assert table.heading[3:] == tuple(
        f"{name}: {sleep[name].formula}" for name in ("fm3", "fm2", "fm1")
    )


def test_sleepstudy_by_reml(sleep):
    fm1, fm2, fm3 = sleep.values()
    table = anova(fm1, fm2, fm3, refit=False)
    check(table, LRT["sleep_reml"])
    assert "refitting" not in str(table)
    assert table.notes[0] == "logLik, AIC and BIC are by REML (refit=False)."


def test_published_numbers(sleep):
    """lme4's test suite: 42.1393 on 2 df of the slope and its correlation, 23.537 of Days."""
    fm1, fm3 = sleep["fm1"], sleep["fm3"]
    table = anova(fm1, fm3)
    np.testing.assert_allclose(table.loc["fm1", "Chisq"], 42.1393, atol=5e-5)
    np.testing.assert_allclose(table.loc["fm1", "Pr(>Chisq)"], 7.072e-10, rtol=2e-4)
    table = anova(fm1.update(". ~ . - Days"), fm1)
    np.testing.assert_allclose(table["Chisq"].iloc[1], 23.53654, atol=5e-6)


def test_what_is_printed_is_rs_but_for_the_last_column_names(sleep, cbpp):
    fm1, fm2, fm3 = sleep.values()
    gm1, gm0 = cbpp.values()
    for table, name in ((anova(fm1, fm2, fm3), "lrt"), (anova(gm1, gm0), "lrt_glmm")):
        mine, theirs = str(table).splitlines(), plain(REFERENCE["printed"][name])
        cut = [next(i for i, line in enumerate(text) if "npar" in line) for text in (mine, theirs)]
        mine, theirs = (text[i:] for text, i in zip((mine, theirs), cut, strict=True))
        mine = [line.replace("-2*log(L)", "deviance") for line in mine[: len(theirs)]]
        assert [line.split() for line in mine] == [line.split() for line in theirs]


def test_cbpp(cbpp):
    """At lme4's own search end, 1e-8 above the optimum."""
    gm1, gm0 = cbpp.values()
    check(anova(gm1, gm0), LRT["cbpp"])


@pytest.mark.parametrize("names", [("cm1", "cm2"), ("cm3", "cm4"), ("cm5", "cm6"), tuple(CM)])
def test_contraception(names):
    """Frozen by glmm_object.R; where the larger model has the smaller likelihood (cm1 over cm6)
    lme4 shows a statistic of 0 with p = 1, and mixef the difference without p."""
    key = "all" if len(names) > 2 else "_".join(names)
    expected = read_reference("glmm_object.json")["anova"][key]
    fits = [glmer(CM[name], frame("Contraception"), family="binomial") for name in names]
    table = anova(*fits, model_names=names)
    assert sorted(table.index) == sorted(expected["rows"])
    recorded = dict(zip(expected["rows"], expected["values"]["logLik"], strict=True))
    npar = dict(zip(expected["rows"], expected["values"]["npar"], strict=True))
    for name in names:
        np.testing.assert_allclose(table.loc[name, "logLik"], recorded[name], rtol=1e-8)
        assert table.loc[name, "npar"] == npar[name]
    if len(names) == 2:
        for column in ("Chisq", "Pr(>Chisq)"):
            mine = table[column].iloc[1]
            theirs = np.array(expected["values"][column], dtype=float)[1]
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)
        return
    assert table["npar"].tolist() == sorted(npar.values())
    same = table["npar"].diff() == 0
    assert (table["Chisq"][same] >= 0).all()
    assert table["Pr(>Chisq)"][same].isna().all()
    worse = table["Chisq"] < 0
    assert worse.sum() == 1
    assert np.isnan(table["Pr(>Chisq)"][worse]).all()
    assert any("more parameters than" in note for note in table.notes)


def test_the_table_of_numbers():
    table = likelihood_table(
        np.array([2, 3, 3, 5, 6]), np.array([-10.0, -8.0, -7.0, -7.5, -7.5 + 1e-9]), 20, "abcde"
    )
    np.testing.assert_allclose(table["Chisq"], [np.nan, 4.0, 2.0, -1.0, 0.0])
    np.testing.assert_allclose(table["Df"], [np.nan, 1, 0, 2, 1])
    # chi-square tails by R: pchisq(4, 1, lower = FALSE)
    np.testing.assert_allclose(
        table["Pr(>Chisq)"], [np.nan, 0.0455002638963584, np.nan, np.nan, 1.0]
    )
    np.testing.assert_allclose(table["AIC"], [24, 22, 20, 25, 27])
    np.testing.assert_allclose(table["BIC"], 2 * np.array([10, 8, 7, 7.5, 7.5])
                               + np.log(20) * np.array([2, 3, 3, 5, 6]))  # fmt: skip


def test_names_of_models(sleep):
    fm1, other = sleep["fm1"], sleep["fm3"]
    assert list(anova(fm1, other).index) == ["other", "fm1"]
    assert list(anova(fm1, sleep["fm3"].refit_ml()).index) == ["model 2", "fm1"]
    assert list(anova(fm1, fm1).index) == ["model 1", "model 2"]
    assert list(anova(fm1, other, model_names=["big", "small"]).index) == ["small", "big"]


def test_a_boundary_is_noted_for_variances_only(sleep):
    fm1, fm2, fm3 = sleep.values()
    notes = anova(fm1, fm2, fm3).notes
    assert notes[1:] == (
        "fm2 has variances that fm3 sets to zero, the boundary: its p value is conservative "
        "(too large).",
    )
    assert len(anova(fm1, fm2).notes) == 1


class Result:
    """What `anova` reads of a fit of statsmodels, made by hand: OLS, or WLS with weights."""

    def __init__(self, y, X, weights=None):
        root = np.ones(len(y)) if weights is None else np.sqrt(weights)
        rows = root[:, None] * X
        left = root * y - rows @ np.linalg.lstsq(rows, root * y, rcond=None)[0]
        n, p = X.shape
        self.llf = -0.5 * n * (1 + np.log(2 * np.pi * (left @ left) / n)) + np.log(root).sum()
        self.nobs, self.df_model, self.params = n, p - 1, np.zeros(p)
        self.model = types.SimpleNamespace(
            endog=y, wendog=root * y, k_constant=1, formula="Reaction ~ Days",
            weights=1.0 if weights is None else weights,
        )  # fmt: skip


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weights"])
def test_an_ordinary_regression_as_the_null(weights):
    """lme4's anova(lmer, lm)."""
    data = frame("sleepstudy").assign(w=WEIGHTS)
    y, days = data["Reaction"].to_numpy(), data["Days"].to_numpy(dtype=float)
    fm0 = Result(y, np.column_stack([np.ones(180), days]), weights)
    fm1 = lmer("Reaction ~ Days + (Days | Subject)", data, weights=None if weights is None else "w")
    expected = LRT["sleep_lm" if weights is None else "weights_lm"]
    table = anova(fm1, fm0, model_names=["fm1" if weights is None else "fw",
                                         "fm0" if weights is None else "fw0"])  # fmt: skip
    check(table, expected)
    assert "Reaction ~ Days" in str(table)
    assert "boundary" in table.notes[-1]


def test_ordinary_regressions_of_statsmodels(cbpp):
    smf = pytest.importorskip("statsmodels.formula.api")
    families = pytest.importorskip("statsmodels.genmod.families")
    data = frame("sleepstudy")
    fm1 = lmer("Reaction ~ Days + (Days | Subject)", data)
    fm0 = smf.ols("Reaction ~ Days", data).fit()
    check(anova(fm1, fm0), LRT["sleep_lm"])
    fw = lmer("Reaction ~ Days + (Days | Subject)", data, weights=WEIGHTS)
    fw0 = smf.wls("Reaction ~ Days", data, weights=WEIGHTS).fit()
    check(anova(fw, fw0), LRT["weights_lm"])
    cattle = frame("cbpp").assign(rest=lambda d: d["size"] - d["incidence"])
    gm1 = cbpp["gm1"]
    glm1 = smf.glm("incidence + rest ~ period", cattle, family=families.Binomial()).fit()
    check(anova(gm1, glm1), LRT["cbpp_glm"])
    binary = data.assign(slow=(data["Reaction"] > 300).astype(int))
    mixed = glmer("slow ~ Days + (1 | Subject)", binary, family="binomial")
    for null in (smf.logit("slow ~ Days", binary).fit(disp=0),
                 smf.glm("slow ~ Days", binary, family=families.Binomial()).fit()):  # fmt: skip
        table = anova(mixed, null)
        assert table["npar"].tolist() == [2, 3]
        assert table["Chisq"].iloc[1] > 10


@pytest.mark.parametrize(
    ("family", "density"),
    [
        ("Gaussian", lambda y, m, p: -0.5 * np.log(2 * np.pi * p) - 0.5 * (y - m) ** 2 / p),
        ("InverseGaussian", lambda y, m, p: -0.5 * np.log(2 * np.pi * p * y**3)
         - (y - m) ** 2 / (2 * p * m**2 * y)),
    ],
)  # fmt: skip
def test_the_dispersion_of_a_regression_is_at_its_maximum(family, density):
    """Closed forms: sum (y - mu)^2 / n, and sum (y - mu)^2 / (mu^2 y n)."""
    smf = pytest.importorskip("statsmodels.formula.api")
    sm = pytest.importorskip("statsmodels.api")
    data = frame("sleepstudy")
    kind = getattr(sm.families, family)(sm.families.links.Log())
    result = smf.glm("Reaction ~ Days", data, family=kind).fit()
    y, mu = data["Reaction"].to_numpy(), np.asarray(result.mu)
    phi = np.mean((y - mu) ** 2 / (1.0 if family == "Gaussian" else mu**2 * y))
    found = ordinary_fit(result)
    np.testing.assert_allclose(found.loglik, density(y, mu, phi).sum(), rtol=1e-11)
    assert found.npar == 3
    assert found.n_coefficients == 2


def test_what_is_no_regression():
    assert not is_ordinary(3)
    assert not is_ordinary("y ~ x")
    smf = pytest.importorskip("statsmodels.formula.api")
    families = pytest.importorskip("statsmodels.genmod.families")
    data = frame("grouseticks")
    quasi = smf.glm("TICKS ~ HEIGHT", data, family=families.Poisson()).fit(scale="X2")
    with pytest.raises(DataError, match="a quasi-likelihood; fit it without scale="):
        ordinary_fit(quasi)
    copies = smf.glm("HEIGHT ~ TICKS", data, family=families.Gamma(families.links.Log()),
                     freq_weights=np.arange(len(data)) % 2 + 1.0).fit()  # fmt: skip
    with pytest.raises(DataError, match="fit it with var_weights"):
        ordinary_fit(copies)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (
            None,
            "Gamma(log)",
            "the family gaussian with the link identity, but b Gamma with log",
        ),
        ("Gamma(log)", "Gamma(inverse)", "b Gamma with inverse"),
        ("Gamma(log)", "inverse.gaussian(log)", "b inverse.gaussian with log"),
        ("gaussian(log)", None, "with the link log, but b gaussian with identity"),
        ("poisson", "poisson(sqrt)", "b poisson with sqrt"),
        ("poisson(sqrt)", "nbinom2", "but b Negative Binomial with log"),
    ],
)
def test_other_families_and_links_are_refused_by_name(one, other, message):
    data = frame("sleepstudy").assign(Reaction=lambda d: d["Reaction"].round() / 100)
    if "poisson" in str(one):
        data["Reaction"] = data["Reaction"].round()
    text = "Reaction ~ Days + (1 | Subject)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = (
            lmer(text, data) if family is None else glmer(text, data, family)
            for family in (one, other)
        )
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        anova(a, b)
    assert "compare a.aic with b.aic" in str(caught.value)


def test_regressions_of_other_families_and_links_are_refused():
    smf = pytest.importorskip("statsmodels.formula.api")
    families = pytest.importorskip("statsmodels.genmod.families")
    data = frame("sleepstudy").assign(slow=lambda d: (d["Reaction"] > 300).astype(float))
    mixed = glmer("slow ~ Days + (1 | Subject)", data, "binomial")
    probit = smf.glm(
        "slow ~ Days", data, family=families.Binomial(families.links.Probit())
    ).fit()  # fmt: skip
    for other in (smf.ols("slow ~ Days", data).fit(), smf.probit("slow ~ Days", data).fit(disp=0),
                  probit, smf.poisson("slow ~ Days", data).fit(disp=0)):  # fmt: skip
        with pytest.raises(DataError, match="no likelihood-ratio test between them"):
            anova(mixed, other)


def test_the_shape_of_a_negative_binomial_has_a_boundary():
    text = "TICKS ~ YEAR + HEIGHT + (1 | BROOD)"
    poisson = glmer(text, frame("grouseticks"), family="poisson")
    negative = glmer_nb(text, frame("grouseticks"))
    table = anova(negative, poisson)
    assert list(table.index) == ["poisson", "negative"]
    assert table.notes == (
        "negative has a shape that is infinite in poisson, the boundary: its p value is "
        "conservative (too large).",
    )


def test_approximations_of_the_likelihood_are_noted(cbpp):
    gm1, formula = cbpp["gm1"], cbpp["gm1"].formula
    finer = glmer(formula, frame("cbpp"), family="binomial", nAGQ=9)
    (note,) = anova(gm1, finer).notes
    assert note.startswith("nAGQ is 1, 9: likelihoods are approximated differently")


def change(name):
    """A model that does not compare with that of sleepstudy, and what the error says."""
    data = frame("sleepstudy")
    text = "Reaction ~ Days + (1 | Subject)"
    if name == "fewer rows":
        return lmer(text, data.iloc[5:]), "180 rows but b to 175 .b lacks rows 0, 1, 2, 3, 4."
    if name == "missing":
        holes = data.assign(Days=data["Days"].where(data.index != 7))
        return lmer(text, holes), "180 rows but b to 179 .b lacks row 7.; .*drop rows with missing"
    if name == "log":
        return lmer("log(Reaction) ~ Days + (1 | Subject)", data), (
            r"responses of a \(Reaction\) and b \(log\(Reaction\)\) differ: .* in row 9"
        )
    if name == "order":
        return lmer(text, data.iloc[::-1]), "the responses of a .* in the same order"
    assert name == "weights"
    return lmer(text, data, weights=WEIGHTS), "prior weights of a and b differ: 1 and 2 in row"


@pytest.mark.parametrize("name", ["fewer rows", "missing", "log", "order", "weights"])
def test_models_that_do_not_compare(sleep, name):
    other, message = change(name)
    with pytest.raises(DataError, match=message):
        anova(sleep["fm1"], other, model_names=["a", "b"])


def test_as_many_but_other_rows():
    data = frame("sleepstudy")
    text = "Reaction ~ Days + (1 | Subject)"
    holes = [data.assign(Days=data["Days"].where(data.index != i)) for i in (3, 8)]
    a, b = (lmer(text, d) for d in holes)
    message = r"179 rows each, but not to the same ones \(b lacks row 8; a lacks row 3\)"
    with pytest.raises(DataError, match=message):
        anova(a, b)


def test_rows_that_were_dropped_beforehand_compare():
    data = frame("sleepstudy")
    holes = data.assign(Days=data["Days"].where(data.index != 7))
    a = lmer("Reaction ~ Days + (1 | Subject)", holes)
    b = lmer("Reaction ~ 1 + (1 | Subject)", holes.dropna())
    assert anova(a, b).loc["a", "Df"] == 1


def test_reml_criteria_of_other_fixed_effects(sleep):
    fm1 = sleep["fm1"]
    fm0 = fm1.update(". ~ . - Days")
    with pytest.raises(DataError, match=r"fm0 and fm1 have different fixed effects .*refit=True"):
        anova(fm1, fm0, refit=False)
    other = fm1.refit_ml()
    with pytest.raises(DataError, match="other is no REML fit, but others are"):
        anova(fm1, other, refit=False)
    assert anova(other, other.update(". ~ . - Days"), refit=False)["Df"].iloc[1] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: anova(), "anova got no model"),
        (lambda a, b: anova(a, 3), "anova got 3; expected fitted mixed models"),
        (lambda a, b: anova(a, b, type=2), "type and ddf are for tests of one model's terms"),
        (lambda a, b: anova(Result(np.arange(4.0), np.ones((4, 1)))), "got one regression"),
        (lambda a, b: anova(*2 * [Result(np.arange(4.0), np.ones((4, 1)))]), "statsmodels only"),
    ],
)
def test_calls_that_mean_nothing(sleep, call, message):
    with pytest.raises(TypeError, match=message):
        call(sleep["fm1"], sleep["fm2"])


@pytest.mark.parametrize("names", [["a"], ["a", "a"], "ab", [1, 2]])
def test_names_that_do_not_fit(sleep, names):
    with pytest.raises(ValueError, match="model_names is"):
        anova(sleep["fm1"], sleep["fm2"], model_names=names)


def test_an_end_that_is_no_optimum_is_noted(sleep):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stopped = lmer("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"), REML=False,
                       control=sleep["fm1"]._fit.control.__class__(max_evaluations=1))  # fmt: skip
    fm3 = sleep["fm3"]
    assert not stopped.converged
    assert "stopped did not converge: its likelihood may be too small." in anova(stopped, fm3).notes


def test_nothing_of_the_callers_is_read_again():
    """The refits by ML go from the frozen fits."""
    data = frame("sleepstudy")
    a = lmer("Reaction ~ Days + (1 | Subject)", data)
    b = lmer("Reaction ~ 1 + (1 | Subject)", data)
    before = anova(a, b).to_frame()
    data["Reaction"] = 0.0
    pd.testing.assert_frame_equal(anova(a, b).frame, before)
