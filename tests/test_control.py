"""Every option of LmerControl changes a result, and bad values are refused."""

import warnings
from dataclasses import fields

import numpy as np
import pytest
from reference_data import frame

from mixef import GlmerControl, LmerControl, lmer
from mixef.control import ACTIONS, OPTIMIZERS
from mixef.errors import (
    ConvergenceWarning,
    DataError,
    DataWarning,
    FitError,
    FormulaError,
    SingularFitWarning,
)

N = 180


def study():
    return frame("sleepstudy").assign(
        obs=np.arange(N),
        one="only",
        three=np.tile(["a", "b", "c"], 60),
        zero=0.0,
        tiny=lambda d: d["Days"] * 1e-6,
        twice=lambda d: 2 * d["Days"],
    )


# Option -> a model that it speaks about, options and arguments that bring it there, the error
# and the warning, and parts of the message: who, and what to do.
CHECKS = {
    "check_nobs_vs_nlev": (
        "Reaction ~ Days + (1 | obs)",
        {"check_nobs_vs_nRE": "ignore"},
        {},
        (DataError, DataWarning),
        ["obs has 180 levels for 180 observations", "use a coarser factor"],
    ),
    "check_nobs_vs_nRE": (
        "Reaction ~ Days + (Days + three | pair)",
        {"check_conv_hess": "ignore", "check_conv_singular": "ignore", "check_conv_grad": "ignore"},
        {},
        (DataError, DataWarning),
        ["(=180) <= number of random effects (=240)", "(Days + three | pair)", "use fewer columns"],
    ),
    "check_nlev_gtr_1": (
        "Reaction ~ Days + (1 | one)",
        {"check_conv_hess": "ignore"},
        {"REML": False},
        (DataError, DataWarning),
        ["one has only 'only'", "drop the term (1 | one)"],
    ),
    "check_nlev_gtreq_5": (
        "Reaction ~ Days + (1 | Subject) + (1 | three)",
        {},
        {},
        (DataError, DataWarning),
        ["< 5 sampled levels", "three has 3"],
    ),
    "check_rankX": (
        "Reaction ~ Days + twice + (1 | Subject)",
        {},
        {},
        (DataError, DataWarning),
        ["dropping 1 column / coefficient: twice"],
    ),
    "check_scaleX": (
        "Reaction ~ tiny + (1 | Subject)",
        {},
        {},
        (DataError, DataWarning),
        ["very different scales", "tiny has standard deviation 2.9e-06", "rescaling"],
    ),
    "check_duplicate_terms": (
        "Reaction ~ Days + (1 | Subject) + (Days | Subject)",
        {"check_conv_hess": "ignore"},
        {},
        (FormulaError, DataWarning),
        ["(Intercept) of Subject", "(1 | Subject)", "drop it from one of them"],
    ),
    "check_conv_grad": (
        "Reaction ~ Days + (Days | Subject)",
        {"max_evaluations": 1},
        {"start": [3, 0, 3]},
        (FitError, ConvergenceWarning),
        ["failed to converge", "Subject", "raise max_evaluations"],
    ),
    "check_conv_hess": (
        "Reaction ~ Days + (0 + zero | Subject)",
        {},
        {},
        (FitError, ConvergenceWarning),
        ["nearly unidentifiable", "Subject.zero", "simplify the random effects"],
    ),
    "check_conv_singular": (
        "Reaction ~ Days + (1 | Subject) + (1 | three)",
        {},
        {},
        (FitError, SingularFitWarning),
        ["boundary (singular) fit", "(1 | three) is zero"],
    ),
}


def data():
    return study().assign(pair=np.repeat(np.arange(60), 3))


def outcome(option, action):
    """What a fit with one check at one action raises and warns, other checks being off."""
    formula, options, arguments, _, _ = CHECKS[option]
    off = {f.name: "ignore" for f in fields(LmerControl) if f.name.startswith("check_")}
    control = LmerControl(**{**off, **options, option: action})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        lmer(formula, data(), control=control, **arguments)
    return [(w.category, str(w.message)) for w in seen]


def test_every_check_is_tested():
    names = {f.name for f in fields(LmerControl)}
    assert names == {*CHECKS, "optimizer", "max_evaluations", "factor", "objective_se"}


@pytest.mark.parametrize("option", CHECKS)
def test_ignore_is_silent(option):
    assert outcome(option, "ignore") == []


@pytest.mark.parametrize("option", CHECKS)
def test_warn_warns_once_and_fits(option):
    _, _, _, (_, category), parts = CHECKS[option]
    seen = outcome(option, "warn")
    assert [c for c, _ in seen] == [category]
    assert all(part in seen[0][1] for part in parts), seen[0][1]


@pytest.mark.parametrize("option", CHECKS)
def test_raise_raises_the_same_message(option):
    _, _, _, (error, _), parts = CHECKS[option]
    with pytest.raises(error) as caught:
        outcome(option, "raise")
    assert type(caught.value) is error
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_the_defaults_are_those_of_lme4():
    # lme4's lmerControl(): the same, but that check.scaleX warns there, where scales do harm.
    control = LmerControl()
    assert [n for n in CHECKS if getattr(control, n) == "raise"] == [
        "check_nobs_vs_nlev", "check_nobs_vs_nRE", "check_nlev_gtr_1",
    ]  # fmt: skip
    assert [n for n in CHECKS if getattr(control, n) == "ignore"] == [
        "check_nlev_gtreq_5", "check_scaleX",
    ]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimizer_is_the_one_that_was_asked_for(optimizer):
    formula = "Reaction ~ Days + (Days | Subject)"
    fit = lmer(formula, study(), control=LmerControl(optimizer=optimizer))
    short = lmer(formula, study(), optimizer=optimizer)
    assert fit.convergence.optimizer == short.convergence.optimizer == optimizer
    assert fit.convergence.n_evaluations == short.convergence.n_evaluations
    both = lmer(formula, study(), optimizer=optimizer, control=LmerControl(check_rankX="raise"))
    assert both._fit.control == LmerControl(optimizer=optimizer, check_rankX="raise")
    assert fit.update("~ . - Days")._fit.control.optimizer == optimizer


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_max_evaluations_ends_every_search(optimizer):
    counts = {}
    for limit in (5, 1000):
        control = LmerControl(optimizer, limit, check_conv_grad="ignore", check_conv_hess="ignore")
        arguments = {"start": [0.6, 0.05, 0.15], "control": control}
        fit = lmer("Reaction ~ Days + (Days | Subject)", study(), **arguments)
        counts[limit] = fit.convergence.n_evaluations
    assert counts[5] < counts[1000] <= 1000
    if optimizer in ("newton", "Nelder-Mead"):  # others look at the limit after a line search
        assert counts[5] == 5


@pytest.mark.parametrize("option", CHECKS)
@pytest.mark.parametrize("value", ["stop", "error", None, True, ["warn"]])
def test_actions_are_one_of_three(option, value):
    with pytest.raises(ValueError, match=f"{option} is .*; expected one of") as caught:
        LmerControl(**{option: value})
    assert all(action in str(caught.value) for action in ACTIONS)


@pytest.mark.parametrize("value", [0, -3, 2.5, "many", None])
def test_max_evaluations_is_a_positive_whole_number(value):
    with pytest.raises(ValueError, match=r"max_evaluations is .*; expected a whole number"):
        LmerControl(max_evaluations=value)
    assert LmerControl(max_evaluations=np.int64(5)).max_evaluations == 5


@pytest.mark.parametrize("value", ["bobyqa", 3, None, ("newton",)])
def test_optimizers_are_known_by_name(value):
    with pytest.raises(ValueError, match=r"optimizer is .*; expected one of") as caught:
        LmerControl(optimizer=value)
    assert all(name in str(caught.value) for name in OPTIMIZERS)


def test_options_are_taken_in_any_case():
    control = LmerControl("NELDER-MEAD", check_rankX="Raise")
    assert (control.optimizer, control.check_rankX) == ("Nelder-Mead", "raise")
    assert GlmerControl(information="Observed").information == "observed"


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="check_rank"):
        LmerControl(check_rank="warn")
