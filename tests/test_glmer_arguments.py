"""The arguments of glmer, glmer_nb, update and refit: what they change, and what they refuse."""

import inspect
import re

import numpy as np
import pandas as pd
import pytest
from reference_data import frame

from mixef import (
    Binomial,
    GeneralizedLinearMixedModel,
    GlmerControl,
    LmerControl,
    NegativeBinomial,
    Poisson,
    glmer,
    glmer_nb,
    load_dataset,
)
from mixef.errors import DataError, FormulaError

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
SHARE = "incidence / size ~ period + (1 | herd)"
TICKS = "TICKS ~ YEAR + (1 | BROOD)"


@pytest.fixture(scope="module")
def fit():
    return glmer(CBPP, load_dataset("cbpp"), "binomial")


@pytest.fixture(scope="module")
def use():
    return glmer("use ~ age + (1 | district)", load_dataset("Contraception"), "binomial")


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "glmer needs a family: 'binomial', .* for a Gaussian response use lmer"),
        ({"family": "quasipoisson"}, ValueError, '"quasi" families cannot be used in glmer'),
        ({"family": "binomal"}, ValueError, "there is no family 'binomal'"),
        ({"family": 3}, ValueError, "family is 3; expected one of"),
        ({"REML": True}, TypeError, "glmer has no REML: .* fitted by maximum likelihood"),
        ({"nagq": 3}, TypeError, "glmer has no nagq: use nAGQ="),
        ({"nAGQ": -1}, ValueError, "nAGQ is -1; expected a whole number, from 0"),
        ({"nAGQ": 1.5}, ValueError, "nAGQ is 1.5; expected a whole number"),
        ({"control": LmerControl()}, TypeError, "expected an instance of GlmerControl"),
        ({"control": {"optimizer": "newton"}}, TypeError, "expected an instance of GlmerControl"),
        ({"control": LmerControl(), "optimizer": "newton"}, TypeError, "instance of GlmerControl"),
        ({"optimizer": "bobyqa"}, ValueError, "optimizer is 'bobyqa'"),
        ({"na_action": "pass"}, ValueError, "na_action is 'pass'"),
        ({"weights": "none"}, FormulaError, "none"),
        ({"start": {"alpha": 1.0}}, DataError, r"start has the keys \['alpha'\]"),
        ({"start": {"theta": [1.0, 2.0]}}, DataError, "are 2 values; expected 1"),
    ],
)
def test_what_glmer_refuses(arguments, error, message):
    if not ({"family", "REML"} & set(arguments)) and arguments:
        arguments = {"family": "binomial"} | arguments
    with pytest.raises(error, match=message):
        glmer(CBPP, load_dataset("cbpp"), **arguments)


def test_what_glmer_nb_refuses():
    data = load_dataset("grouseticks")
    with pytest.raises(TypeError, match="it fits the negative binomial family only"):
        glmer_nb(TICKS, data, family="poisson")
    with pytest.raises(TypeError, match="glmer_nb has no REML"):
        glmer_nb(TICKS, data, REML=False)
    with pytest.raises(TypeError, match="glmer_nb has no theta"):
        glmer_nb(TICKS, data, theta=2)
    with pytest.raises(DataError, match="a negative binomial model has the value -1"):
        glmer_nb(TICKS, data.assign(TICKS=-1.0))


def test_quadrature_needs_one_grouping_factor():
    with pytest.raises(DataError, match="nAGQ = 5 needs a single grouping factor"):
        glmer_nb("TICKS ~ YEAR + (1 | BROOD) + (1 | LOCATION)", load_dataset("grouseticks"), 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda fit: fit.residuals("partial"), ValueError, "type is 'partial'; expected one of"),
        (lambda fit: fit.weights("both"), ValueError, "type is 'both'; expected 'prior' or"),
        (lambda fit: fit.predict(type="terms"), ValueError, "type is 'terms'; expected 'response'"),
        (lambda fit: fit.coef_table(ddf="KR"), ValueError, "a generalized model has z tests"),
        (lambda fit: fit.summary(ddf="KR"), ValueError, "a generalized model has z tests"),
        (lambda fit: fit.getME("Xt"), ValueError, "getME knows no 'Xt'"),
        (lambda fit: fit.update(REML=True), TypeError, "has no REML"),
        (lambda fit: fit.update(nsim=3), TypeError, "glmer has no nsim: its arguments are"),
        (lambda fit: fit.update(control=LmerControl()), TypeError, "instance of GlmerControl"),
        (lambda fit: fit.update(family=None), TypeError, "glmer needs a family"),
    ],
)
def test_what_a_fit_refuses(fit, call, error, message):
    with pytest.raises(error, match=message):
        call(fit)


def test_new_levels(fit):
    new = pd.DataFrame({"period": ["1"], "herd": ["99"]})
    with pytest.raises(DataError, match="new levels detected in newdata: 99 of herd"):
        fit.predict(new)
    assert np.isnan(fit.predict(new, new_levels="missing")).all()


# What is changed


def test_the_signature_has_the_agreed_names():
    names = list(inspect.signature(glmer).parameters)
    assert names[:4] == ["formula", "data", "family", "nAGQ"]
    rest = "weights offset subset na_action contrasts start control optimizer verbose env unknown"
    assert names[4:] == rest.split()
    assert list(inspect.signature(glmer_nb).parameters)[:4] == ["formula", "data", "nAGQ", "link"]


@pytest.mark.parametrize("family", ["binomial", Binomial, Binomial(), "binomial(logit)"])
def test_a_family_may_be_text_class_or_object(fit, family):
    other = glmer(CBPP, load_dataset("cbpp"), family)
    assert other.family == fit.family
    assert other.objective == pytest.approx(fit.objective, abs=1e-9)


def test_shares_with_trials_as_weights(fit):
    other = glmer(SHARE, load_dataset("cbpp"), "binomial", weights="size")
    assert other.objective == pytest.approx(fit.objective, abs=1e-9)
    np.testing.assert_allclose(other.beta, fit.beta, rtol=1e-6)
    assert other.weights().tolist() == fit.weights().tolist()


def test_glmer_nb_is_glmer_with_its_family():
    data = load_dataset("grouseticks")
    ours, same = glmer_nb(TICKS, data), glmer(TICKS, data, "nbinom2")
    assert ours.objective == pytest.approx(same.objective, abs=1e-9)
    assert glmer_nb(TICKS, data, link="sqrt").family == NegativeBinomial(link="sqrt")
    assert glmer_nb(TICKS, data, 3).nAGQ == 3


def test_starts_and_optimizers_end_at_one_optimum(fit):
    data = load_dataset("cbpp")
    starts = [{"theta": [2.0]}, {"par": [0.1], "beta": [-1.0, 0.0, 0.0, 0.0]}, [1.5]]
    for start in starts:
        other = glmer(CBPP, data, "binomial", start=start)
        assert other.objective == pytest.approx(fit.objective, abs=1e-7)
    quasi = glmer(CBPP, data, "binomial", optimizer="L-BFGS-B")
    assert quasi._fit.control == GlmerControl(optimizer="L-BFGS-B")
    assert quasi.objective == pytest.approx(fit.objective, abs=1e-5)
    ticks = load_dataset("grouseticks")
    shapes = [glmer_nb(TICKS, ticks, start={"shape": shape}).shape for shape in (0.5, 20.0)]
    assert shapes[0] == pytest.approx(shapes[1], rel=1e-5)


def test_verbose_prints_each_evaluation(capsys):
    glmer(CBPP, load_dataset("cbpp"), "binomial", verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert all(re.match(r"criterion \d+", line) for line in lines)


def test_subset_and_offset_and_contrasts():
    data = load_dataset("cbpp")
    some = glmer(CBPP, data, "binomial", subset="period != '4'")
    assert some.nobs == 43
    moved = glmer(CBPP, data, "binomial", offset=np.ones(56))
    assert moved.beta[0] == pytest.approx(glmer(CBPP, data, "binomial").beta[0] - 1, rel=1e-6)
    sums = glmer(CBPP, data, "binomial", contrasts={"period": "sum"})
    assert list(sums.fixef().index) == ["(Intercept)", "period1", "period2", "period3"]


# update


def test_update_keeps_what_is_not_changed(fit):
    assert fit.update().objective == pytest.approx(fit.objective, abs=1e-9)
    nodes = fit.update(nAGQ=9)
    assert nodes.nAGQ == 9
    assert nodes.family == fit.family
    assert nodes.update(". ~ . - period").nAGQ == 9
    assert fit.update(family="binomial(probit)").family.link.name == "probit"
    quick = fit.update(optimizer="L-BFGS-B")
    assert quick._fit.control.optimizer == "L-BFGS-B"
    assert quick.update()._fit.control.optimizer == "L-BFGS-B"


def test_update_of_data_and_weights():
    data = load_dataset("cbpp")
    fit = glmer(SHARE, data, "binomial", weights="size")
    half = fit.update(data=data.head(30))
    assert half.nobs == 30
    assert half.weights().tolist() == data["size"].head(30).tolist()
    double = fit.update(weights=2 * data["size"].to_numpy())
    assert double.weights().tolist() == (2 * data["size"]).tolist()
    poisson = glmer(TICKS, load_dataset("grouseticks"), Poisson())
    assert poisson.update(family="nbinom2").shape is not None
    assert type(poisson.update()) is GeneralizedLinearMixedModel


# refit


def test_refit_of_counts_of_successes(fit):
    data = load_dataset("cbpp")
    y = np.column_stack([data["incidence"], data["size"] - data["incidence"]])
    again = fit.refit(y)
    assert again.objective == pytest.approx(fit.objective, abs=1e-9)
    swapped = fit.refit(y[:, ::-1])
    np.testing.assert_allclose(swapped.beta, -fit.beta, rtol=1e-5)
    assert swapped.weights().tolist() == fit.weights().tolist()


def test_refit_keeps_weights_and_nodes():
    data = load_dataset("cbpp")
    fit = glmer(SHARE, data, "binomial", 5, weights="size")
    share = (data["incidence"] / data["size"]).to_numpy()
    again = fit.refit(share)
    assert again.nAGQ == 5
    assert again.objective == pytest.approx(fit.objective, abs=1e-9)
    weighted = glmer(CBPP, data, "binomial", weights=np.full(56, 2.0))
    y = np.column_stack([data["incidence"], data["size"] - data["incidence"]])
    assert weighted.refit(y).weights().tolist() == (2 * data["size"]).tolist()


def test_refit_of_a_factor(use):
    y = load_dataset("Contraception")["use"]
    for values in (y, list(y), (y == "Y").to_numpy(), (y == "Y").astype(float)):
        again = use.refit(values)
        assert again.objective == pytest.approx(use.objective, abs=1e-9)
        assert "Modelled: probability of use = Y" in str(again.summary())


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (np.zeros(1934), None),
        (np.zeros(3), r"has shape \(3,\); expected \(1934,\): one value for each row"),
        (np.full(1934, 2.0), "use"),
        (["a"] * 1934, "has the level 'a'; expected N and Y, or 0 and 1"),
        (np.full(1934, np.nan), "NA/NaN/Inf in the new response"),
    ],
)
def test_what_refit_refuses(use, response, message):
    with pytest.raises(DataError, match=message or "Response is constant"):
        use.refit(response)


def test_refit_refuses_another_kind(fit):
    with pytest.raises(DataError, match=r"shape \(56,\); expected \(56, 2\): successes and"):
        fit.refit(np.zeros(56))
    with pytest.raises(DataError, match="has a negative count in row 0"):
        fit.refit(np.full((56, 2), -1.0))
    counts = glmer_nb(TICKS, frame("grouseticks"))
    with pytest.raises(DataError, match="must be numeric, but it is a character"):
        counts.refit(["a"] * 403)
    with pytest.raises(DataError, match="a negative binomial model has the value -1"):
        counts.refit(np.full(403, -1.0))
