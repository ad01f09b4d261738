"""What must not change what is inferred from a fit, and what must change it in a known way."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from simulated import crossed

from mixef import GlmerControl, LmerControl, glmer, lmer

FORMULA = "y ~ x + f + (x | g) + (1 | h)"
COUNTS = "n ~ x + f + (1 | g)"
few = settings(max_examples=4, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
factors = st.floats(-6, 6).map(lambda k: 10.0**k)
NEW = pd.DataFrame({"x": [0.3, -1.2], "f": ["a", "b"], "g": ["1", "none"], "h": ["2", "4"]})


def data_of():
    data = crossed().astype({"g": str, "h": str})
    rate = np.exp(0.4 + 0.3 * data["x"] + 0.2 * data["g"].astype(int) % 3)
    return data.assign(n=np.random.default_rng(7).poisson(rate))


DATA = data_of()


def linear(data=DATA, **arguments):
    return lmer(FORMULA, data, control=LmerControl(check_conv_singular="ignore"), **arguments)


def counts(data=DATA, **arguments):
    control = GlmerControl(check_conv_singular="ignore")
    return glmer(COUNTS, data, "poisson", control=control, **arguments)


def inferred(fit, new=NEW):
    """Numbers that tests, intervals and predictions give; df only of a linear model."""
    out = {"table": fit.coef_table(), "anova": fit.anova().frame, "drop1": fit.drop1().frame}
    if hasattr(fit, "REML"):
        out["kr"] = fit.coef_table("kenward-roger")
    out["wald"] = fit.confint(method="wald")
    out["profile"] = fit.confint(["x", "sd_(Intercept)|g"])
    out["predicted"] = fit.predict(new, new_levels="population", interval="confidence", type="link")
    return {name: frame.astype(float) for name, frame in out.items()}


PLAIN = {make: inferred(make()) for make in (linear, counts)}
# Units of the response in each column; the coefficient of x has those of x besides.
RESPONSE = ("Estimate", "Std. Error", "2.5 %", "97.5 %", "fit", "se_fit", "lower", "upper")


def assert_same(found, plain, only=None):
    """The search leaves 1e-6 standard errors in its parameters, and degrees of freedom follow."""
    for name, frame in plain.items():
        if only is None or name in only:
            assert list(found[name].columns) == list(frame.columns)
            np.testing.assert_allclose(found[name], frame, rtol=1e-5, atol=1e-6, err_msg=name)


@few
@given(seeds, st.sampled_from([linear, counts]))
def test_the_order_of_rows(seed, make):
    order = np.random.default_rng(seed).permutation(len(DATA))
    assert_same(inferred(make(DATA.iloc[order])), PLAIN[make])


@few
@given(seeds, st.sampled_from([linear, counts]))
def test_names_of_levels(seed, make):
    names = {str(k): f"level {j}" for k, j in enumerate(np.random.default_rng(seed).permutation(9))}
    renamed = DATA.assign(g=DATA["g"].map(names))
    new = NEW.assign(g=NEW["g"].map(names).fillna("none"))
    assert_same(inferred(make(renamed), new), PLAIN[make])


@few
@given(factors)
def test_units_of_the_response(unit):
    found = inferred(linear(DATA.assign(y=unit * DATA["y"])))
    for name, frame in found.items():
        shown = [column for column in RESPONSE if column in frame]
        frame.loc[:, shown] = frame[shown] / unit
        if name == "anova":
            frame.loc[:, ["Sum Sq", "Mean Sq"]] /= unit**2
        if name == "drop1":  # the likelihood is a density of the response
            frame.loc[:, "AIC"] -= 2 * len(DATA) * np.log(unit)
    correlations = [name for name in PLAIN[linear]["wald"].index if name.startswith("cor_")]
    found["wald"].loc[correlations] *= unit
    assert_same(found, PLAIN[linear])


@few
@given(factors, st.sampled_from([linear, counts]))
def test_units_of_a_predictor(unit, make):
    found = inferred(make(DATA.assign(x=unit * DATA["x"])), NEW.assign(x=unit * NEW["x"]))
    for name, shown in (("table", RESPONSE), ("kr", RESPONSE), ("wald", None), ("profile", None)):
        if name in found:
            frame = found[name]
            columns = frame.columns if shown is None else [c for c in shown if c in frame]
            rows = [r for r in frame.index if r == "x" or r.startswith("sd_x|")]
            frame.loc[rows, columns] *= unit
    assert_same(found, PLAIN[make])


@few
@given(seeds)
def test_rows_of_weight_two_are_two_rows_in_a_model_of_counts(seed):
    rng = np.random.default_rng(seed)
    twice = rng.random(len(DATA)) < 0.3
    doubled = inferred(counts(pd.concat([DATA, DATA[twice]], ignore_index=True)))
    weighted = inferred(counts(DATA, weights=1.0 + twice))
    assert_same(weighted, doubled)


@few
@given(st.sampled_from(["sum", "helmert"]), st.sampled_from([linear, counts]))
def test_contrasts(contrast, make):
    found = inferred(make(DATA, contrasts={"f": contrast}))
    found["profile"] = PLAIN[make]["profile"]  # the intercept is another, but not x
    assert_same(found, PLAIN[make], {"anova", "drop1", "predicted"})


def test_the_numbers_are_not_trivial():
    assert PLAIN[linear]["table"]["df"].between(3, 119).all()
    assert (PLAIN[linear]["kr"]["df"] != PLAIN[linear]["table"]["df"]).all()
    assert PLAIN[counts]["profile"].loc["sd_(Intercept)|g"].iloc[1] > 0.1
    assert PLAIN[linear]["profile"].loc["x"].to_numpy() == pytest.approx(
        PLAIN[linear]["wald"].loc["x"].to_numpy(), abs=0.3
    )
