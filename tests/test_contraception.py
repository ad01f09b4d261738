"""The models cm1 to cm6 of the glmer paper, and the table that compares them."""

import numpy as np
import pytest
from reference_data import frame, read_reference
from scipy import stats

from mixef import glmer

FORMULAS = {
    "cm1": "use ~ age + I(age^2) + urban + livch + (1 | district)",
    "cm2": "use ~ age + I(age^2) + urban + ch + (1 | district)",
    "cm3": "use ~ age * ch + I(age^2) + urban + (1 | district)",
    "cm4": "use ~ age * ch + I(age^2) + urban + (urban | district)",
    "cm5": "use ~ age * ch + I(age^2) + urban + (1 | urban:district) + (1 | district)",
    "cm6": "use ~ age * ch + I(age^2) + urban + (1 | urban:district)",
}
#: lme4's anova() of its tightly converged fits (glmm_object.R), by the models in it.
TABLES = {k: t for k, t in read_reference("glmm_object.json")["anova"].items() if "rows" in t}


@pytest.fixture(scope="module")
def fits():
    data = frame("Contraception")
    return {name: glmer(formula, data, "binomial") for name, formula in FORMULAS.items()}


@pytest.mark.parametrize("name", TABLES)
def test_likelihood_ratio_table(fits, name):
    table = TABLES[name]
    models = [fits[row] for row in table["rows"]]
    values = table["values"]
    ours = {
        "npar": [m.npar for m in models],
        "AIC": [m.aic for m in models],
        "BIC": [m.bic for m in models],
        "logLik": [m.loglik for m in models],
        "deviance": [m.objective for m in models],
    }
    for column, numbers in ours.items():
        # lme4's search left 2e-8 of the criterion.
        np.testing.assert_allclose(numbers, values[column], rtol=0, atol=5e-8)
    for i in range(1, len(models)):
        df = models[i].npar - models[i - 1].npar
        assert df == values["Df"][i]
        if df > 0:
            fall = models[i - 1].objective - models[i].objective
            assert max(fall, 0.0) == pytest.approx(values["Chisq"][i], rel=0, abs=1e-7)
            p = stats.chi2.sf(max(fall, 0.0), df)
            assert p == pytest.approx(values["Pr(>Chisq)"][i], rel=1e-6)
