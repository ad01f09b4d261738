"""A fit never changes: threads that ask it at once get what one alone gets."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info

from mixef import GlmerControl, LmerControl, glmer, lmer
from mixef.estimation.linear.kind import Gaussian
from mixef.linalg.threads import one_blas_thread

THREADS, CALLS = 8, 2000
QUIET = {"check_conv_singular": "ignore"}


@pytest.fixture(scope="module")
def fits():
    """Fits of all kinds and factors: Schur, dense, sparse, singular, Laplace, quadrature."""
    rng = np.random.default_rng(0)
    n = 600
    data = pd.DataFrame({"x": rng.normal(size=n), "g": rng.integers(0, 40, n)})
    data["h"], data["k"] = rng.integers(0, 30, n), data.g * 3 + rng.integers(0, 3, n)
    eta = 0.3 * data.x + 0.5 * rng.normal(size=40)[data.g] + 0.4 * rng.normal(size=30)[data.h]
    data["y"], data["z"] = eta + rng.normal(size=n), rng.normal(size=n)
    data["c"], data["b"] = rng.poisson(np.exp(eta)), (eta + rng.logistic(size=n) > 0).astype(int)
    control, generalized = LmerControl(**QUIET), GlmerControl(**QUIET, check_laplace="ignore")
    return [
        lmer("y ~ x + (x | g)", data, control=control),
        lmer("y ~ x + (x | g) + (1 | h)", data, REML=False, control=control),
        lmer("y ~ x + (1 | g / k)", data, control=control),
        lmer("z ~ x + (1 | g) + (1 | h)", data, control=control),
        glmer("c ~ x + (1 | g) + (1 | h)", data, "poisson", control=generalized),
        glmer("b ~ x + (1 | g)", data, "binomial", 5, control=generalized),
    ]


def calls(fit):
    """What a user asks of a fit, as numbers."""
    new = fit._fit.call.data.iloc[:20]
    asked = [
        lambda: fit.ranef(condVar=True).condVar["g"],
        lambda: fit.predict(new, se_fit=True)["se_fit"],
        lambda: fit.coef_table(),
        lambda: fit.confint(method="wald"),
        lambda: fit.vcov(),
        lambda: fit.simulate(1, seed=1).astype(float),
        lambda: fit.residuals(),
    ]
    if isinstance(fit._fit.kind, Gaussian):
        asked.append(lambda: fit.coef_table(ddf="kenward-roger"))
        asked.append(lambda: fit.predict(new, interval="prediction"))
    return asked


def numbers(result):
    return np.asarray(result, dtype=float)


def test_threads_get_what_one_alone_gets(fits):
    asked = [call for fit in fits for call in calls(fit)]
    alone = [numbers(call()) for call in asked]
    rng = np.random.default_rng(1)
    order = rng.permutation(np.arange(CALLS) % len(asked))
    fresh = [type(fit)(fit._fit.with_spec()) for fit in fits]  # nothing computed yet
    shared = [call for fit in fresh for call in calls(fit)]

    def same(a):
        # Sums over levels are ordered alike, so that not a bit differs.
        return np.array_equal(numbers(shared[a]()), alone[a], equal_nan=True)

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(same, order))


def test_the_limit_of_threads_is_taken_away_by_the_last_block():
    def limits():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = limits()

    def work(_):
        with one_blas_thread(), one_blas_thread():
            return max(limits(), default=1)

    with ThreadPoolExecutor(THREADS) as pool:
        assert set(pool.map(work, range(40))) == {1}
    assert limits() == before
