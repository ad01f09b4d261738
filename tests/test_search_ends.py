"""How searches end: rounding, turned axes, starts far away, and a sample of the laboratory."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from raw_coordinates import raw_coordinates
from simulated import criterion, crossed
from test_search import QUIET, ROSENBROCK, SADDLE, Function

from benchmarks.search import STARTS, best_known, faults, fit, runs
from benchmarks.search_designs import draw
from mixef import LmerControl, glmer, lmer
from mixef.estimation.search.convergence import CONVERGED_GAIN
from mixef.estimation.search.optimize import StopReason, newton
from mixef.estimation.search.trust_region import Quadratic
from mixef.terms.covariance.unstructured import OnAxes

# Rounding


class Rounded(Function):
    """A function whose values carry an error of ``size``, as rounding leaves it."""

    def __init__(self, parts, size, told=None):
        super().__init__(*parts)
        self.size, self.told = size, size if told is None else told
        self.rng = np.random.default_rng(1)

    def value(self, par):
        return super().value(par) + self.size * self.rng.uniform(-1, 1)

    def rounding(self):
        return self.told


class Rough(Function):
    """A function of roughly known values and gradients, as rough as the search's steps allow."""

    knows_hessian = True

    def __init__(self, parts):
        super().__init__(*parts)
        self.error, self.refined = 0.1, 0  # the start is rough, too

    def value(self, par, gain=0.0):
        if self.calls and not np.array_equal(par, self.par):
            self.error = 0.03 * gain
        return super().value(par) + self.error

    def derivatives(self):
        g, H = super().derivatives()
        return g + self.error, H

    @property
    def is_rough(self):
        return self.error != 0.0

    def refine(self, par):
        self.value(par)
        self.error, self.refined = 0.0, self.refined + 1

    def turn(self, par):
        return None

    def bent(self, par, here, radius):
        return None

    def back(self, par):
        return par


@pytest.mark.parametrize("parts", [ROSENBROCK, SADDLE])
@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_a_search_by_rough_values_ends_with_exact_ones(parts, limit):
    rough = Rough(parts)
    found = newton(rough, np.array([-1.2, 1.0]), limit, axes=rough)
    exact = Function(*parts)
    assert found.objective == exact.value(found.par)
    np.testing.assert_array_equal(found.gradient, exact.derivatives()[0])
    if limit == 1000:
        assert found.reason is StopReason.OPTIMUM
        assert found.n_evaluations <= 2 * newton(exact, np.array([-1.2, 1.0])).n_evaluations


def test_a_rough_value_that_is_too_low_is_refined():
    """From a start that seems lower than everything around it."""
    rough = Rough(SADDLE)
    rough.error = -5.0
    found = newton(rough, np.array([0.5, 1.4]), axes=rough)
    assert found.reason is StopReason.OPTIMUM
    assert found.objective == pytest.approx(-1.0, abs=1e-12)
    assert rough.refined


@pytest.mark.parametrize("told", [1e-6, 1e-9, 1e-3])
def test_errors_of_the_values_do_not_keep_a_search_from_its_end(told):
    """Values are good to 1e-6 only, whatever is believed of them: the gradient finds the rest."""
    found = newton(Rounded(ROSENBROCK, 1e-6, told), np.array([-1.2, 1.0]))
    np.testing.assert_allclose(found.par, [1, 1], atol=1e-5)
    assert found.expected_gain < CONVERGED_GAIN
    assert found.n_evaluations < 60


class Restless(Function):
    """A bowl whose curvature along the second axis changes its sign at every call.

    So does that of nearly collinear columns of vanishing length, where it is what is left of the
    gradient over that length.
    """

    def __init__(self):
        super().__init__(
            lambda x, y: 1e5 + x**2,
            lambda x, y: (2 * x, 1e-9),
            lambda x, y: ((2.0, 0.0), (0.0, 1.0)),
        )
        self.sign = 1.0

    def derivatives(self):
        g, H = super().derivatives()
        self.sign = -self.sign
        H[1, 1] = 1e-4 * self.sign
        return g, H

    def rounding(self):
        return 1e-9


def test_curvature_that_no_step_confirms_does_not_count():
    found = newton(Restless(), np.array([3.0, 0.0]))
    assert found.n_evaluations < 40
    assert found.expected_gain < CONVERGED_GAIN
    assert found.par[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("tiny", [1e-14, 1e-17, -1e-300, 0.0])
def test_a_step_from_all_but_a_saddle(tiny):
    """The shift is all but minus the lowest eigenvalue, and keeps its digits."""
    step, gain = Quadratic(np.array([tiny, 1.0]), np.diag([-43.0, 2.0]), np.ones(2)).step(1.0)
    assert np.linalg.norm(step) == pytest.approx(1.0, rel=1e-9)
    assert gain == pytest.approx(43.0 / 2, rel=0.02)


# Turned axes

FORMULA = "y ~ x + (x + z | g) + (1 | h)"


def turned(formula=FORMULA, REML=True):
    """A criterion at a template away from its axes, and the same on them."""
    c = criterion(formula, crossed(), REML)[0]
    lams = [np.array([[0.3, 0, 0], [0.9, 0.4, 0], [-0.5, 0.6, 0.2]]), np.array([[0.7]])]
    par = raw_coordinates(c.parametrization, lams)
    value = c.value(par)
    view, point = c.turned(par)
    return c, par, value, view, point


def test_turning_changes_coordinates_alone():
    c, par, value, view, point = turned()
    for one, other in zip(
        c.parametrization.lams(par), view.parametrization.lams(point), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-14)
    structure = view.parametrization.structures[0]
    assert isinstance(structure, OnAxes)
    T = structure.left.T @ view.parametrization.term_lams(point)[0] @ structure.right
    size = np.linalg.svd(T, compute_uv=False)
    np.testing.assert_allclose(T, np.diag(size), atol=1e-14)
    assert view.turned(point) is None  # nothing is left to turn
    assert view.value(point) == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(c.plain(view, point), c.canonical(par), atol=1e-13)


@pytest.mark.parametrize("REML", [True, False], ids=["REML", "ML"])
def test_derivatives_on_turned_axes_are_those_of_the_value(REML):
    """The first ones follow from the factor as it stood before turning."""
    _, _, _, view, point = turned(REML=REML)
    g, H = view.derivatives()
    step = 1e-5
    for a, change in enumerate(step * np.eye(len(point))):
        ends = [(view.value(point + s * change), view.derivatives()[0]) for s in (1, -1)]
        # Differences with steps of 1e-5 are good to their square and to rounding over the step.
        assert g[a] == pytest.approx((ends[0][0] - ends[1][0]) / (2 * step), abs=2e-6)
        np.testing.assert_allclose(H[a], (ends[0][1] - ends[1][1]) / (2 * step), atol=1e-5)


def test_a_template_on_its_axes_stays():
    c = criterion(FORMULA, crossed())[0]
    lams = [np.diag([1.0, 0.5, 1e-5]), np.ones((1, 1))]
    par = raw_coordinates(c.parametrization, lams)
    c.value(par)
    assert c.turned(par) is None
    lams[0][2, 2] = 0.0
    assert c.turned(raw_coordinates(c.parametrization, lams)) is None


def singular_crossed(seed, n_subjects=24, n_items=60):
    """Subjects by items with effects of low rank, of which the smallest lie across the columns."""
    r = np.random.default_rng(seed)
    s, i = (a.ravel() for a in np.indices((n_subjects, n_items)))
    a, b = r.choice([-0.5, 0.5], size=(2, len(s)))
    Z = np.column_stack([np.ones(len(s)), a, b, a * b])

    def effects(levels, sizes, rank):
        L = r.normal(size=(4, rank))
        return r.standard_t(2, (levels, rank)) @ (L / np.linalg.norm(L, axis=1)[:, None]).T * sizes

    y = (Z * effects(n_subjects, [100, 15, 30, 0], 2)[s]).sum(axis=1)
    y += (Z * effects(n_items, [40, 10, 0, 20], 1)[i]).sum(axis=1) + 180 * r.normal(size=len(s))
    return pd.DataFrame({"y": y, "s": s, "i": i, "a": a, "b": b, "ab": a * b})


@pytest.mark.parametrize(
    ("seed", "size"), [*((seed, (24, 60)) for seed in range(4)), (4, (61, 480))]
)
def test_vanishing_columns_do_not_slow_a_search(seed, size):
    """The last one is as large as a study that once ran into the limit of 1,000 evaluations."""
    formula = "y ~ a + b + ab + (a + b + ab | s) + (a + b + ab | i)"
    data = singular_crossed(seed, *size)[: size[0] * size[1] * 49 // 50]
    fit = lmer(formula, data, REML=False, control=LmerControl(**QUIET))
    assert fit.is_singular()
    assert fit.converged
    assert not fit.convergence.problems
    assert fit.convergence.n_evaluations <= 25
    assert fit.convergence.log[-1].par.shape == fit.par.shape


# Starts


def binary():
    r = np.random.default_rng(0)
    g, x = np.repeat(np.arange(40), 10), r.normal(size=400)
    eta = 0.3 + 0.5 * x + r.normal(size=40)[g]
    return pd.DataFrame(
        {"g": g, "x": x, "b": r.binomial(1, 1 / (1 + np.exp(-eta))), "c": r.poisson(np.exp(eta))}
    )


@pytest.mark.parametrize("beta", [[1e6, 1e6], [-1e6, 3.0], [-30.0, 5.0], [1e70, 0.0]])
@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("b ~ x + (1 | g)", "binomial"),
        ("c ~ x + (1 | g)", "poisson"),
        ("c ~ x + (1 | g)", "nbinom2"),
    ],
)
def test_coefficients_far_away(formula, family, beta):
    data = binary()
    best = glmer(formula, data, family)
    fit = glmer(formula, data, family, start={"beta": beta})
    assert fit.convergence.n_evaluations <= best.convergence.n_evaluations + 1
    assert fit.converged == best.converged
    assert fit.objective == pytest.approx(best.objective, abs=1e-8)


def test_a_start_that_is_near_enough_is_searched_from():
    """The usual start is looked at beside it, and that is all."""
    fit = lmer("y ~ x + (x | g)", crossed())
    again = lmer("y ~ x + (x | g)", crossed(), start=1.2 * fit.par)
    first, second = again.convergence.log[:2]
    np.testing.assert_allclose(first.objective, fit.getME("devfun")(1.2 * fit.par), rtol=1e-12)
    assert second.objective == pytest.approx(fit.convergence.log[0].objective, rel=1e-12)
    assert again.objective == pytest.approx(fit.objective, abs=1e-9)


# The laboratory

# tests/reference/search.R made search.json from the first 48 designs of at most 150 rows.
SEEDS, ROWS = range(20), 150
REFERENCE = json.loads((Path(__file__).parent / "reference" / "search.json").read_text())


@pytest.fixture(scope="module")
def sample():
    """Three searches each of twenty small designs."""
    return [run for seed in SEEDS for run in runs(draw(seed, ROWS))]


def test_searches_of_the_laboratory_end_soon_at_the_best_end_known(sample):
    assert len(sample) == 60
    known = {seed: value for seed, value in REFERENCE.items() if int(seed) in SEEDS}
    assert len(known) > 12
    found = faults(sample, best_known(sample, known))
    # lme4's two searches stop up to 1e-4 above the optimum, and one of them 27 above in a badly
    # scaled design: no end of ours is above theirs by more than rounding.
    assert not found["above the best, not flagged"]
    assert not found["flagged at the best"]
    assert not found["above the best, flagged"]
    assert not found["refused"]
    assert {run.start for run in sample} == set(STARTS)
    assert max(r.n_evaluations for r in sample if not r.generalized) <= 30
    assert max(r.n_evaluations for r in sample if r.generalized) <= 40


def test_a_singular_end_from_a_start_of_ones_own_is_not_the_only_one():
    """Weights over nine decades, with several singular minima: one is 0.19 above another."""
    default, far = runs(draw(106, 30_000), ["default", "100"])
    assert default.singular
    assert far.singular
    assert far.objective == pytest.approx(default.objective, rel=1e-6)


def test_a_start_that_is_far_too_small_loses_no_direction():
    """The usual start is a twentieth of the end, and Newton's way up led to a singular minimum.

    It is 3.7 above this end, in which one direction more has variance.
    """
    found = runs(draw(70680, 130))
    assert [run.objective for run in found] == pytest.approx([-213.566892] * 3, abs=1e-5)
    assert all(run.converged for run in found)
    assert max(run.n_evaluations for run in found) < 40


def test_weights_that_leave_few_rows_are_named():
    """The three starts meet in a minimum 29.2 above another, which five of six random ones found.

    Weights over nine decades leave 13.8 effective rows (Kish) of 130.
    """
    assert all(run.doubted for run in runs(draw(8100356, 130), ["default", "100"]))
    design = draw(8100356, 130)
    (remark,) = fit(design).convergence.remarks
    w = design.data["w"]
    assert remark.startswith(f"{w.sum() ** 2 / (w**2).sum():.3g} effective rows")
    table = duckdb.from_arrow(pa.Table.from_pandas(design.data))  # where DuckDB makes the sums
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = lmer(design.formula, table, **design.options)
    assert there.convergence.remarks == (remark,)
    even = fit(replace(design, options={"REML": True}))
    assert not even.convergence.remarks


@pytest.mark.parametrize("size", [0.4, 0.7, 1.8])
def test_scoring_finds_the_estimates_of_balanced_data_in_one_step(size):
    """A step is linear in the covariances and sigma^2, as their REML equations are then."""
    g, h, r = np.indices((9, 7, 3))
    rng = np.random.default_rng(4)
    y = rng.normal(size=g.shape) + 2.0 * rng.normal(size=(9, 1, 1)) + rng.normal(size=(7, 1))
    y += (r - 1.0) * rng.normal(size=(9, 1, 1))
    data = {"y": y.ravel(), "g": g.ravel(), "h": h.ravel(), "x": r.ravel() - 1.0}
    for formula in ("y ~ 1 + (1 | g) + (1 | h)", "y ~ x + (x | g)"):
        c = criterion(formula, data)[0]
        best = newton(c, c.problem.start())
        start = c.parametrization.resized(best.par, size)
        above = c.value(start) - best.objective
        assert c.value(c.scored()) - best.objective < 1e-9 * above


def test_no_scoring_from_singular_templates():
    c = criterion("y ~ x + (x | g)", crossed())[0]
    c.value(c.parametrization.coordinates([np.diag([1.0, 0.0])]))
    assert c.scored() is None


@pytest.mark.parametrize("seed", [600182, 620666, 620446, 620174])
def test_a_start_far_from_the_end_is_left_by_scoring(seed):
    """Weights over nine decades, or variances that moments miss by far."""
    found = runs(draw(seed, 130))
    assert max(run.n_evaluations for run in found) <= 25  # 21 to 40 by Newton's steps alone
    assert np.ptp([run.objective for run in found]) < 1e-6
    assert all(run.converged for run in found)


def test_secants_do_not_lead_out_of_a_curved_valley():
    """It takes an exact Hessian wherever secants foresee a saddle; 80 evaluations without."""
    (found,) = runs(draw(1097, 130), ["default"])
    assert found.objective == pytest.approx(31.2533513, abs=1e-6)
    assert found.converged
    assert found.n_evaluations <= 40


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (80071, "separation by group: the effects of (1 + x1 + x2 + x3 + x4 | g) predict every"),
        (80033, "the random effects predict every response, most of them without error"),
    ],
)
def test_a_search_that_runs_away_is_stopped(seed, message):
    """Without that, both take a thousand evaluations, on the way to infinite variances."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        end = fit(draw(seed, 130)).convergence
    assert end.reason is StopReason.RUNAWAY
    assert not end.converged
    assert end.problems[0].startswith(message)
    assert end.n_evaluations <= 200


def test_a_search_among_effects_that_nothing_tells_is_stopped():
    """Some rows are mispredicted for ever here, and variances grow in a thousand evaluations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        end = fit(draw(300553, 130)).convergence
    assert end.reason is StopReason.BEYOND
    assert not end.converged
    assert end.problems[0].startswith(
        "the random effects of (1 + x1 + x2 + x3 | g) grow beyond what the responses can tell"
    )
    assert end.n_evaluations <= 450


def test_a_slow_search_to_large_effects_goes_on_to_its_end():
    (found,) = runs(draw(300461, 130), ["default"])
    assert found.converged
    assert found.objective == pytest.approx(69.9052, abs=1e-3)


def test_a_singular_end_where_means_have_no_upper_bound_is_searched_for_once():
    """From large covariances it takes three times the evaluations, and comes back to the end."""
    found = runs(draw(920111, 2_000))
    assert all(run.converged and run.singular for run in found)
    assert max(run.n_evaluations for run in found) <= 30
    for run in found:
        assert run.objective == pytest.approx(1582.12562, abs=1e-4)


def test_designs_are_drawn_by_their_seed():
    one, other = draw(6, 500), draw(6, 500)
    assert one.formula == other.formula
    pd.testing.assert_frame_equal(one.data, other.data)
    assert {draw(seed, 300).generalized for seed in (0, 1)} == {True, False}
    assert max(len(draw(seed, 3_000).data) for seed in range(40)) > 1_000


@pytest.mark.parametrize("rows", [1, 20])  # held as one matrix, and by pairs of levels
def test_the_start_of_many_columns_takes_variances_alone(monkeypatch, rows):
    data = pd.concat([crossed()] * rows, ignore_index=True)
    formula = "y ~ x + f + (x | g) + (1 | h)"
    full = lmer(formula, data)
    monkeypatch.setattr("mixef.estimation.linear.moments.MOST_UNKNOWNS", 0)
    alone = lmer(formula, data)
    assert alone.objective == pytest.approx(full.objective, abs=1e-8)
    assert alone.convergence.n_evaluations <= full.convergence.n_evaluations + 2
