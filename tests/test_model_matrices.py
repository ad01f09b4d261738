"""The matrices of a model without a fit are those of the fit."""

import numpy as np
import pandas as pd
import pytest

from mixef import glmer, lmer, load_dataset, model_matrices
from mixef.errors import DataError, DataWarning, FormulaError

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
MODELS = {
    "slopes": ("Reaction ~ poly(Days, 2) + (Days | Subject)", "sleepstudy", {}),
    "several": (
        "angle ~ recipe * temp + (1 | recipe:replicate) + (temp | replicate)", "cake",
        {"weights": np.tile([1.0, 2.0, 0.5], 90), "offset": np.arange(270.0),
         "contrasts": {"recipe": "sum"}, "subset": "temp > 180"},
    ),
    "cbpp": (CBPP, "cbpp", {"family": "binomial"}),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_they_are_those_of_the_fit(name):
    formula, data, options = MODELS[name]
    data = load_dataset(data)
    fit = (glmer if "family" in options else lmer)(formula, data, **options)
    parts = model_matrices(formula, data, **options)
    pd.testing.assert_frame_equal(parts.X, fit.getME("X"))
    np.testing.assert_array_equal(parts.y, fit.getME("y"))
    np.testing.assert_array_equal(parts.Zt.toarray(), fit.getME("Zt").toarray())
    at = parts.update(fit.theta)
    np.testing.assert_array_equal(at.Lambdat.toarray(), fit.getME("Lambdat").toarray())
    assert list(at.theta.index) == list(fit.getME("theta").index) == at.names["theta"]
    np.testing.assert_array_equal(parts.Lambdat.toarray(), np.eye(len(parts.effects)))
    assert len(parts.names["Zt"]) == parts.Zt.shape[0]
    assert parts.names["X"] == list(fit.fixef().index)
    if "weights" in options or "family" in options:
        np.testing.assert_array_equal(parts.weights, fit.weights())
    else:
        assert parts.weights is None
    if "offset" in options:
        np.testing.assert_array_equal(parts.offset, fit.getME("offset"))
    else:
        assert parts.offset is None


@pytest.mark.parametrize("name", ["slopes", "several"])
def test_their_factor_is_that_of_the_fit(name):
    formula, data, options = MODELS[name]
    data = load_dataset(data)
    fit, parts = lmer(formula, data, **options), model_matrices(formula, data, **options)
    order = list(fit.ngrps().index)[::-1]
    for chosen in (None, order):
        ours, of_fit = parts.factor_at(fit.theta, chosen), fit.factor_at(order=chosen)
        np.testing.assert_array_equal(ours.L.toarray(), of_fit.L.toarray())
        np.testing.assert_array_equal(ours.P, of_fit.P)
        assert ours.effects.equals(of_fit.effects)
        assert parts.update(fit.theta).factor_at(order=chosen).logdet == of_fit.logdet
    with pytest.raises(DataError, match="entries of theta"):
        parts.factor_at([1.0] * 9)


def test_missing_rows_and_dependent_columns_are_left_out():
    data = load_dataset("sleepstudy").assign(twice=lambda d: 2 * d["Days"])
    data.loc[3, "Reaction"] = np.nan
    with pytest.warns(DataWarning, match="rank deficient so dropping 1 column.*twice"):
        parts = model_matrices("Reaction ~ Days + twice + (1 | Subject)", data)
    assert list(parts.X) == ["(Intercept)", "Days"]
    assert len(parts.y) == 179
    assert 3 not in parts.y.index


@pytest.mark.parametrize(
    ("formula", "options", "error", "message"),
    [
        ("Yield ~ 1 + (1 | batch)", {}, FormulaError, "batch"),
        ("Yield ~ 1", {}, FormulaError, "random"),
        ("Yield ~ 1 + (1 | Batch)", {"family": "poison"}, ValueError, "no family .poison"),
        ("Yield ~ 1 + (1 | Batch)", {"family": "binomial"}, DataError, "of a binomial model"),
        ("Yield ~ 1 + (1 | Batch)", {"weight": "w"}, TypeError, "weights"),
    ],
)
def test_what_makes_no_matrices(formula, options, error, message):
    with pytest.raises(error, match=message):
        model_matrices(formula, load_dataset("Dyestuff"), **options)
