"""Marginal means, contrasts, trends and joint tests beside those of emmeans.

tests/reference/emmeans.json is by emmeans 1.8.4.1 with lmerTest 3.1-3, pbkrtest 0.5.2 and
glmmTMB 1.1.5 (emmeans.R).
"""

from functools import cache

import numpy as np
import pytest
from reference_data import cases, frame

from mixef import GlmerControl, LmerControl, glmer, lmer
from mixef.inference.marginal.printed_means import level_text

CASES = {c["id"]: c for c in cases("emmeans.json")}
ASKS = [(name, i) for name, c in CASES.items() for i in range(len(c["asks"]))]
QUIET = {"check_conv_singular": "ignore"}
# lmerTest differentiates by Richardson's extrapolation, which gives its df about six digits;
# glmmTMB ends its search at gradients of 1e-5 or so, and takes its Hessian from them.
DF, ESTIMATE = 5e-6, {True: 1e-6, False: 2e-4}


def holes():
    """Cake without two cells."""
    data = frame("cake")
    lost = (data["recipe"] == "C") & data["temperature"].isin(["215", "225"])
    return data[~lost]


@cache
def fitted(name):
    c = CASES[name]
    data = holes() if c["data"] == "holes" else frame(c["data"])
    if "family" in c:
        control = GlmerControl(**QUIET)
        return glmer(c["formula"], data, family=c["family"], control=control)
    arguments = {"weights": c.get("weights"), "REML": c.get("REML", True)}
    return lmer(c["formula"], data, control=LmerControl(**QUIET), **arguments)


def asked(name, steps):
    """What the steps of a case give."""
    c = CASES[name]
    ddf = {} if "family" in c else {"ddf": c.get("ddf", "auto")}
    out = fitted(name)
    for step in steps:
        arguments = {k: v for k, v in step.items() if k != "op"}
        out = getattr(out, step["op"])(**arguments, **(ddf if step is steps[0] else {}))
    return out


def texts(values):
    return [level_text(v) for v in values]


@pytest.mark.parametrize(("name", "i"), ASKS, ids=[f"{n}-{i}" for n, i in ASKS])
def test_emmeans(name, i):
    ask = CASES[name]["asks"][i]
    steps, expected = ask["steps"], ask["result"]
    result = asked(name, steps)
    linear = "family" not in CASES[name]
    if steps[0]["op"] == "joint_tests":
        return check_joint(result.to_frame(), expected, linear)
    ours = result.to_frame() if steps[-1]["op"] == "test" else result.summary().to_frame()
    for label, values in expected["labels"].items():
        assert texts(ours[label]) == values
    R = {k: np.array(v, dtype=float) for k, v in expected.items() if k != "labels"}
    if not linear:
        R["df"] = np.full_like(R["df"], np.inf)  # which JSON cannot say
    estimable = np.isfinite(R["estimate"])
    np.testing.assert_array_equal(np.isfinite(ours["estimate"]), estimable)
    ours, R = ours[estimable], {k: v[estimable] for k, v in R.items()}
    gap = (ours["estimate"] - R["estimate"]) / R["se"]
    np.testing.assert_allclose(gap, 0.0, atol=ESTIMATE[linear])
    np.testing.assert_allclose(ours["std_error"], R["se"], rtol=ESTIMATE[linear])
    np.testing.assert_allclose(ours["df"], R["df"], rtol=DF)
    if "lower" in R and steps[-1]["op"] != "test":
        for mine, theirs in (("conf_low", "lower"), ("conf_high", "upper")):
            gap = (ours[mine] - R[theirs]) / R["se"]
            np.testing.assert_allclose(gap, 0.0, atol=5 * ESTIMATE[linear])
    # A p value moves with its statistic.
    np.testing.assert_allclose(
        ours["statistic"], R["statistic"], atol=5 * ESTIMATE[linear], rtol=1e-4
    )
    np.testing.assert_allclose(ours["p_value"], R["p"], atol=ESTIMATE[linear], rtol=1e-3)


def check_joint(ours, expected, linear):
    """Compare joint tests; R's denominator for several contrasts is another one."""
    assert ours["model term"].tolist() == expected["term"]
    np.testing.assert_array_equal(ours["df1"], expected["df1"])
    single = ours["df1"] == 1
    if linear:  # R rounds df to two decimals
        df2 = np.array(expected["df2"], dtype=float)[single]
        np.testing.assert_allclose(ours["df2"][single], df2, atol=5.1e-3)
    # R rounds F ratios to three decimals.
    np.testing.assert_allclose(ours["F.ratio"], expected["F"], atol=5.1e-4, rtol=1e-3)
