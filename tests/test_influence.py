"""Influence of sets of rows: against lme4's fits without them, explicit refits and dense algebra.

tests/reference/influence.json is by lme4 1.1.31 (influence.R).
"""

import pickle
from functools import cache

import dense_gaussian
import numpy as np
import pandas as pd
import polars as pl
import pytest
from predicted import generalized, linear
from reference_data import case, cases, frame
from structures import STRUCTURES, dense_Lambda, dense_Z, make, makers, rows_of, templates
from test_any_density import fitted as any_density
from test_leverage import columns, lme4_fit, structured

from mixef import Beta, LmerControl, glmer, lmer, load_dataset
from mixef.errors import ArgumentError, DataError
from mixef.inference.components import parameter_values
from mixef.inference.influence import held as held_module
from mixef.inference.influence.deletion import Refit
from mixef.inference.influence.held import Held
from mixef.inference.influence.sets import row_sets
from mixef.linalg import crossproducts
from mixef.linalg.downdate import Downdate
from mixef.linalg.rows import GroupDesign, Rows

GROUPED = [c["id"] for c in cases("influence.json") if c["group"]]
# Where two searches end: theta within some 1e-6, and sigma, which is flat there, closer.
ENDS = 2e-5


@pytest.mark.parametrize("name", GROUPED)
def test_fits_without_a_group_are_lme4s(name):
    c, fit = case("influence.json", name), lme4_fit(name)
    found, names = fit.influence(c["group"]), fit._fit.fixed_names
    assert sorted(found.index.astype(str)) == c["levels"]
    for level, theirs in zip(c["levels"], c["without"], strict=True):
        level = next(own for own in found.index if str(own) == level)
        ours = found.fixef().loc[level]
        beta = np.array([theirs["beta"].get(n) for n in names], dtype=float)
        error = np.array([theirs["se"].get(n) for n in names], dtype=float)
        # lme4 keeps a coefficient that has changed its meaning, as one's mean does without a level.
        known = ours.notna().to_numpy()
        assert (np.isnan(beta) <= ~known).all()
        assert (np.abs(ours - beta)[known] < ENDS * error[known]).all()
        assert found.sigma()[level] == pytest.approx(theirs["sigma"], rel=ENDS)
        if known.all():
            d, V = fit.beta - beta, fit._fit.vcov
            assert found.cooks_distance()[level] == pytest.approx(
                d @ np.linalg.solve(V, d) / len(d), rel=1e-4, abs=1e-8
            )
            np.testing.assert_allclose(found.dfbetas().loc[level], d / error, rtol=1e-3, atol=1e-5)
            ratio = np.exp(theirs["logdet"] - np.linalg.slogdet(V)[1])
            assert found.covratio()[level] == pytest.approx(ratio, rel=1e-4)
            sds = np.sort(np.abs(np.array(theirs["sdcor"], dtype=float)))
            np.testing.assert_allclose(np.sort(found.varcorr().loc[level].abs()), sds, rtol=1e-3)


SETS = {
    "weights and an offset": ("crossed", "yw ~ x + offset(v) + (x | a) + (1 | b)", "w", "a"),
    "an inner factor": ("nested", "y ~ x + (1 | a/b)", None, "b:a"),
    "a factor outside the model": ("crossed", "y ~ x + (1 | a)", None, "c"),
    "crossed variables": ("crossed", "y ~ x + (1 | a)", None, "c:f"),
}


@pytest.mark.parametrize("name", SETS)
def test_linear_deletions_are_fits_to_the_other_rows(name):
    data, formula, weights, groups = SETS[name]
    data, control = frame(data), LmerControl(check_conv_singular="ignore")
    fit = lmer(formula, data, weights=weights, control=control)
    found, sets = fit.influence(groups), row_sets(fit._fit, groups)
    for g in (0, len(sets) // 2, len(sets) - 1):
        rest = data.drop(index=sets.rows[g])
        other = lmer(formula, rest, weights=weights, control=control)
        assert found.n.iloc[g] == len(data) - len(rest)
        np.testing.assert_allclose(found.fixef().iloc[g], other.beta, rtol=ENDS, atol=1e-6)
        ours = np.r_[found.varcorr().iloc[g], found.fixef().iloc[g]]
        np.testing.assert_allclose(ours, parameter_values(other._fit), rtol=1e-4, atol=2e-5)
        V = other.vcov().to_numpy()
        whole = fit.vcov().to_numpy()
        d = fit.beta - other.beta
        assert found.mdffits().iloc[g] == pytest.approx(d @ np.linalg.solve(V, d) / len(d), 1e-3)
        trace = np.trace(np.linalg.solve(whole, V)) - len(d)
        assert found.covtrace().iloc[g] == pytest.approx(abs(trace), rel=1e-3, abs=1e-4)


def refitted(fit, rows):
    """The model fitted to the other rows of its data, from the usual start."""
    data = fit._fit.call.data
    return fit.update(data=data.drop(index=data.index[rows]))


@pytest.mark.parametrize(
    ("make", "groups"),
    [
        (lambda: generalized("scalar"), "herd"),
        (lambda: generalized("quadrature"), "herd"),
        (lambda: generalized("scalar", 0), "herd"),
        (lambda: generalized("vector, dispersion"), "g"),
        (lambda: any_density(Beta, "(1 | g)"), "g"),
        (lambda: structured("cs"), "g"),
        (lambda: structured("ar1"), "g"),
    ],
    ids=["scalar", "quadrature", "nAGQ = 0", "Gamma", "Beta", "cs", "ar1"],
)
def test_deletions_of_other_models_are_fits_to_the_other_rows(make, groups):
    fit = make()
    sets = row_sets(fit._fit, groups)
    chosen = {str(sets.index[g]): fit._fit.frame.index[sets.rows[g]] for g in (0, len(sets) - 1)}
    found = fit.influence({label: rows.tolist() for label, rows in chosen.items()})
    assert found.converged.all()
    for g, label in zip((0, len(sets) - 1), chosen, strict=True):
        if isinstance(fit._fit.call.data, dict):
            rest = {
                k: np.delete(np.asarray(v), sets.rows[g]) for k, v in fit._fit.call.data.items()
            }
            other = fit.update(data=rest)
        else:
            other = refitted(fit, sets.rows[g])
        np.testing.assert_allclose(found.fixef().loc[label], other.beta, rtol=1e-4, atol=1e-4)
        ours = np.r_[found.varcorr().loc[label], found.fixef().loc[label]]
        np.testing.assert_allclose(ours, parameter_values(other._fit), rtol=1e-3, atol=2e-4)
        unit = np.sqrt(other.vcov().to_numpy().diagonal())
        expected = (fit.beta - other.beta) / unit
        np.testing.assert_allclose(found.dfbetas().loc[label], expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", ["vector", "crossed", "nested", "three factors"])
def test_searches_on_what_is_left_of_cross_products_are_those_of_rows(name):
    fit = linear(name)._fit
    task = Refit(fit)
    slow = Refit(fit)
    slow.__dict__["_downdated"] = None
    for rows in row_sets(fit, fit.terms[0].group).rows[:3]:
        quick, whole = task(rows), slow(rows)
        assert quick.converged
        assert whole.converged
        np.testing.assert_allclose(quick.beta, whole.beta, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(quick.vcov, whole.vcov, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(quick.parameters, whole.parameters, rtol=1e-4, atol=1e-4)


# Covariance parameters held


@pytest.mark.parametrize(("name", "REML"), [("vector", True), ("vector", False), ("crossed", True),
                                            ("three factors", True)])  # fmt: skip
def test_held_deletions_are_least_squares_at_the_same_templates(name, REML):
    fit = linear(name, REML)
    state = fit._fit
    terms = [(t.grouping.codes, t.n_levels, t.z) for t in state.terms]
    V = dense_gaussian.covariance(terms, state.estimates.lams, state.frame.weights)
    y = state.y if state.frame.offset is None else state.y - state.frame.offset
    group = state.terms[-1].group
    found = fit.influence(group, refit=False)
    for g, rows in enumerate(row_sets(state, group).rows[:5]):
        rest = np.delete(np.arange(len(y)), rows)
        inner, X = V[np.ix_(rest, rest)], state.X[rest]
        _, beta, sigma = dense_gaussian.criterion(y[rest], X, inner, state.REML)
        # Condition numbers of V up to 1e5 times rounding.
        np.testing.assert_allclose(found.fixef().iloc[g], beta, rtol=1e-8, atol=1e-9)
        assert found.sigma().iloc[g] == pytest.approx(sigma, rel=1e-9)
        own = sigma**2 * np.linalg.inv(X.T @ np.linalg.solve(inner, X))
        ratio = np.linalg.det(own) / np.linalg.det(state.vcov)
        assert found.covratio().iloc[g] == pytest.approx(ratio, rel=1e-7)


def test_held_deletions_of_generalized_models_are_one_scoring_step():
    fit = generalized("three factors")
    V, q, W = columns(fit)
    score = (W * fit.residuals("working")).to_numpy()
    found = fit.influence("LOCATION", refit=False)
    for g, rows in enumerate(row_sets(fit._fit, "LOCATION").rows[:4]):
        rest = np.delete(np.arange(len(V)), rows)
        A = V[rest].T @ (W[rest, None] * V[rest])
        A[:q, :q] += np.eye(q)
        step = np.linalg.solve(A, V[rows].T @ score[rows])
        # Condition numbers of A up to 1e5 times rounding.
        np.testing.assert_allclose(found.dfbeta().iloc[g], step[q:], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ["vector", "crossed", "three factors"])
def test_both_ways_to_hold_covariances_agree(name, monkeypatch):
    fit = linear(name)
    group = fit._fit.terms[0].group
    by_rows = fit.influence(group, refit=False)
    monkeypatch.setattr(held_module, "CHUNK", 1)
    by_products = fit.influence(group, refit=False)
    # Condition numbers of A up to 1e5 times rounding.
    np.testing.assert_allclose(
        by_products.to_frame().iloc[:, :-2], by_rows.to_frame().iloc[:, :-2], rtol=1e-8, atol=1e-11
    )


def test_rows_one_by_one_are_the_row_diagnostics():
    fit = linear("crossed")
    found = fit.influence(refit=False)
    assert found.index.equals(fit.residuals().index)
    scale = found.sigma().to_numpy() / fit.sigma
    unit = np.sqrt(fit.vcov().to_numpy().diagonal())
    np.testing.assert_allclose(
        found.dfbeta().to_numpy() / unit / scale[:, None], fit.dfbetas(), rtol=1e-8, atol=1e-12
    )


# Cross-products


@pytest.mark.parametrize("cells", [0, 60_000])
@pytest.mark.parametrize("name", STRUCTURES)
def test_cross_products_without_rows_are_those_of_the_others(name, cells, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", cells)
    rows = rows_of(name)
    whole = crossproducts.crossproducts(rows)
    gone = np.flatnonzero((rows.groups[0].codes == 1) | (np.arange(200) % 17 == 0))
    downdate = Downdate(rows.groups, rows.columns(), whole)
    left, kept = downdate.without(gone), np.setdiff1d(np.arange(200), gone)
    groups = [GroupDesign(g.codes[kept], g.n_levels, g.z[kept]) for g in rows.groups]
    expected = crossproducts.crossproducts(Rows(groups, rows.X[kept], rows.y[kept]))
    assert left.n == expected.n
    assert downdate.occupied(gone) == [len(np.unique(g.codes)) for g in groups]
    for field in ("ZtZ", "ZtX", "Zty", "XtX", "Xty"):
        ours, theirs = (getattr(p, field) for p in (left, expected))
        ours, theirs = (p if isinstance(p, np.ndarray) else p.toarray() for p in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    assert not left.diagonal[0][1].any()  # exactly
    assert left.yty == pytest.approx(expected.yty)


@pytest.mark.parametrize("name", ["crossed vector", "crossed sparsely", "nested vector"])
@pytest.mark.parametrize(("cls", "variant"), list(makers()))
def test_every_factor_takes_what_is_left_of_cross_products(cls, variant, name, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    rows = rows_of(name)
    whole = crossproducts.crossproducts(rows)
    gone = np.flatnonzero((rows.groups[0].codes == 1) | (rows.groups[1].codes == 2))
    left = Downdate(rows.groups, rows.columns(), whole).without(gone)
    lams = templates(whole.layout.widths, "random")
    factor = make(cls, variant, whole, monkeypatch).twin(left)
    factor.update(lams)
    Lambda, Z = dense_Lambda(whole.layout, lams), np.delete(dense_Z(rows), gone, axis=0)
    M = Lambda.T @ Z.T @ Z @ Lambda + np.eye(whole.layout.q)
    # Condition numbers of M up to 1e4 times rounding.
    assert factor.ldL2 == pytest.approx(np.linalg.slogdet(M)[1], rel=1e-10)
    rhs = np.arange(1.0, whole.layout.q + 1)
    np.testing.assert_allclose(factor.solve(rhs), np.linalg.solve(M, rhs), rtol=1e-9, atol=1e-9)


# What is left open, and what fails


def test_coefficients_that_the_other_rows_leave_open():
    fit = lmer("score ~ Machine + (1 | Worker)", frame("Machines"))
    for refit in (True, False):
        found = fit.influence("Machine", refit=refit)
        assert found.left_open.to_dict() == {
            "A": "(Intercept), MachineB, MachineC", "B": "MachineB", "C": "MachineC"
        }  # fmt: skip
        assert found.cooks_distance().isna().tolist() == [True, False, False]
        assert found.fixef().loc["B"].isna().tolist() == [False, True, False]
        assert not len(found.problems)
        assert "leave coefficients open: A ((Intercept), MachineB, MachineC), B" in str(found)
    d = fit.influence("Machine").dfbeta().loc["B"].drop("MachineB")
    V = fit.vcov().loc[d.index, d.index]
    assert found.cooks_distance()["B"] == pytest.approx(
        float(d @ np.linalg.solve(V, d)) / 2, rel=1e-5, abs=1e-10
    )


def test_a_generalized_model_with_open_coefficients():
    fit = generalized("scalar")
    for refit in (True, False):
        found = fit.influence("period", refit=refit)
        assert list(found.left_open.index) == ["1", "2", "3", "4"]
        assert found.left_open["3"] == "period3"
    rest = fit._fit.call.data
    other = fit.update(data=rest[rest["period"] != "3"])
    ours = fit.influence("period").fixef().loc["3"].dropna()
    np.testing.assert_allclose(ours, other.beta, rtol=1e-4)


def test_deletions_that_fail_are_named():
    fit = linear("vector")
    rows = fit._fit.frame.index
    subject = fit.model_frame()["Subject"]
    only = rows[subject != subject.iloc[0]]
    for refit in (True, False):
        found = fit.influence({"all": rows, "one": rows[:1]}, refit=refit)
        assert found.problems.to_dict() == {"all": "no rows are left"}
        assert not found.converged["all"]
        assert found.fixef().loc["all"].isna().all()
        assert "problems without: all (see .problems)" in str(found)
    found = fit.influence({"all but one": only, "one": rows[:1]})
    assert "must have > 1 sampled level" in found.problems["all but one"]


def test_searches_that_do_not_converge_are_named():
    fit = linear("vector")
    short = fit._fit.with_spec(control=LmerControl(max_evaluations=1))
    found = type(fit)(short).influence({"first": [0, 1, 2, 3], "second": [60, 61]})
    assert not found.converged.any()
    assert list(found.problems.index) == ["first", "second"]
    assert found.problems.str.contains("failed to converge").all()


@pytest.mark.filterwarnings("error")
def test_separation_without_a_group_is_told():
    g, x = np.repeat(np.arange(8), 12), np.tile([0, 1], 48)
    y = np.where(x == 1, g != 3, np.arange(96) % 5 < 2).astype(int)
    fit = glmer("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, "binomial")
    found = fit.influence("g")
    assert list(found.problems.index) == [3]
    assert "separation" in found.problems[3]
    assert "problems without: 3 (see .problems)" in str(found)


def test_a_response_that_few_rows_make_large():
    # What is left of cross-products has no digits then: the rows are looked at again.
    data = frame("sleepstudy").assign(Reaction=lambda d: d["Reaction"] + 1e9 * (d.index == 5))
    control = LmerControl(check_conv_singular="ignore")
    fit = lmer("Reaction ~ Days + (1 | Subject)", data, control=control)
    found = fit.influence({"it": [5]})
    other = lmer("Reaction ~ Days + (1 | Subject)", data.drop(index=5))
    np.testing.assert_allclose(found.fixef().loc["it"], other.beta, rtol=1e-6)


# Arguments, data and printing


@cache
def sleep():
    return lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


def same(one, other):
    np.testing.assert_allclose(
        one.to_frame().iloc[:, :-2], other.to_frame().iloc[:, :-2], rtol=1e-9
    )


def test_groups_in_every_form():
    fit, by_name = sleep(), sleep().influence("Subject", refit=False)
    subject = load_dataset("sleepstudy")["Subject"]
    text = subject.astype(str)
    for groups in (subject, text.to_numpy(), text.tolist(), subject.sample(frac=1.0),
                   pl.Series(text)):  # fmt: skip
        same(fit.influence(groups, refit=False), by_name)
    sets = {level: np.flatnonzero(subject == level) for level in subject.cat.categories}
    same(fit.influence(sets, refit=False), by_name)
    same(fit.influence([(subject == level) for level in sets], refit=False), by_name)
    same(pickle.loads(pickle.dumps(fit)).influence("Subject", refit=False), by_name)
    assert fit.influence("Days > 4", refit=False).n.to_dict() == {False: 90, True: 90}
    assert fit.influence(subject, refit=False).groups == "Subject"


def test_processes_give_the_same():
    one, two = (sleep().influence("Subject", n_jobs=k) for k in (1, 2))
    pd.testing.assert_frame_equal(one.to_frame(), two.to_frame())


def test_any_data_and_rows_that_are_left_out():
    data = load_dataset("sleepstudy").astype({"Reaction": float})
    data["id"] = data["Subject"].astype(str).astype(int)
    data.loc[[3, 90], "Reaction"] = np.nan
    formula = "Reaction ~ Days + I(2 * Days) + (1 | id)"
    with pytest.warns(match="rank"):
        fit = lmer(formula, data, na_action="exclude")
    found = fit.influence("id", refit=False)
    assert found.index.dtype.kind == "i"
    assert list(found.fixef()) == ["(Intercept)", "Days"]
    assert found.n[308] == 9
    rows = fit.influence(refit=False)
    assert len(rows) == 178
    assert 3 not in rows.index
    with pytest.warns(match="rank"):
        other = lmer(formula, pl.from_pandas(data))
    same(other.influence("id", refit=False), found)
    with pytest.raises(DataError, match="has the label 3, which no row of the fit has"):
        fit.influence([[3]])


@pytest.mark.parametrize("refit", [True, False])
def test_units_and_the_order_of_rows_change_nothing(refit):
    data, formula = frame("crossed"), "yw ~ x + f + (x | a) + (1 | b)"
    one = lmer(formula, data, weights="w").influence("b", refit=refit)
    other = data.sample(frac=1.0, random_state=1)
    other = other.assign(x=1e5 * (other["x"] + 3), yw=1e-3 * other["yw"], w=7 * other["w"])
    two = lmer(formula, other, weights="w").influence("b", refit=refit)
    for name in ("cooks_distance", "mdffits", "covratio"):
        values = getattr(two, name)().loc[one.index]
        # Where two searches end.
        np.testing.assert_allclose(values, getattr(one, name)(), rtol=1e-3, atol=1e-6)


def test_another_covariance_for_tests_changes_nothing():
    robust = sleep().with_vcov("CR1", cluster="Subject")
    same(robust.influence("Subject"), sleep().influence("Subject"))
    pd.testing.assert_frame_equal(robust.dfbetas(), sleep().dfbetas())


def test_most_and_the_frame():
    found = sleep().influence("Subject")
    frame_ = found.to_frame()
    assert list(frame_)[:5] == ["n", "cooks_distance", "mdffits", "covratio", "covtrace"]
    assert list(frame_)[5:7] == ["dfbetas.(Intercept)", "dfbetas.Days"]
    top = found.most(3)
    assert list(top.index) == list(found.cooks_distance().nlargest(3).index)
    assert list(found.most(1, "Days").index) == [found.dfbetas()["Days"].abs().idxmax()]
    assert list(found.most(1, "sigma").index) == [(found.sigma() - sleep().sigma).abs().idxmax()]
    assert list(found.most(1, "covratio").index) == [np.log(found.covratio()).abs().idxmax()]
    assert generalized("scalar").influence("herd", refit=False).sigma().eq(1.0).all()


def test_it_prints():
    found = sleep().influence("Subject")
    text = str(found)
    assert text.startswith("Influence of Subject on Reaction ~ Days + (Days | Subject): all param")
    assert "the 10 largest of 18 Cook's distances" in text
    assert "Cook's distance above 4/18 = 0.222: none" in text
    assert found._repr_html_().startswith("<div")
    assert "\\toprule" in found.to_latex()
    assert "| 309 |" in found.to_markdown()
    assert "covariance parameters held" in str(sleep().influence("Subject", refit=False))


def test_without_fixed_effects():
    fit = lmer("Reaction ~ 0 + (1 | Subject)", load_dataset("sleepstudy"))
    for refit in (True, False):
        found = fit.influence("Subject", refit=refit)
        assert found.cooks_distance().isna().all()
        assert found.sigma().notna().all()
        assert str(found)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ("zzz", DataError, "groups names 'zzz', which is no grouping factor of the model and no"),
        (3, ArgumentError, "groups is 3; expected a grouping factor or column of the data"),
        ([], ArgumentError, "groups is \\[\\]; expected a grouping factor"),
        ({}, ArgumentError, "expected a grouping factor or column of the data"),
        ([[]], ArgumentError, "the set of rows 0 is \\[\\]; expected labels of rows, one at least"),
        (np.arange(3), ArgumentError, "groups has 3 labels; expected 180, one for each row"),
        ({"u": [500]}, DataError, "the set of rows 'u' has the label 500, which no row"),
        ({"u": [True, False]}, ArgumentError, "the set of rows 'u' has 2 truth values; expected"),
        (np.full(180, np.nan), DataError, "groups is missing in all rows of the fit"),
        (np.ones((2, 2)), ArgumentError, "groups is an array of shape"),
    ],
)
def test_groups_that_are_not_there(groups, error, message):
    with pytest.raises(error, match=message):
        sleep().influence(groups)


def test_other_wrong_arguments():
    with pytest.raises(ArgumentError, match="influence has no nsim"):
        sleep().influence("Subject", nsim=3)
    with pytest.raises(ArgumentError, match="refit is 1; expected True or False"):
        sleep().influence("Subject", refit=1)
    found = sleep().influence("Subject", refit=False)
    with pytest.raises(ArgumentError, match="by is 'zzz'; expected one of 'cooks_distance', "):
        found.most(2, "zzz")
    with pytest.raises(ArgumentError, match="n is 0; expected a whole number"):
        found.most(0)


def test_the_task_holds_no_numbers_in_a_pickle():
    fit = sleep()._fit
    rows = row_sets(fit, "Subject").rows
    for task, work in ((Held(fit), rows[:2]), (Refit(fit), rows[0])):
        before = len(pickle.dumps(task))
        task(work)
        assert len(pickle.dumps(task)) < 1.1 * before
