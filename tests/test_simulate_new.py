"""Simulation from a fit for new data and with other parameters."""

import numpy as np
import pandas as pd
import pytest
from simulated import crossed
from simulation_models import DATA, linear_map, model

from mixef import lmer, load_dataset, simulate_from
from mixef.errors import DataError, FormulaError

# ------------------------------------------------------------------ new data


@pytest.mark.parametrize("name", ["slopes", "weights", "nested", "cbpp", "shares", "gamma"])
@pytest.mark.parametrize("re_form", ["~0", None])
def test_the_fits_own_rows_as_new_data(name, re_form):
    fit = model(name)
    own = fit._fit.call.data
    pd.testing.assert_frame_equal(
        fit.simulate(3, seed=1, newdata=own, re_form=re_form),
        fit.simulate(3, seed=1, re_form=re_form),
        check_index_type=False,
    )


def new_rows():
    return pd.DataFrame(
        {"Days": [1.0, 2.0, 1.0, 3.0, 4.0], "Subject": ["308", "308", "new", "new", "x"]},
        index=list("abcde"),
    )


def test_new_rows_have_new_effects_for_all_levels():
    fit, new = model("slopes"), new_rows()
    mean, V = linear_map(fit, newdata=new)
    np.testing.assert_allclose(mean, fit.predict(new, re_form="~0"), rtol=1e-12)
    Z = np.column_stack([np.ones(5), new["Days"]])
    (lam,) = fit._fit.estimates.lams
    same = new["Subject"].to_numpy()[:, None] == new["Subject"].to_numpy()
    marginal = fit.sigma**2 * (Z @ lam @ lam.T @ Z.T * same + np.eye(5))
    np.testing.assert_allclose(V, marginal, rtol=0, atol=1e-10)
    assert fit.simulate(newdata=new).index.tolist() == list("abcde")


def test_new_levels_beside_held_ones():
    fit, new = model("slopes"), new_rows()
    known = np.array([True, True, False, False, False])
    Z = np.column_stack([np.ones(5), new["Days"]])
    (lam,) = fit._fit.estimates.lams
    unseen = (new["Subject"].to_numpy()[:, None] == new["Subject"].to_numpy()) & ~known
    drawn, noise = fit.sigma**2 * Z @ lam @ lam.T @ Z.T * unseen, fit.sigma**2 * np.eye(5)
    expected = fit.predict(new, new_levels="population")
    mean, V = linear_map(fit, newdata=new, re_form=None)
    np.testing.assert_allclose(mean, expected, rtol=1e-12)
    np.testing.assert_allclose(V, drawn + noise, rtol=0, atol=1e-10)
    mean, V = linear_map(fit, newdata=new, re_form=None, new_levels="population")
    np.testing.assert_allclose(mean, expected, rtol=1e-12)
    np.testing.assert_allclose(V, noise, rtol=0, atol=1e-10)
    y = fit.simulate(2, newdata=new, re_form=None, new_levels="missing")
    assert (y.isna().to_numpy() == ~known[:, None]).all()
    with pytest.raises(DataError, match=r"in newdata: new, x of Subject; set new_levels='draw'"):
        fit.simulate(newdata=new, re_form=None, new_levels="error")
    fit.simulate(newdata=new, new_levels="error")  # nothing is held, so nothing is looked up


def test_what_is_missing_in_new_data_is_missing_in_the_responses():
    fit = model("slopes")
    new = {"Days": [1.0, np.nan, 2.0], "Subject": ["308", "308", None]}
    assert fit.simulate(2, newdata=new).isna().to_numpy().tolist() == [
        [False] * 2,
        [True] * 2,
        [False] * 2,  # a missing group is a new level
    ]
    for re_form in (None, "~ (1 | Subject)"):
        drawn = fit.simulate(newdata=new, re_form=re_form)
        assert drawn["sim_1"].isna().tolist() == [0, 1, 0]
        drawn = fit.simulate(newdata=new, re_form=re_form, new_levels="missing")
        assert drawn["sim_1"].isna().tolist() == [0, 1, 1]
    fit = model("shares")
    new = DATA.head(4).assign(size=[3, np.nan, 2, 1])
    assert fit.simulate(newdata=new, seed=1)["sim_1"].isna().tolist() == [0, 1, 0, 0]


def test_weights_of_new_data():
    fit = model("weights")
    new = crossed().head(3).assign(w=[1.0, 4.0, 0.25])
    for weights, values in ((None, new["w"]), ("w", new["w"]), ([2.0, 3.0, 5.0], [2.0, 3.0, 5.0])):
        V = linear_map(fit, newdata=new, weights=weights, use_u=True)[1]
        np.testing.assert_allclose(V, np.diag(fit.sigma**2 / np.asarray(values)), atol=1e-12)
    fit = model("cbpp")
    new = pd.DataFrame({"period": ["1", "4"], "herd": ["1", "new"], "size": [10, 20]})
    with pytest.raises(DataError, match=r"newdata do not have the columns of cbind.*weights="):
        fit.simulate(newdata=new)
    assert fit.simulate(newdata=new, weights="size").sum(axis=1).tolist() == [10, 20]
    with_response = new.assign(incidence=0)
    assert fit.simulate(newdata=with_response).sum(axis=1).tolist() == [10, 20]
    by_array = lmer("y ~ x + (1 | g)", crossed(), weights=crossed()["w"].to_numpy())
    with pytest.raises(DataError, match=r"weights= was an array.*give weights="):
        by_array.simulate(newdata=crossed())
    assert len(by_array.simulate(newdata=crossed(), weights=1.0)) == 120


def test_offsets_of_new_data():
    fit = model("two terms")
    new = crossed().head(4)
    mean, _ = linear_map(fit, newdata=new)
    np.testing.assert_allclose(mean, fit.predict(new, re_form="~0"), rtol=1e-12)
    assert abs(mean - fit.predict(new.assign(z=0.0), re_form="~0")).max() > 0.1


def test_no_rows_at_all():
    assert model("slopes").simulate(2, newdata=new_rows().iloc[:0]).shape == (0, 2)


# ------------------------------------------------------------------ parameters

SLEEP = {"(Intercept)": 200.0, "Days": 5.0}
COV = np.array([[400.0, 60.0], [60.0, 25.0]])
TEMPLATE = np.linalg.cholesky(COV) / 30.0
SAME = [
    {"beta": [200, 5], "theta": TEMPLATE[np.tril_indices(2)], "sigma": 30},
    {"fixef": SLEEP, "par": TEMPLATE[np.tril_indices(2)], "sigma": 30.0},
    {"beta": pd.Series(SLEEP), "cov": {"Subject": COV}, "sigma": 30},
    {"beta": SLEEP, "cov": {"Days | Subject": COV.tolist()}, "sigma": 30},
    {"beta": SLEEP, "sd": {"Subject": [20, 5]}, "cor": {"Subject": 0.6}, "sigma": 30},
    {"beta": SLEEP, "sd": {"Subject": [20, 5]}, "cor": {"Subject": [0.6]}, "sigma": 30},
    {"beta": SLEEP, "sd_(Intercept)|Subject": 20, "sd_Days|Subject": 5,
     "cor_Days.(Intercept)|Subject": 0.6, "sigma": 30},
]  # fmt: skip


@pytest.mark.parametrize("params", SAME)
def test_all_forms_of_parameters_mean_the_same(params):
    fit, data = model("slopes"), load_dataset("sleepstudy")
    expected = fit.simulate(2, seed=1, new_params=SAME[0])
    drawn = fit.simulate(2, seed=1, new_params=params)
    np.testing.assert_allclose(drawn, expected, rtol=1e-10)
    before = simulate_from("Reaction ~ Days + (Days | Subject)", data, params, n=2, seed=1)
    np.testing.assert_allclose(before, expected, rtol=1e-10)
    np.testing.assert_allclose(linear_map(fit, new_params=params)[1][0, 0], 400 + 900, rtol=1e-10)


def test_what_is_not_given_stays():
    fit = model("slopes")
    sd0, sd1, cov = fit.VarCorr().to_frame()["vcov"].to_numpy()[:3]
    noise = fit.sigma**2

    def first(**params):
        mean, V = linear_map(fit, new_params=params)
        return mean[1], V[0, 0], V[0, 1], V[1, 1]

    mean = fit.fixef().sum()
    old = mean, sd0 + noise, sd0 + cov, sd0 + sd1 + 2 * cov + noise
    np.testing.assert_allclose(first(), old)
    np.testing.assert_allclose(first(beta={"Days": 0.0}), (fit.fixef().iloc[0], *old[1:]))
    # As in lme4, sigma alone takes the random effects with it; beside a covariance it does not.
    ratio = 50**2 / noise
    np.testing.assert_allclose(first(sigma=50), (mean, *(ratio * np.array(old[1:]))))
    r = cov / np.sqrt(sd0 * sd1)
    new = sd0 + 9 + 2 * 3 * r * np.sqrt(sd0)
    np.testing.assert_allclose(
        first(**{"sd_Days|Subject": 3, "sigma": 50}),
        (mean, sd0 + 2500, sd0 + 3 * r * np.sqrt(sd0), new + 2500),
    )
    np.testing.assert_allclose(
        first(cor={"Subject": -1}), (mean, old[1], sd0 - np.sqrt(sd0 * sd1),
                                     (np.sqrt(sd0) - np.sqrt(sd1)) ** 2 + noise), rtol=1e-9
    )  # fmt: skip


def test_parameters_of_several_terms_on_a_group():
    fit = model("two terms")
    groups = [term.label for term in fit._fit.terms]
    cov = np.diag([4.0, 1.0])
    order = [t.columns[0] for t in fit._fit.terms if t.group == "g"]
    sds = [2.0, 1.0]
    wanted = {"sd_(Intercept)|g": sds[order.index("(Intercept)")], "sd_x|g": sds[order.index("x")]}
    a = linear_map(fit, new_params={"cov": {"g": cov}})[1]
    b = linear_map(fit, new_params={"sd": {"g": sds}})[1]
    c = linear_map(fit, new_params=wanted)[1]
    by_label = {
        t.label: s for t, s in zip((t for t in fit._fit.terms if t.group == "g"), sds, strict=True)
    }
    d = linear_map(fit, new_params={"sd": by_label})[1]
    for other in (b, c, d):
        np.testing.assert_allclose(a, other, atol=1e-10)
    with pytest.raises(DataError, match=r"covariance between columns of different terms"):
        fit.simulate(new_params={"cov": {"g": [[4.0, 1.0], [1.0, 1.0]]}})
    assert len(groups) == 3


def test_parameters_of_generalized_models():
    fit = model("gamma")
    assert np.ptp(fit.simulate(new_params={"dispersion": 1e-12, "sd": {"g": 0}}, seed=1)["sim_1"] /
                  fit.predict(re_form="~0")) < 1e-4  # fmt: skip
    a = fit.simulate(seed=1, new_params={"sigma": 0.5})
    pd.testing.assert_frame_equal(a, fit.simulate(seed=1, new_params={"dispersion": 0.25}))
    cbpp = model("cbpp")
    a = cbpp.simulate(seed=1, new_params={"theta": [1.5]})
    pd.testing.assert_frame_equal(a, cbpp.simulate(seed=1, new_params={"cov": {"herd": 2.25}}))
    assert not a.equals(cbpp.simulate(seed=1))
    many = model("nbinom").simulate(200, seed=1, new_params={"shape": 1e9}, use_u=True).var(axis=1)
    np.testing.assert_allclose((many / model("nbinom").fitted()).mean(), 1.0, atol=0.05)


BAD = [
    ({"beta": [1.0]}, r"coefficients are 1 values; expected 2 finite numbers: \(Intercept\), Days"),
    ({"beta": {"days": 1.0}}, r"beta has 'days'; the coefficients are \(Intercept\), Days"),
    ({"sigma": -1.0}, r"sigma is -1; expected a positive"),
    ({"sigma": "a"}, r"sigma are 'a'; expected 1 finite number"),
    ({"theta": [1.0]}, r"theta are 1 values; expected 3 .*Subject.Days.\(Intercept\)"),
    ({"theta": [1, 0, 1], "par": [1, 0, 1]}, r"by 'theta' and again by 'par'"),
    ({"theta": [1, 0, 1], "sd": {"Subject": [1, 1]}}, r"by 'theta' and again by 'sd'"),
    ({"dispersion": 2}, r"have 'dispersion', which the model does not; expected 'beta' .*'sigma'"),
    ({"sd": {"subject": 1}}, r"sd names 'subject': .*no such.*the grouping factors are Subject"),
    ({"sd": 3.0}, r"sd is 3.0; expected a dict from grouping factor"),
    ({"sd": {"Subject": [1, 2, 3]}}, r"sd of Subject are 3 values; expected 2"),
    ({"sd": {"Subject": [1, -2]}}, r"sd_Days\|Subject is -2; expected a number 0 or more"),
    ({"cor": {"Subject": 1.5}}, r"is 1.5; expected a number between -1 and 1"),
    ({"cov": {"Subject": 2}}, r"cov of Subject is 2; expected a matrix 2 by 2"),
    ({"cov": {"Subject": "x"}}, r"cov of Subject is 'x'; expected a matrix"),
    ({"cov": {"g": 2}}, r"cov names 'g': the model has no such grouping factor"),
    ({"cov": {"Subject": [[1, 2], [2, 1]]}}, r"not positive semi-definite .*eigenvalue -1"),
    ({"cov": {"Subject": [[1, 0.5], [0.2, 1]]}}, r"is not symmetric"),
    ([1, 2], r"the parameters are \[1, 2\]; expected a dict with 'beta'"),
]


@pytest.mark.parametrize(("params", "message"), BAD)
def test_parameters_that_cannot_be(params, message):
    with pytest.raises(DataError, match=message):
        model("slopes").simulate(new_params=params)


def test_structures_hold():
    fit = model("homogeneous")
    with pytest.raises(
        DataError, match=r"not one that its structure, diag\(hom = TRUE\), can have"
    ):
        fit.simulate(new_params={"cov": {"g": np.diag([1.0, 2.0, 3.0])}})
    with pytest.raises(DataError, match=r"theta has .* which the structure of its term does not"):
        fit.simulate(new_params={"theta": [1, 0.5, 0, 1, 0, 1]})
    a = linear_map(fit, new_params={"cov": {"g": 4 * np.eye(3)}})[1]
    np.testing.assert_allclose(a, linear_map(fit, new_params={"sd": {"g": 2}})[1], atol=1e-12)
    np.testing.assert_allclose(a, linear_map(fit, new_params={"sd_all|g": 2})[1], atol=1e-12)
    with pytest.raises(DataError, match=r"cor names 'g': the model has no correlations for it"):
        fit.simulate(new_params={"cor": {"g": 0.1}})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n is 0; expected a whole number, 1 or more"),
        ({"n": 1.5}, ValueError, "n is 1.5"),
        ({"seed": "a"}, TypeError, "seed is 'a'"),
        ({"use_u": "yes"}, TypeError, "use_u is 'yes'"),
        ({"use_u": True, "re_form": "~ (1 | Subject)"}, ValueError, "give one of the two"),
        ({"re_form": "~ (1 | g)"}, FormulaError, "no grouping factor g"),
        ({"new_levels": "zero"}, ValueError, "new_levels is 'zero'; expected one of"),
        ({"weights": "w"}, ValueError, "weights= is for newdata"),
        ({"newdata": {"Days": [1.0]}}, FormulaError, "Subject"),
        ({"newdata": {"Days": [1.0], "Subject": ["308"]}, "weights": [0.0]}, DataError,
         "weights has the value 0 in row 0 .*positive numbers"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        model("slopes").simulate(**arguments)
