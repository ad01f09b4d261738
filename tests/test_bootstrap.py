"""Bootstrap replicates against R, against exact moments, and against fits of resampled data."""

import re

import numpy as np
import pandas as pd
import pytest
from reference_data import frame, read_reference

from mixef import LmerControl, glmer, lmer, load_dataset
from mixef.errors import FitError
from mixef.inference.refits.other_rows import fit_to_rows, outermost, with_levels
from mixef.inference.resampling.bootstrap import (
    boot_intervals,
    bootstrap,
    reflated_effects,
    residual_responses,
    semiparametric_responses,
)
from mixef.inference.resampling.bootstrap_result import bootstrap_limits, quantile

QUIET = LmerControl(check_conv_singular="ignore", check_conv_hess="ignore")
SLEEP = "Reaction ~ Days + (Days | Subject)"
# The names of bootMer's statistics in pbmodcomp.R, in our order.
IN_R = ["sd_(Intercept)", "sd_Days", "cor", "sigma", "(Intercept)", "Days"]


def reference():
    return read_reference("pbmodcomp.json")


@pytest.fixture(scope="module")
def sleep():
    return lmer(SLEEP, load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def cbpp():
    return glmer(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", load_dataset("cbpp"), "binomial"
    )


# ---------------------------------------------------------------------- against R


@pytest.mark.parametrize("position", range(3), ids=["99", "200", "1000"])
@pytest.mark.parametrize("place", range(2), ids=["95 %", "80 %"])
@pytest.mark.parametrize("type", ["perc", "basic", "norm"])
def test_limits_are_those_of_boot(position, place, type):
    """boot.ci of the R package boot 1.3-28.1 on the same replicates (pbmodcomp.R)."""
    case = reference()["intervals"][position]
    expected = case["by_level"][place]
    t0 = pd.Series({"t": case["t0"]})
    found = bootstrap_limits(t0, pd.DataFrame({"t": case["t"]}), expected["level"], type)
    # The same formulas on the same numbers; frozen with 12 digits.
    assert found.to_numpy()[0] == pytest.approx(expected[type], rel=1e-10)


@pytest.mark.parametrize("type", ["parametric", "semiparametric"])
def test_moments_are_those_of_bootMer(sleep, type):
    """lme4 1.1-31's bootMer(nsim=2000), semiparametric with use.u=TRUE (pbmodcomp.R)."""
    R = reference()["bootMer"][type]
    n = 2000
    draws = sleep.bootstrap(n, type=type, use_u=type == "semiparametric", seed=5)
    mean, sd = np.array(R["mean"]), np.array(R["sd"])
    assert draws.t0.to_numpy() == pytest.approx([R["t0"][name] for name in IN_R], rel=1e-5)
    se = draws.se.to_numpy()
    # Both are random: 4.5 standard errors of a difference of two means, and of two standard
    # deviations of nearly normal values (1 / sqrt(2 n) each, relatively; 1.3 for other tails).
    mean_error = 4.5 * se * np.sqrt(1 / n + 1 / R["n"])
    assert (np.abs(draws.replicates.mean() - mean) < mean_error).all()
    assert se == pytest.approx(sd, rel=4.5 * 1.3 * np.sqrt(1 / n))


# ---------------------------------------------------------------------- responses


def test_a_function_sees_the_replicates_of_the_default(sleep):
    default = sleep.bootstrap(12, seed=3)
    one_by_one = sleep.bootstrap(12, fn=lambda model: model.fixef(), seed=3)
    # The batched search and the single one end at one optimum, flat to about 1e-9 of beta.
    pd.testing.assert_frame_equal(
        one_by_one.replicates, default.replicates[["(Intercept)", "Days"]], rtol=1e-7
    )
    assert default.n_singular == one_by_one.n_singular


def test_a_generalized_model(cbpp):
    default = cbpp.bootstrap(60, seed=3)
    some = cbpp.bootstrap(5, fn=lambda model: model.fixef(), seed=3)
    fixed = default.replicates.iloc[:, 1:]
    assert list(default.t0.index) == ["sd_(Intercept)|herd", *cbpp.fixef().index]
    # Draws of five replicates are not the first five of sixty; the estimates have one spread.
    assert some.replicates.shape == (5, 4)
    se = np.sqrt(np.diag(cbpp.vcov()))
    # 60 replicates: a standard error is known to 9 %; five times that, with some room for bias.
    assert fixed.std().to_numpy() == pytest.approx(se, rel=0.45)
    assert (np.abs(fixed.mean() - cbpp.fixef()) < 5 * se / np.sqrt(60) + 0.1 * se).all()


@pytest.mark.parametrize("type", ["parametric", "semiparametric"])
def test_use_u_holds_the_random_effects(sleep, type):
    """Then beta varies by the residuals alone: least squares with subjects as fixed effects."""
    draws = sleep.bootstrap(400, type=type, use_u=True, seed=4)
    free = sleep.bootstrap(400, type=type, seed=4)
    days = sleep.getME("X")["Days"].to_numpy()
    residual = draws.t0["sigma"] if type == "parametric" else sleep.residuals().std(ddof=0)
    # Balanced, with every slope estimated by its own subject: sigma / sqrt(18 SS(days)).
    expected = residual / np.sqrt(((days - days.mean()) ** 2).sum())
    assert draws.se["Days"] == pytest.approx(expected, rel=4 / np.sqrt(2 * 400))
    assert free.se["Days"] > 1.5 * draws.se["Days"]


@pytest.mark.parametrize("type", ["parametric", "residual", "cases"])
@pytest.mark.parametrize("given", [None, "sigma"], ids=["default", "function"])
def test_same_seed_same_result_on_several_processes(sleep, type, given):
    fn = None if given is None else sigma_of
    alone = sleep.bootstrap(23, fn=fn, type=type, seed=8)
    both = sleep.bootstrap(23, fn=fn, type=type, seed=8, n_jobs=2)
    pd.testing.assert_frame_equal(alone.replicates, both.replicates, rtol=1e-9)
    generator = np.random.default_rng(8)
    pd.testing.assert_frame_equal(
        sleep.bootstrap(23, fn=fn, type=type, seed=generator).replicates, alone.replicates
    )
    other = sleep.bootstrap(23, fn=fn, type=type, seed=9)
    assert (other.replicates != alone.replicates).to_numpy().any()


def sigma_of(model):
    return model.sigma


def weighted():
    return lmer("Reaction ~ Days + (Days | Subject)", frame("sleepstudy_w"), weights="w")._fit


MODELS = {
    "vector": lambda: lmer(SLEEP, load_dataset("sleepstudy"))._fit,
    "two terms": lambda: lmer(SLEEP.replace("|", "||"), load_dataset("sleepstudy"))._fit,
    "crossed": lambda: lmer(
        "diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin")
    )._fit,
    "nested": lambda: lmer("strength ~ 1 + (1 | batch/cask)", load_dataset("Pastes"))._fit,
    "weighted": weighted,
    "offset": lambda: lmer(
        "Reaction ~ Days + (1 | Subject)", frame("sleepstudy_w"), offset="2*Days"
    )._fit,
    "zero variance": lambda: lmer(
        "Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff2"), control=QUIET
    )._fit,
    "singular": lambda: lmer(
        "yup ~ x + (x | g)", frame("vector"), control=QUIET
    )._fit,
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def fit(request):
    return MODELS[request.param]()


def test_reflated_modes_have_the_estimated_covariance(fit):
    """The aim of Carpenter, Goldstein and Rasbash (2003), exactly and whatever is singular."""
    for members in fit.groups.values():
        modes = np.hstack(reflated_effects(fit, members))
        blocks = [fit.estimates.sigma**2 * fit.estimates.lams[t] for t in members]
        blocks = [B @ fit.estimates.lams[t].T for B, t in zip(blocks, members, strict=True)]
        expected = np.zeros((modes.shape[1],) * 2)
        at = 0
        for B in blocks:
            expected[at : at + len(B), at : at + len(B)] = B
            at += len(B)
        size = max(np.abs(expected).max(), 1e-12)
        assert modes.mean(axis=0) == pytest.approx(0, abs=1e-9 * np.sqrt(size))
        assert modes.T @ modes / len(modes) == pytest.approx(expected, abs=1e-9 * size)


@pytest.mark.parametrize("draw", [semiparametric_responses, residual_responses])
def test_responses_have_the_moments_of_the_model(fit, draw):
    n = 4000
    Y = draw(fit, n, np.random.default_rng(2))
    e = fit.estimates
    mean = fit.X @ e.beta + (0 if fit.frame.offset is None else fit.frame.offset)
    V = np.zeros((fit.frame.n,) * 2)
    for term, lam in zip(fit.terms, e.lams, strict=True):
        same = term.grouping.codes[:, None] == term.grouping.codes
        V += same * (term.z @ (e.sigma**2 * lam @ lam.T) @ term.z.T)
    rest = (fit.frame.y - fit.eta) * np.sqrt(
        1.0 if fit.frame.weights is None else fit.frame.weights
    )
    # Residuals of the semiparametric bootstrap are those of the fit, which are too small.
    residual = e.sigma**2 if draw is residual_responses else np.var(rest)
    V += np.diag(
        residual / (np.ones(fit.frame.n) if fit.frame.weights is None else fit.frame.weights)
    )
    sd = np.sqrt(np.diag(V))
    # The largest of a few hundred means and of up to 40,000 covariances of 4000 draws; values of
    # few levels have heavier tails than normal ones.
    assert np.abs((Y.mean(axis=1) - mean) / sd).max() < 5.0 / np.sqrt(n)
    assert np.abs((np.cov(Y) - V) / np.outer(sd, sd)).max() < 9.0 / np.sqrt(n)


def test_semiparametric_with_modes_draws_the_residuals(fit):
    root = np.sqrt(np.ones(fit.frame.n) if fit.frame.weights is None else fit.frame.weights)
    Y = semiparametric_responses(fit, 3, np.random.default_rng(1), use_u=True)
    drawn = (Y - fit.eta[:, None]) * root[:, None]
    own = (fit.frame.y - fit.eta) * root
    own = own - own.mean()
    gaps = np.abs(drawn.ravel()[:, None] - own).min(axis=1)
    assert gaps.max() < 1e-9 * np.abs(own).max()
    assert len(np.unique(drawn[:, 0].round(8))) < fit.frame.n  # some come twice


# ---------------------------------------------------------------------- cases


CASES = {
    "vector": (SLEEP, "sleepstudy", "Subject", {}),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "Pastes", "batch", {}),
    "inner": ("strength ~ 1 + (1 | batch) + (1 | sample)", "Pastes", "sample", {}),
    "crossed": (
        "diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", "plate", {},
    ),
    "weighted": (
        "Reaction ~ Days + (1 | Subject)", "sleepstudy_w", "Subject",
        {"weights": "w", "offset": "2*Days"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_drawn_levels_are_those_of_a_frame_put_together(case):
    """A frame of the levels' rows, renamed, and fitted as any other data."""
    formula, name, group, extra = CASES[case]
    data = frame(name)
    fit = lmer(formula, data, control=QUIET, **extra)._fit
    levels = list(next(t.grouping.levels for t in fit.terms if t.group == group))
    picks = np.random.default_rng(4).integers(len(levels), size=len(levels))
    assert len(set(picks)) < len(picks)
    found = fit_to_rows(fit, with_levels(fit.spec, group, picks))
    parts = [
        data[data[group].astype(str) == levels[pick]].assign(**{group: f"copy {i:03d}"})
        for i, pick in enumerate(picks)
    ]
    expected = lmer(formula, pd.concat(parts, ignore_index=True), control=QUIET, **extra)._fit
    assert found.frame.n == expected.frame.n
    assert found.estimates.objective == pytest.approx(expected.estimates.objective, abs=1e-8)
    # Flat directions of the criterion are found to about the root of its precision.
    assert found.estimates.beta == pytest.approx(expected.estimates.beta, rel=1e-6)
    assert found.estimates.sigma == pytest.approx(expected.estimates.sigma, rel=1e-6)
    sizes = {t.group: t.n_levels for t in expected.terms}
    assert {t.group: t.n_levels for t in found.terms} == sizes


def test_drawn_levels_of_a_generalized_model(cbpp):
    data = load_dataset("cbpp")
    picks = np.array([3, 3, *range(13)])
    found = fit_to_rows(cbpp._fit, with_levels(cbpp._fit.spec, "herd", picks))
    levels = cbpp._fit.terms[0].grouping.levels
    parts = [
        data[data["herd"].astype(str) == levels[pick]].assign(herd=f"copy {i:03d}")
        for i, pick in enumerate(picks)
    ]
    expected = glmer(cbpp.formula, pd.concat(parts, ignore_index=True), "binomial")
    assert found.estimates.objective == pytest.approx(expected.objective, abs=1e-7)


@pytest.mark.parametrize("size", [1, 7, 25])
def test_rows_of_a_level_come_over_and_over(sleep, size):
    rows = with_levels(sleep._fit.spec, "Subject", np.array([2, 0]), size)
    y = sleep._fit.frame.y.reshape(18, 10)
    assert rows.frame.y == pytest.approx(
        np.concatenate([np.resize(y[2], size), np.resize(y[0], size)])
    )
    assert rows.terms[0].grouping.codes.tolist() == [0] * size + [1] * size
    assert rows.terms[0].z[:, 1] == pytest.approx(np.resize(np.arange(10), size).tolist() * 2)


def test_the_outermost_factor_is_drawn():
    nested = lmer("strength ~ 1 + (1 | batch/cask)", load_dataset("Pastes"))._fit
    assert outermost(nested.terms) == "batch"
    crossed = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
    with pytest.raises(ValueError, match=r"plate, sample are crossed.*cluster='plate'"):
        crossed.bootstrap(5, type="cases")
    assert crossed.bootstrap(5, type="cases", cluster="plate", seed=1).n_failed == 0


def test_cases_give_about_the_standard_errors_of_the_model(sleep):
    draws = sleep.bootstrap(200, type="cases", seed=2)
    se = np.sqrt(np.diag(sleep.vcov()))
    # 200 replicates give 5 % and 18 subjects 17 %; resampling 18 levels takes 3 % off.
    assert draws.se[["(Intercept)", "Days"]].to_numpy() == pytest.approx(se, rel=0.25)


def test_rows_that_lose_a_coefficient_are_failures():
    data = load_dataset("sleepstudy").assign(
        arm=lambda d: np.where(d["Subject"].astype(str).isin(["308", "309"]), "b", "a")
    )
    fit = lmer("Reaction ~ arm + (1 | Subject)", data, control=QUIET)
    draws = fit.bootstrap(60, type="cases", seed=1)
    # 18 draws miss both of two levels with probability (16/18)^18 = 0.12.
    assert 1 <= draws.n_failed <= 18
    assert draws.failures.index.tolist() == ["the rows cannot tell apart the fixed effects armb"]
    assert draws.replicates.isna().all(axis=1).sum() == draws.n_failed


# ---------------------------------------------------------------------- failures and singular fits


def test_failures_are_counted_and_shown(sleep):
    calls = []

    def fn(model):
        calls.append(model)
        if len(calls) in (3, 5):
            raise KeyError("no such thing")
        return [1.0, 2.0] if len(calls) == 4 else [model.sigma]

    draws = sleep.bootstrap(6, fn=fn, seed=1)
    assert draws.n_failed == 3
    assert draws.failures.to_dict() == {
        "KeyError: 'no such thing'": 2,
        "the function returned 2 values (t1, t2), but 1 (t1) of the fit itself": 1,
    }
    assert draws.replicates["t1"].isna().tolist() == [False, True, True, True, False, False]
    assert draws.summary().loc["t1", "n"] == 3
    shown = str(draws)
    assert "3 of 6 replicates failed and are left out:\n  2 by KeyError: 'no such thing'" in shown
    assert "failed and are left out" in draws._repr_html_()


def test_all_replicates_failing_is_an_error(sleep):
    calls = []

    def fn(model):
        calls.append(model)
        if len(calls) > 1:
            raise ValueError("never again")
        return 1.0

    with pytest.raises(FitError, match=r"all 4 replicates failed, most of them \(4\) by: ValueErr"):
        sleep.bootstrap(4, fn=fn, seed=1)


def test_an_error_of_the_function_on_the_fit_itself_is_raised(sleep):
    with pytest.raises(AttributeError, match="nothing_like_it"):
        sleep.bootstrap(4, fn=lambda model: model.nothing_like_it, seed=1)


def test_singular_replicates_count_and_have_no_correlation():
    fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff2"), control=QUIET)
    draws = fit.bootstrap(200, seed=1)
    zero = draws.replicates["sd_(Intercept)|Batch"] == 0
    assert draws.n_singular == zero.sum()
    # Without a variance the estimate is zero for F < 1: of F(5, 24) that is 0.56.
    assert zero.mean() == pytest.approx(0.56, abs=4 * np.sqrt(0.25 / 200))
    assert f"{draws.n_singular} of 200 replicates are singular fits" in str(draws)
    vector = lmer("yup ~ x + (x | g)", frame("vector"), control=QUIET)
    draws = vector.bootstrap(50, seed=1)
    part = draws.summary()
    assert (part["n"] == draws.replicates.notna().sum()).all()
    assert draws.confint().notna().to_numpy().all()


def test_what_is_printed(sleep):
    draws = sleep.bootstrap(50, seed=1)
    lines = str(draws).splitlines()
    assert lines[0] == "Parametric bootstrap of 50 replicates"
    assert lines[1].split() == ["statistic", "bias", "std.", "error"]
    assert re.match(r"sd_\(Intercept\)\|Subject +24\.74\d* ", lines[2])
    assert draws._repr_html_().startswith("<div")
    assert repr(draws) == str(draws)
    assert list(draws.summary()) == ["estimate", "bias", "std_error", "n"]
    copy = draws.to_frame()
    copy.iloc[0] = 0.0
    assert (draws.replicates.iloc[0] != 0).all()


# ---------------------------------------------------------------------- intervals


def test_intervals_of_all_parameters(sleep):
    found = boot_intervals(sleep._fit, 0.9, 200, 7, "basic")
    assert list(found.columns) == ["5 %", "95 %"]
    pd.testing.assert_frame_equal(found, sleep.bootstrap(200, seed=7).confint(0.9, "basic"))
    estimates = bootstrap(sleep._fit, 3, seed=1).t0
    assert ((found["5 %"] < estimates) & (estimates < found["95 %"])).all()


def test_missing_values_are_left_out():
    values = np.random.default_rng(1).normal(size=99)
    frame = pd.DataFrame({"a": np.append(values, np.nan), "b": np.nan})
    found = bootstrap_limits(pd.Series({"a": 0.0, "b": np.nan}), frame, 0.9, "perc")
    ordered = np.sort(values)
    assert found.loc["a"].tolist() == [ordered[4], ordered[94]]
    assert found.loc["b"].isna().all()


@pytest.mark.parametrize(("probability", "place"), [(0.001, 0), (0.999, -1), (0.25, 1), (0.5, 3)])
def test_quantiles_at_the_ends_and_at_whole_ranks(probability, place):
    values = np.array([1.0, 2.0, 4.0, 7.0, 11.0, 16.0, 22.0])
    assert quantile(values, probability) == values[place]


# ---------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type": "wild"}, "type is 'wild'; expected one of"),
        ({"n": 0}, "n is 0; expected a whole number"),
        ({"n": 2.5}, "n is 2.5; expected a whole number"),
        ({"type": "cases", "use_u": True}, "use_u=True holds the random effects fixed"),
        ({"type": "residual", "use_u": True}, "use_u=True holds the random effects fixed"),
        ({"cluster": "Subject"}, "cluster is for type='cases'"),
        ({"type": "cases", "cluster": "herd"}, "'herd', which is no grouping factor.*Subject"),
        ({"n_jobs": 0}, "n_jobs is 0"),
    ],
)
def test_arguments_that_cannot_be(sleep, arguments, message):
    with pytest.raises(ValueError, match=message):
        sleep.bootstrap(**{"n": 5, **arguments})


def test_more_arguments_that_cannot_be(sleep, cbpp):
    for type in ("residual", "semiparametric"):
        with pytest.raises(ValueError, match=f"the {type} bootstrap resamples residuals"):
            cbpp.bootstrap(5, type=type)
    with pytest.raises(TypeError, match="seed is 'x'"):
        sleep.bootstrap(5, seed="x")
    with pytest.raises(TypeError, match="function returned 'text'; expected a number"):
        sleep.bootstrap(5, fn=lambda model: "text")
    with pytest.raises(TypeError, match="function returned None; expected a number"):
        sleep.bootstrap(5, fn=lambda model: None)
    draws = sleep.bootstrap(5, seed=1)
    with pytest.raises(ValueError, match="type is 'bca'; expected one of"):
        draws.confint(type="bca")
    with pytest.raises(ValueError, match="level is 95; expected a number between 0 and 1"):
        draws.confint(95)


# ---------------------------------------------------------------------- coverage


@pytest.mark.slow
def test_coverage_of_the_percentile_interval(sleep):
    """Of the slope, whose bootstrap distribution is about normal: 95 % of 200 data sets."""
    quiet = sleep.update(control=QUIET)
    truth = sleep.fixef()["Days"]
    responses = sleep.simulate(200, seed=21)
    hits = 0
    for i in range(200):
        limits = quiet.refit(responses.iloc[:, i]).bootstrap(100, seed=i).confint().loc["Days"]
        hits += limits.iloc[0] <= truth <= limits.iloc[1]
    # Estimated variances make the interval of 18 subjects cover 92 to 93 %; 4 binomial errors.
    assert hits / 200 == pytest.approx(0.93, abs=4 * np.sqrt(0.93 * 0.07 / 200))
