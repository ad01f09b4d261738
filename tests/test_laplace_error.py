"""Where Laplace's approximation is poor, and where observed information leads nowhere."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from simulated_glmm import criterion, lenient, simulated, trials_of

from mixef import GlmerControl, glmer, load_dataset
from mixef.errors import ConvergenceWarning, FitError
from mixef.estimation.generalized import pirls as pirls
from mixef.estimation.generalized.quadrature import Quadrature

POOR = "Laplace's approximation is poor here: .* may be off by about .*; use nAGQ=25"


def quiet(**options):
    return GlmerControl(check_conv_singular="ignore", **options)


@pytest.mark.parametrize(
    ("cell", "information"),
    [
        ("binomial(logit)", None),
        ("binomial(cloglog)", "observed"),
        ("binomial(cloglog)", "expected"),
        ("poisson(log)", None),
        ("Gamma(log)", None),
        ("nbinom2(log)", "observed"),
    ],
)
def test_the_next_terms_foretell_quadrature(cell, information):
    data, formula = simulated(cell), "y ~ x + (1 | g)"
    laplace, many = (
        criterion(formula, data, cell, nAGQ, trials_of(cell), information=information)[0]
        for nAGQ in (1, 25)
    )
    lack = []
    for share in (0.5, 1.0):
        par, beta, extra = laplace.split(laplace.start())
        point = laplace.join(share * par, beta, extra)
        laplace.value(point)
        error = laplace.laplace_error(point)
        par, beta, extra = laplace.split(point)
        at = many.scaled_point(laplace.terms.user_par(par),
                               laplace.problem.user_beta(beta), extra)  # fmt: skip
        exact = 0.5 * (laplace.value(point) - many.value(at))
        # What is left is of the next order, in the size of the terms.
        assert error.shift == pytest.approx(exact, rel=0.1, abs=0.3 * error.size * error.ratio)
        lack.append(exact)
    assert abs(lack[0]) < abs(lack[1])


def binary(sd, rows):
    rng = np.random.default_rng(5)
    g, x = np.repeat(np.arange(100), rows), rng.normal(size=100 * rows)
    eta = x + sd * rng.normal(size=100)[g]
    return pd.DataFrame(
        {"y": (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int), "x": x, "g": g}
    )


def test_few_binary_rows_and_a_large_variance():
    data = binary(4, 7)
    with pytest.warns(ConvergenceWarning, match=POOR):
        fit = glmer("y ~ x + (1 | g)", data, "binomial")
    assert fit.converged
    (remark,) = fit.convergence.remarks
    assert remark in str(fit.convergence)
    assert remark[:40] in str(fit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        better = glmer("y ~ x + (1 | g)", data, "binomial", nAGQ=25)
        assert glmer("y ~ x + (1 | g)", data, "binomial", control=quiet(check_laplace="ignore"))
    # Laplace's value is wrong by several units, as foretold.
    assert better.loglik - fit.loglik > 3
    with pytest.raises(FitError, match=POOR):
        glmer("y ~ x + (1 | g)", data, "binomial", control=quiet(check_laplace="raise"))


def test_with_several_factors_more_nodes_are_no_remedy():
    data = binary(4, 7)
    data["h"] = np.arange(700) % 7
    with pytest.warns(ConvergenceWarning, match="use simpler random effects, or collect more data"):
        glmer("y ~ x + (1 | g) + (1 | h)", data, "binomial", control=quiet())


# Quadrature with too few nodes


def large_effects():
    """Ten binary rows a level, and a standard deviation that makes most levels alike."""
    return binary(8, 10)


@pytest.mark.parametrize("k", [2, 5, 9])
def test_quadrature_with_too_few_nodes_says_by_how_much_it_is_off(k):
    with pytest.warns(ConvergenceWarning, match=f"quadrature with nAGQ={k} is poor here"):
        fit = glmer("y ~ x + (1 | g)", large_effects(), "binomial", nAGQ=k)
    assert fit.converged
    (remark,) = fit.convergence.remarks
    assert remark in str(fit.convergence)
    more, said = re.search(r"with nAGQ=(\d+) the .* is (.*) at these", remark).groups()
    assert remark.endswith(f"use nAGQ={more}")
    assert int(more) == 2 * k
    size, direction = said.split()
    at = fit._fit.criterion()
    at.value(fit._fit.point)
    best = Quadrature(at.model, at._mode, at._levels, None, 100).correction
    lacks = 0.5 * (at.quadrature.correction - best)
    assert (1.0 if direction == "larger" else -1.0) * float(size) == pytest.approx(lacks, rel=0.25)


def test_enough_nodes_say_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = glmer("y ~ x + (1 | g)", large_effects(), "binomial", nAGQ=60)
        most = glmer("y ~ x + (1 | g)", large_effects(), "binomial", nAGQ=100)
        few = glmer("y ~ x + (1 | g)", large_effects(), "binomial", nAGQ=5,
                    control=quiet(check_laplace="ignore"))  # fmt: skip
    assert fit.loglik == pytest.approx(most.loglik, abs=0.05)
    assert few.loglik < fit.loglik - 1
    with pytest.raises(FitError, match="quadrature with nAGQ=5 is poor here"):
        glmer("y ~ x + (1 | g)", large_effects(), "binomial", nAGQ=5,
              control=quiet(check_laplace="raise"))  # fmt: skip


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("k", [2, 3, 9])
def test_twice_as_many_nodes_in_all(columns, k):
    terms = {1: "(1 | g)", 2: "(x | g)", 3: "(x + I(x^2) | g)"}[columns]
    options = {"control": quiet(check_conv_grad="ignore", max_evaluations=1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = glmer(f"y ~ x + {terms}", binary(1, 10), "binomial", nAGQ=k, **options)
    at = fit._fit.criterion()
    at.value(fit._fit.point)
    finer = at.quadrature.with_twice_as_many(100)
    assert finer.k == round((2 * k**columns) ** (1 / columns)) > k
    assert at.quadrature.with_twice_as_many(k + 1).k == k + 1
    assert at.quadrature.with_twice_as_many(k) is None


def test_an_integrand_that_an_identity_link_cuts_off():
    """Levels without a count: the mode of their effects is at the end of what is possible."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(12), 6)
    mean = np.maximum(1.0 + 0.5 * rng.normal(size=12)[g], 0.02)
    y = np.where(g < 2, 0, rng.poisson(mean))
    data = pd.DataFrame({"y": y, "g": g})
    with pytest.warns(ConvergenceWarning, match="quadrature with nAGQ=9 is poor here"):
        glmer("y ~ 1 + (1 | g)", data, "poisson(identity)", nAGQ=9)


EVERYDAY = {
    "cbpp": ("cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial"),
    "Contraception": ("use ~ age + urban + livch + (urban | district)", "binomial"),
    "grouseticks": ("TICKS ~ YEAR + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson"),
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", "Gamma(log)"),
}


@pytest.mark.parametrize("name", EVERYDAY)
def test_everyday_models_are_no_cause_for_alarm(name):
    formula, family = EVERYDAY[name]
    fit = glmer(formula, load_dataset(name), family, control=quiet())
    assert fit.converged
    assert fit.convergence.remarks == ()


# Observed information that is negative: identity links


def nested(family, seed):
    """Four sites of twelve families of two; small means, and responses that are very skew."""
    rng = np.random.default_rng(seed)
    site, fam = np.repeat(np.arange(4), 24), np.tile(np.repeat(np.arange(12), 2), 4)
    x = rng.normal(size=96)
    own, shared = rng.normal(size=4)[site], rng.normal(size=48)[site * 12 + fam]
    mu = np.maximum(12 + 2 * own + 4 * shared + x, 2)
    y = rng.gamma(1.2, mu / 1.2) + 0.5
    if family.startswith("nbinom2"):
        y = rng.poisson(y)
    return pd.DataFrame({"y": y, "x": x, "site": site, "fam": fam})


FELL_BACK = "observed information leads to no maximum .* expected information has taken its place"
IDENTITY = [
    ("nbinom2(identity)", 10),
    ("Gamma(identity)", 7),
    ("inverse.gaussian(identity)", 0),
]


@pytest.mark.filterwarnings("ignore:Laplace's approximation is poor")
@pytest.mark.parametrize(("family", "seed"), IDENTITY)
def test_expected_information_takes_the_place_of_observed(family, seed):
    data, formula = nested(family, seed), "y ~ x + (1 | site/fam)"
    with pytest.warns(ConvergenceWarning, match=FELL_BACK):
        fit = glmer(formula, data, family, control=quiet())
    assert fit.converged
    expected = glmer(formula, data, family, control=quiet(information="expected"))
    assert fit.loglik == expected.loglik
    assert "expected information has taken its place" in str(fit.convergence)
    assert "observed information leads to no maximum" in str(fit)
    # What follows is by the same information.
    assert fit._fit.control.information == "expected"
    assert fit.refit(data["y"]).loglik == pytest.approx(fit.loglik, rel=0, abs=1e-6)


def test_information_that_was_asked_for_is_kept():
    data, control = nested("Gamma(identity)", 7), quiet(information="observed")
    with pytest.warns(ConvergenceWarning, match="failed to converge"):
        fit = glmer("y ~ x + (1 | site/fam)", data, "Gamma(identity)", control=control)
    assert not any("has taken its place" in remark for remark in fit.convergence.remarks)


def test_where_both_fail_the_first_failure_is_told():
    data = simulated("Gamma(log)")
    data["x"] = data["y"]
    with pytest.raises(FitError, match="fit the response exactly"):
        glmer("y ~ 0 + x + (1 | g)", data, "Gamma(identity)", control=lenient())


@pytest.mark.filterwarnings("ignore:Laplace's approximation is poor")
@pytest.mark.parametrize(("family", "seed"), [("nbinom2(identity)", 10), ("Gamma(identity)", 7)])
def test_saddles_are_given_up_soon(monkeypatch, family, seed):
    """Where observed information is not positive the score vanishes at saddles, not at modes.

    The search for a mode took 70 to 100 steps each there, and came to no end.
    """
    steps, modes = [], []
    newton_step, mode_from = pirls._newton_step, pirls._mode_from
    monkeypatch.setattr(pirls, "_newton_step", lambda *a: steps.append(0) or newton_step(*a))
    monkeypatch.setattr(pirls, "_mode_from", lambda *a: modes.append(0) or mode_from(*a))
    with pytest.warns(ConvergenceWarning, match=FELL_BACK):
        fit = glmer("y ~ x + (1 | site/fam)", nested(family, seed), family, control=quiet())
    assert fit.converged
    assert len(steps) < 20 * len(modes)


@pytest.mark.filterwarnings("ignore:Laplace's approximation is poor")
def test_a_maximum_by_observed_information_that_is_too_high_is_remarked_on():
    """It converges 2 above the likelihood by quadrature, to which expected is nearer."""
    data, formula = nested("nbinom2(identity)", 1), "y ~ x + (1 | site:fam)"
    observed, expected = (
        glmer(formula, data, "nbinom2(identity)", control=quiet(information=information))
        for information in ("observed", "expected")
    )
    exact = glmer(formula, data, "nbinom2(identity)", nAGQ=25, control=quiet())
    assert observed.converged
    assert observed.loglik > exact.loglik + 1.0
    assert abs(expected.loglik - exact.loglik) < abs(observed.loglik - exact.loglik)
    assert "Laplace's approximation is poor" in str(observed.convergence)
