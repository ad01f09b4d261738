"""What fits print, against lme4 1.1-31.

printed/*.txt (by printed.R) are of fits that Newton steps brought to the optimum: ours print the
same. display/*.txt (by display.R) are of fits where lme4's search stopped: they are printed at
lme4's theta, which display.json determines by its variances.

The agreed differences: no class behind the title; "-2*log(L)", as newer versions of lme4 have it,
where 1.1-31 has "deviance"; no line of the optimizer; the message of a singular fit names the
effect; and a line says that correlations of more than 12 coefficients are not shown.
"""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from fit_at_theta import at_theta
from reference_data import FOLDER, case, frame

from mixef import lmer, load_dataset
from mixef.errors import SingularFitWarning

PRINTED = {
    "sleep_reml": "sleep_reml",
    "sleep_ml": "sleep_ml",
    "pastes_nested": "pastes_nested",
    "dyestuff2_singular": "dyestuff2_ml_singular",
    "cake_interaction": "cake_interaction",
    "penicillin": "penicillin_reml",
}
DISPLAY = json.loads((FOLDER / "display.json").read_text())["fits"]
LINEAR = [name for name, numbers in DISPLAY.items() if "Generalized" not in numbers["title"]]

# Lines of one program: options, and how its search ended.
ONE_PROGRAM_ONLY = (
    "optimizer (",
    "Control: ",
    "boundary (singular) fit",
    "unable to evaluate scaled gradient",
    "Model failed to converge: degenerate",
    "Model is nearly unidentifiable",
)
# ANOVA estimates of the standard deviations in the balanced Pastes: 2.904077593, 1.2873649995 (a
# tie in six digits, which no search decides) and 0.82340755401.
EXACT = {"pastes_nested": np.divide([2.904077593086, 1.287364999515], 0.823407554010)}


def rotten():
    """The data of the case with all arguments: display.R makes the same."""
    factors = {
        "long_enough_to_wrap": np.tile(np.arange(1, 10), 20),
        "another_long_factor": np.repeat(np.arange(1, 11), 18),
    }
    return frame("sleepstudy").assign(
        w=np.tile([1.0, 2.0], 90),
        z=np.tile([0.1, 0.5, 0.2, 0.9, -0.4], 36),
        verylongvariablename=np.cos(np.arange(1, 181)),
        **{name: pd.Categorical(values) for name, values in factors.items()},
    )


def lower_triangle(cov):
    """The triangle with rows of norms sqrt(diag) whose product is a covariance, by columns."""
    value, vector = np.linalg.eigh(cov)
    R = np.linalg.qr((vector * np.sqrt(np.maximum(value, 0.0))).T, mode="r")
    lam = (R * np.where(np.diag(R) < 0, -1.0, 1.0)[:, None]).T
    return lam.T[np.triu_indices(len(lam))]


def display_fit(name):
    """Our fit of a case of display.R, at lme4's theta."""
    numbers = DISPLAY[name]
    data = rotten() if numbers["data_name"] == "rotten" else frame(numbers["data_name"])
    data.attrs["name"] = numbers["data_name"]
    arguments = {key: numbers[key] for key in ("weights", "offset", "subset") if numbers[key]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        fit = lmer(numbers["formula"], data, numbers["is_reml"], **arguments)
    covs = [np.array(group["cov"], dtype=float) for group in numbers["groups"]]
    sigma = float(numbers["sigma"])
    return at_theta(fit, np.concatenate([lower_triangle(cov / sigma**2) for cov in covs]))


def without_agreed_differences(text):
    """Lines without spaces at their ends, and without what differs on purpose."""
    text = re.sub(r" +\['lmerMod'\]", "", text.translate({0x2018: "'", 0x2019: "'"}))
    lines = []
    for line in text.rstrip().split("\n"):
        plain = line.rstrip()
        if plain.startswith(ONE_PROGRAM_ONLY) or " rows left out: " in plain:
            continue
        lines.append(re.sub(r"\s+", " ", plain) if criteria_row(plain, lines) else plain)
    if lines[-2:-1] == [""] and "not shown" in lines[-1]:
        lines = lines[:-2]
    while not lines[-1]:
        lines.pop()
    return [line.replace("-2*log(L)", "deviance") for line in lines]


def criteria_row(line, before):
    """Labels or values of AIC, BIC, ...: as wide as their widest label."""
    return line.strip().startswith("AIC") or (before and before[-1].strip().startswith("AIC"))


def assert_same_lines(ours, file):
    expected = without_agreed_differences((FOLDER / file).read_text())
    assert without_agreed_differences(ours) == expected


@pytest.mark.parametrize("name", PRINTED)
def test_the_summary_of_a_fit_is_that_of_lme4(name):
    fitted = case("lme4.json", PRINTED[name])
    # As in printed.R, whose formulas have spaces.
    formula = fitted["formula"].replace("|", " | ").replace("  ", " ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        fit = lmer(formula, frame(fitted["data"]), fitted["REML"])
    if name in EXACT:
        fit = at_theta(fit, EXACT[name])
    assert_same_lines(str(fit.summary(ddf=None)), f"printed/{name}.summary.txt")
    assert_same_lines(str(fit.VarCorr()), f"printed/{name}.VarCorr.txt")


@pytest.mark.parametrize("name", LINEAR)
def test_everything_printed_of_a_fit_is_as_in_lme4(name):
    fit = display_fit(name)
    assert_same_lines(str(fit.summary(ddf=None)), f"display/{name}.summary.txt")
    assert_same_lines(str(fit), f"display/{name}.print.txt")
    components = fit.VarCorr()
    tables = [
        components.to_table(),
        components.to_table(("Variance", "Std.Dev."), digits=4),
        components.to_table(("Variance",), digits=3),
    ]
    assert_same_lines("\n".join(map(str, tables)), f"display/{name}.varcorr.txt")


def test_a_singular_fit_says_what_vanished():
    with pytest.warns(SingularFitWarning):
        fit = lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff2"))
    message = "boundary (singular) fit: the variance of (Intercept) in (1 | Batch) is zero"
    assert message in str(fit.summary())


def test_arguments_given_as_arrays_are_named_by_their_type():
    fit = lmer("Reaction ~ Days + (1 | Subject)", frame("sleepstudy"), weights=np.ones(180))
    assert "Weights: ndarray" in str(fit.summary())


def test_the_data_go_by_the_callers_name_for_them():
    mine = frame("sleepstudy")
    mine.attrs.clear()
    fit = lmer("Reaction ~ Days + (1 | Subject)", mine)
    assert "\n   Data: mine\n" in str(fit.summary())
    other = mine.copy()
    assert "\n   Data: other\n" in str(fit.update(data=other).summary())
    unnamed = lmer("Reaction ~ Days + (1 | Subject)", mine.copy())
    assert "Data:" not in str(unnamed.summary())


def test_a_summary_shows_the_digits_and_correlations_that_are_asked_for():
    data = load_dataset("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    assert "Correlation of Fixed Effects" in str(fit.summary())
    for form in ("to_text", "to_html", "to_markdown", "to_latex"):
        shown = getattr(fit.summary(correlation=False), form)()
        assert shown.split()[:3] == getattr(fit.summary(), form)().split()[:3]
        assert "Correlation" not in shown
    assert "251.4051" in str(fit.summary(digits=7))
    assert "251.4051" not in str(fit.summary())
    wide = data.assign(**{f"z{i}": np.cos((i + 0.5) * np.arange(len(data))) for i in range(12)})
    fit = lmer(f"Reaction ~ {' + '.join(f'z{i}' for i in range(12))} + (1 | Subject)", wide)
    assert "not shown, as p = 13 > 12" in str(fit.summary())
    assert "not shown" not in str(fit.summary(correlation=False))
    below = str(fit.summary(correlation=True)).split("Correlation of Fixed Effects:\n")[1]
    assert below.splitlines()[12].split()[0] == "z11"
    with pytest.raises(ValueError, match="digits is 0; expected"):
        fit.summary(digits=0)
    with pytest.raises(ValueError, match="correlation is 'no'; expected"):
        fit.summary(correlation="no")
