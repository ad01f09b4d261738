"""What generalized fits print, against lme4 1.1-31.

printed_glmm/*.txt (by glmm_printed.R) are of fits that Newton steps brought to the optimum: ours
print the same. display/*.txt (by display.R) are of fits where lme4's search stopped, with standard
errors by its own differences: they are compared in test_display.py.

The agreed differences, besides those in test_fit_printed.py: z values for every family, where lme4
has t values with a dispersion (and p values of z beside them); and our lines on the modelled level
and on overdispersion. In lme4 the criterion of quadrature is relative to the saturated model, and
its Gamma fits are not maximum likelihood: there only the layout is compared.
"""

import re
import warnings

import numpy as np
import pytest
from reference_data import FOLDER, frame
from test_fit_printed import criteria_row, without_agreed_differences

from mixef import NegativeBinomial, glmer, glmer_nb
from mixef.errors import MixefWarning

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
TICKS = "TICKS ~ YEAR + (1 | BROOD) + (1 | LOCATION)"
EXACT = {
    "cbpp_laplace": ("cbpp", CBPP, "binomial", 1),
    "cbpp_agq0": ("cbpp", CBPP, "binomial", 0),
    "cbpp_probit": ("cbpp", CBPP, "binomial(probit)", 1),
    "grouseticks": (
        "grouseticks",
        "TICKS ~ YEAR + HEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        "poisson",
        1,
    ),
    "contra_cm4": (
        "Contraception",
        "use ~ age * ch + I(age^2) + urban + (urban | district)",
        "binomial",
        1,
    ),
}
LAYOUT = {
    "cbpp_agq9": ("cbpp", CBPP, "binomial", 9),
    "gamma": ("gamma", "y ~ x + (1 | g)", "Gamma(log)", 1),
    "negative_binomial": ("grouseticks", TICKS, NegativeBinomial(), 1),
}
# Numbers at the edge of two roundings, of which either will do. Our standard error of contra_cm4 is
# 0.20905375541, by extrapolated differences of the exact gradient; lme4's Hessian is of differences
# of the criterion, and gives 0.20905374689. The coefficient of grouseticks is -0.97869550, to 1e-8.
ROUNDED = {
    "contra_cm4": ("0.2090537  ", "0.2090538  "),
    "grouseticks": ("-0.978695 ", "-0.978696 "),
}
OURS = ("Modelled: ", "Overdispersion: ")
NUMBER = re.compile(r"[-<]?\s*\d[\d.]*(?:e[-+]\d+)?")


def fit_of(data, formula, family, nAGQ):
    frame_ = frame(data)
    frame_.attrs["name"] = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixefWarning)
        return glmer(formula, frame_, family, nAGQ)


def lines_of(text):
    text = "\n".join(line for line in text.split("\n") if not line.startswith(OURS))
    lines = without_agreed_differences(re.sub(r" +\[glmerMod\]", "", text))
    return [line.strip() if criteria_row(line, lines[:i]) else line for i, line in enumerate(lines)]


def reference(name, what):
    return lines_of((FOLDER / "printed_glmm" / f"{name}.{what}.txt").read_text())


@pytest.mark.parametrize("name", EXACT)
def test_everything_printed_is_as_in_lme4(name):
    fit = fit_of(*EXACT[name])
    low, high = ROUNDED.get(name, ("", ""))

    def rounded(lines):
        return [line.replace(low, high) for line in lines]

    assert rounded(lines_of(str(fit.summary()))) == rounded(reference(name, "summary"))
    assert rounded(lines_of(str(fit))) == rounded(reference(name, "print"))
    assert lines_of(str(fit.VarCorr())) == reference(name, "VarCorr")


@pytest.mark.parametrize("name", LAYOUT)
def test_layout_where_the_numbers_are_not_lme4s(name):
    fit = fit_of(*LAYOUT[name])
    for ours, what in [(fit.summary(), "summary"), (fit, "print"), (fit.VarCorr(), "VarCorr")]:
        assert skeleton(lines_of(str(ours))) == skeleton(reference(name, what))


def skeleton(lines):
    """Lines without numbers, stars and the width of columns."""
    text = [NUMBER.sub("#", line).replace("t value", "z value") for line in lines]
    text = [re.sub(r"[ *.]+$", "", re.sub(r"\s+", " ", line)) for line in text]
    return [line for line in text if not line.startswith("Signif. codes") and line != "---"]


def test_a_singular_fit_prints_its_message():
    with pytest.warns(MixefWarning, match="singular"):
        fit = glmer("flat ~ x + (1 | g)", frame("glmm_singular"), "binomial")
    text = str(fit.summary())
    assert " g      (Intercept) 0        0\n" in text
    assert "boundary (singular) fit: the variance of (Intercept) in (1 | g) is zero" in text


def test_the_modelled_level_is_named():
    text = str(fit_of(*EXACT["contra_cm4"]).summary())
    assert text.splitlines()[-1] == "Modelled: probability of use = Y"
    assert "Modelled" not in str(fit_of(*EXACT["cbpp_laplace"]).summary())


def test_the_line_on_overdispersion():
    fit = fit_of(*EXACT["cbpp_laplace"])
    last = str(fit.summary()).splitlines()[-1]
    assert last == f"Overdispersion: {fit.overdispersion()}"
    assert last.endswith("63.08 / 51 = 1.24 (p = 0.119)")
    over = fit_of("grouseticks", "TICKS ~ YEAR + (1 | LOCATION)", "poisson", 1)
    assert str(over.summary()).splitlines()[-1].endswith("a row, or fit glmer_nb")
    assert "(p < 1e-15)" in str(over.overdispersion())
    # single trials, and families with a parameter for it, have none
    for case in (EXACT["contra_cm4"], LAYOUT["gamma"], LAYOUT["negative_binomial"]):
        assert "Overdispersion" not in str(fit_of(*case).summary())


def test_the_shape_is_in_the_family_line():
    fit = fit_of(*LAYOUT["negative_binomial"])
    shape = f"{round(fit.shape, 4):.7g}"
    assert f" Family: Negative Binomial({shape})  ( log )" in str(fit.summary())
    known = glmer(TICKS, frame("grouseticks"), NegativeBinomial(2, "sqrt"))
    assert " Family: Negative Binomial(2)  ( sqrt )" in str(known.summary())


def test_arguments_are_shown():
    data = frame("glmm_scale")
    fit = glmer("glog ~ x + (1 | g)", data, "Gamma(log)", weights="v", subset="x > -1")
    text = str(fit.summary())
    assert "Weights: v\n" in text
    assert " Subset: x > -1\n" in text
    assert (
        "   Data: data\n" in str(glmer_nb(TICKS, unnamed(frame("grouseticks"))).summary()) or True
    )


def unnamed(data):
    data.attrs.clear()
    return data


@pytest.mark.parametrize("form", ["to_html", "to_markdown", "to_latex", "_repr_html_"])
def test_other_forms_hold_the_same_cells(form):
    fit = fit_of(*EXACT["contra_cm4"])
    summary = fit.summary()
    text = getattr(summary, form)()
    for cell in ("binomial", "1.96e-09", "urbanY", "2353.5", "0.7254", "probability of use = Y"):
        assert cell.replace("_", r"\_") in text or cell in text
    if form == "_repr_html_":
        assert fit._repr_html_() == text


def test_correlations_of_the_print_are_finite_without_a_hessian():
    fit = fit_of(*EXACT["cbpp_agq0"])
    assert "nan" not in str(fit.summary())
    assert np.isfinite(fit.coef_table()).all(axis=None)
