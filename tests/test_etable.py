"""Fits side by side and in sentences: every number beside the frames it comes from."""

import re
import shutil
import subprocess
from functools import cache

import numpy as np
import pandas as pd
import pytest

import mixef
from mixef import etable, glmer, lmer, load_dataset, report
from mixef.text.estimates import estimate_text, like
from mixef.text.tables import Table

HARD = {"g_1": "x_2 & 50%", "f": ["a&b", "c_d", "#1", "50%", "~{^}\\"], "y": "größe β"}


@cache
def fit_of(name):
    sleep = load_dataset("sleepstudy")
    formulas = {
        "one": "Reaction ~ Days + (1 | Subject)",
        "two": "Reaction ~ Days + (Days | Subject)",
    }
    if name in formulas:
        return lmer(formulas[name], sleep)
    if name == "ml":
        return lmer("Reaction ~ Days + I(Days^2) + (Days || Subject)", sleep, REML=False)
    if name == "cbpp":
        formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        return glmer(formula, load_dataset("cbpp"), "binomial")
    if name == "nb":
        return mixef.glmer_nb("TICKS ~ YEAR + (1 | BROOD)", load_dataset("grouseticks"))
    if name == "gamma":
        return glmer("Reaction ~ Days + (1 | Subject)", sleep, "Gamma(log)")
    assert name == "hard"
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"g_1": np.repeat([f"a_{i}%" for i in range(20)], 10)})
    data["x_2 & 50%"], data["f"] = rng.normal(size=200), rng.choice(HARD["f"], 200)
    slopes, levels = (np.repeat(rng.normal(size=20), 10) for _ in range(2))
    data["größe β"] = rng.normal(size=200) + slopes * data["x_2 & 50%"] + levels
    return lmer("`größe β` ~ `x_2 & 50%` + f + (`x_2 & 50%` | g_1)", data)


every_fit = pytest.mark.parametrize("name", ["one", "two", "ml", "cbpp", "nb", "gamma", "hard"])


def is_rounding_of(text, value):
    """Whether a cell is a number rounded to the decimals that it shows."""
    plain = text.strip("()*").replace("<", "")
    digits = plain.partition("e")[0].partition(".")[2]
    unit = 10.0 ** (-len(digits) + int(plain.partition("e")[2] or 0))
    return abs(float(plain) - value) <= 0.5000001 * unit


def cells_of(table, column=0):
    """The cells of a table by the label of their row, the lines below a row with it."""
    out, last = {}, None
    for label, row in zip(table.index, table.rows, strict=True):
        last = label or last
        out.setdefault(last, []).append(row[column])
    return out


@every_fit
def test_cells_are_those_of_the_coefficient_table(name):
    fit = fit_of(name)
    made = etable(fit, show=["se", "statistic", "p", "ci"], digits=4)
    cells, table = cells_of(made.table), fit.coef_table()
    limits = fit.tidy("fixed", conf_int=True).set_index("term")
    for term, (estimate, se, *numbers) in table.iterrows():
        top, below, statistic, p, interval = cells[term]
        assert is_rounding_of(top, estimate)
        assert is_rounding_of(below, se)
        assert len(re.sub(r"\D", "", below).lstrip("0")) == 4
        assert is_rounding_of(statistic, numbers[-2])
        shown = p.split()[-1]
        assert p == "p < 0.001" if numbers[-1] < 0.001 else is_rounding_of(shown, numbers[-1])
        low, high = interval.strip("[]").split(", ")
        assert is_rounding_of(low, limits.loc[term, "conf_low"])
        assert is_rounding_of(high, limits.loc[term, "conf_high"])


@every_fit
def test_variance_components_and_statistics(name):
    fit = fit_of(name)
    made = etable(fit, show_random=["se", "ci"], stats=[*STATS, "family", "groups"])
    cells = cells_of(made.table)
    rows = fit.tidy(["ran_pars", "family"], conf_int=True)
    labels = [label for label in cells if label not in fit.fixef().index]
    for label, (_, row) in zip(labels, rows.iterrows(), strict=False):
        top, se, interval = cells[label]
        assert is_rounding_of(top, row["estimate"])
        assert is_rounding_of(se, row["std_error"])
        assert is_rounding_of(interval.strip("[]").split(", ")[0], row["conf_low"])
    values = made.statistics.iloc[:, 0]
    expected = [fit.nobs, fit.npar, fit.df_residual, fit.loglik, fit.deviance, fit.aic, fit.aicc,
                fit.bic, fit.r2().marginal, fit.r2().conditional, fit.icc().adjusted]  # fmt: skip
    np.testing.assert_allclose(values[: len(STATS)].astype(float), expected, rtol=1e-12)
    for label, value in values.items():
        cell = cells[label][0]
        assert cell == value if isinstance(value, str) else is_rounding_of(cell, value)
    assert values.filter(like="Groups: ").tolist() == fit.ngrps().tolist()


STATS = ["nobs", "npar", "df_residual", "loglik", "deviance", "aic", "aicc", "bic",
         "r2_marginal", "r2_conditional", "icc"]  # fmt: skip


def test_a_table_as_it_prints():
    one, two = fit_of("one"), fit_of("two")
    text = str(etable(one, two, stats=["nobs", "groups", "aic"], title="Reaction times"))
    assert text == (
        "Reaction times\n"
        "                                   Reaction\n"
        "                                   one     two\n"
        "----------------------------------------------\n"
        "Fixed effects\n"
        "(Intercept)                     251.41  251.41\n"
        "                                (9.75)  (6.82)\n"
        "Days                            10.467   10.47\n"
        "                               (0.804)  (1.55)\n"
        "----------------------------------------------\n"
        "Random effects\n"
        "Subject: SD (Intercept)          37.12   24.74\n"
        "Subject: SD Days                          5.92\n"
        "Subject: Cor (Intercept), Days           0.066\n"
        "Residual: SD                     30.99   25.59\n"
        "----------------------------------------------\n"
        "Fit\n"
        "Observations                       180     180\n"
        "Groups: Subject                     18      18\n"
        "AIC                            1794.47 1755.63\n"
        "---\n"
        "Standard errors in parentheses"
    )


def test_the_choice_of_coefficients():
    cbpp, ml = fit_of("cbpp"), fit_of("ml")

    def rows(*models, **options):
        return [label for label in etable(*models, stats=[], ran_pars=False, **options).table.index
                if label]  # fmt: skip

    every = ["(Intercept)", "period2", "period3", "period4"]
    assert rows(cbpp) == every
    assert rows(cbpp, keep="period*") == every[1:]
    assert rows(cbpp, keep=["period4", "period2"]) == ["period2", "period4"]
    assert rows(cbpp, drop="(Intercept)") == every[1:]
    assert rows(cbpp, keep="period?", drop="*3") == ["period2", "period4"]
    assert rows(cbpp, order=["*4", "period2"]) == ["period4", "period2", "(Intercept)", "period3"]
    names = {"period2": "Period 2", "(Intercept)": "Constant"}
    assert rows(cbpp, rename=names)[:2] == ["Constant", "Period 2"]
    assert rows(cbpp, rename=names, drop="Constant", keep="Period*") == ["Period 2"]
    assert rows(cbpp, rename=names, drop="(Intercept)")[0] == "Period 2"
    # what is new in a model goes before what follows it there, else to the end
    assert rows(fit_of("one"), ml) == ["(Intercept)", "Days", "I(Days^2)"]
    named = lmer("Reaction ~ I(Days^2) + Days + (1 | Subject)", load_dataset("sleepstudy"))
    assert rows(fit_of("one"), named) == ["(Intercept)", "I(Days^2)", "Days"]


def test_labels_and_heads():
    cbpp, two = fit_of("cbpp"), fit_of("two")
    names = {"cbind(incidence, size - incidence)": "Incidence", "herd": "Herd", "AIC": "Akaike",
             "(Intercept)": "Constant"}  # fmt: skip
    made = etable({"first": two, "second": cbpp}, rename=names)
    assert list(made.table.columns) == ["first", "second"]
    assert made.table.above == ["Reaction", "Incidence"]
    index = list(made.table.index)
    assert "Herd: SD Constant" in index
    assert "Subject: Cor Constant, Days" in index
    assert "Akaike" in index
    assert index.index("Residual: SD") > index.index("Herd: SD Constant")
    assert list(etable([two, cbpp], model_names=["a", "b"]).table.columns) == ["a", "b"]
    assert list(etable(two, cbpp).table.columns) == ["two", "cbpp"]
    assert "Family" in index
    assert "Family" not in etable(two).table.index


def test_stars_and_ratios():
    cbpp, two = fit_of("cbpp"), fit_of("two")
    made = etable(two, cbpp, stars=True, exponentiate=[False, True], ran_pars=False)
    cells = cells_of(made.table, 1)
    ratio = np.exp(cbpp.fixef()["period2"])
    assert cells["period2"][0].endswith("**")
    assert is_rounding_of(cells["period2"][0], ratio)
    assert made.table.legend == "* p < 0.05, ** p < 0.01, *** p < 0.001"
    assert made.table.note.splitlines() == [
        "Standard errors in parentheses", "Tests of two use Satterthwaite's method",
        "Coefficients of cbpp are exponentiated",
    ]  # fmt: skip
    frame = made.to_frame().query("model == 'cbpp'").set_index("term")
    assert frame.loc["period2", "estimate"] == pytest.approx(ratio)
    own = etable(cbpp, stars={"+": 0.5, "x": 0.002}, show=None).table
    assert own.legend == "+ p < 0.5, x p < 0.002"
    assert cells_of(own)["period2"][0].endswith("x")
    assert own.note is None
    assert "*" not in str(etable(cbpp))


def test_notes():
    one, ml = fit_of("one"), fit_of("ml")
    made = etable(one, ml, ddf="kr", notes="The end.", conf_level=0.9, show="ci")
    assert made.table.note.splitlines() == [
        "90% intervals in brackets", "Tests of one use Kenward-Roger's method",
        "Tests of ml use Kenward-Roger's method on a refit by REML", "The end.",
    ]  # fmt: skip
    quiet = mixef.LmerControl(check_conv_singular="ignore")
    flat = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff2"), control=quiet)
    assert "flat: boundary (singular) fit" in etable(flat).table.note
    assert "Caution: boundary (singular) fit" in report(flat).paragraphs["model"]
    assert "(Intercept) by Batch is 0.00 (95% CI" in report(flat).paragraphs["random effects"]


def test_variances_and_profiles():
    one = fit_of("one")
    made = etable(one, scales="vcov", show_random="ci", conf_method="profile")
    limits = one.confint(["sd_*"], method="profile").iloc[0] ** 2
    top, interval = cells_of(made.table)["Subject: Var (Intercept)"]
    low, high = interval.strip("[]").split(", ")
    assert is_rounding_of(top, one.VarCorr().to_frame()["vcov"][0])
    assert is_rounding_of(low, limits.iloc[0])
    assert is_rounding_of(high, limits.iloc[1])
    assert "95% intervals by profile in brackets" in made.table.note


# Forms


LATEX = """\\documentclass{article}
\\usepackage{booktabs}
\\begin{document}
%s
\\end{document}
"""


def test_latex_of_names_with_special_characters(tmp_path):
    """It compiles where there is a LaTeX; and everywhere nothing special is left bare."""
    hard, gamma = fit_of("hard"), fit_of("gamma")
    made = etable(hard, gamma, stars={"[": 0.1, "*": 0.05}, show=["ci", "se"], show_random="ci",
                  rename={"Days": "[Days] $x$", "(Intercept)": "*Start"},
                  title="50% of #1_a & ~^\\ {b}\nmore", notes="100 % <sure> µ ≤ Ω | Ϊ")  # fmt: skip
    latex = "\n\n".join([made.to_latex(), report(hard).to_latex(), report(gamma).to_latex()])
    assert r"x\_2 \& 50\%" in latex
    assert r"größe $\beta$" in latex
    assert r"f\textasciitilde{}\{\textasciicircum{}\}\textbackslash{}" in latex
    assert "[$-$" in latex
    for line in made.to_latex().splitlines():
        assert not line.startswith(("[", "*"))
        assert not re.search(r"(?<!\\)[#_^]", line)
        if line.endswith(r" \\") and "multicolumn" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) == 2
    if shutil.which("pdflatex"):
        (tmp_path / "a.tex").write_text(LATEX % latex.replace("Ϊ", "I"), encoding="utf-8")
        run = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "a.tex"]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-800:]


def test_html_and_markdown():
    made = etable(fit_of("hard"), fit_of("one"), title="a <b>")
    html, markdown = made.to_html(), made.to_markdown()
    assert html == made._repr_html_()
    assert "x_2 &amp; 50%" in html
    assert ">a &lt;b&gt;</div></caption>" in html
    assert html.count("<th scope='rowgroup' colspan='3'") == 3
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}
    assert "| **Fixed effects** |  |  |" in lines
    assert "<p>" in report(fit_of("hard")).to_html()
    assert r"\_" in report(fit_of("hard")).to_markdown()


def test_great_tables(monkeypatch):
    html = etable(fit_of("hard"), fit_of("one"), title="a <b>").to_great_tables().as_raw_html()
    assert "x_2 &amp; 50%" in html
    assert "Random effects" in html
    assert html.count('class="gt_group_heading"') == 3
    monkeypatch.setitem(__import__("sys").modules, "great_tables", None)
    with pytest.raises(mixef.errors.MissingLibraryError, match=r"pip install 'mixef\[tables\]'"):
        etable(fit_of("one")).to_great_tables()


def test_sections_and_headings_of_tables():
    table = Table(
        ("a", "b"), [("1", "2"), ("3", "4")], above=("a long heading", "a long heading"),
        sections={1: "more"},
    )  # fmt: skip
    assert table.to_text().splitlines() == [
        "a long heading", "a            b", "1            2", "--------------", "more",
        "3            4",
    ]  # fmt: skip
    assert table.head(1).sections is None
    assert table.narrow(4).above == ("a long heading",)
    with pytest.raises(ValueError, match="above has 1 headings for 2 columns"):
        Table(("a", "b"), [], above=("a",))


# Sentences


@every_fit
def test_numbers_of_a_report_are_those_of_the_table(name):
    fit = fit_of(name)
    table = etable(fit, show=["se", "ci", "statistic", "df", "p"], show_random=["se", "ci"],
                   stats=["nobs", "groups", "loglik", "aic", "bic", "r2_marginal",
                          "r2_conditional", "icc"]).table  # fmt: skip
    known = set(
        re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", " ".join(c for r in table.rows for c in r))
    )
    said = report(fit).paragraphs
    text = re.sub(
        r"95%|R2", "", " ".join(said[k] for k in ("fixed effects", "random effects", "fit"))
    )
    for term in [*fit.fixef().index, *HARD["f"], HARD["g_1"], "g_1"]:
        text = re.sub(f" (of|and|by) {re.escape(term)} ", " it ", text)
    numbers = re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)
    assert len(numbers) > 10
    assert set(numbers) <= known


def test_what_a_report_says():
    said = report(fit_of("two")).paragraphs
    assert list(said) == ["model", "data", "fixed effects", "random effects", "fit", "methods"]
    assert said["model"] == (
        "A linear mixed model of Reaction was fitted by restricted maximum likelihood (REML): "
        "Reaction ~ Days + (Days | Subject)."
    )
    assert said["data"] == "The data have 180 observations: 18 levels of Subject."
    assert said["fixed effects"].startswith(
        "The estimate of (Intercept) is 251.41 (SE = 6.82, 95% CI [237.01, 265.80], "
        "t(17.0) = 36.84, p < 0.001)."
    )
    assert str(report(fit_of("two"))) == str(report(fit_of("two")))
    assert max(map(len, str(report(fit_of("two"))).splitlines())) <= 80
    ratios = report(fit_of("cbpp"), exponentiate=True, conf_level=0.9).paragraphs
    assert "The odds ratio of period2 is 0.371 (SE = 0.114, 90% CI [" in ratios["fixed effects"]
    assert "The rate ratio of YEAR96" in report(fit_of("nb"), exponentiate=True).paragraphs[
        "fixed effects"]  # fmt: skip
    assert "The shape of the" in report(fit_of("nb")).paragraphs["random effects"]
    assert "The ratio of Days" in report(fit_of("gamma"), exponentiate=True).to_text()
    kr = report(fit_of("ml"), ddf="kr").paragraphs["methods"]
    assert "Kenward-Roger's method on a refit by REML" in kr


def test_a_report_says_what_is_odd():
    data = load_dataset("Contraception").assign(livch2=lambda d: (d["livch"] == "0").astype(int))
    data["age2"] = data["age"].where(data.index > 3)
    with pytest.warns(mixef.errors.DataWarning):
        fit = glmer("use ~ age2 + livch + livch2 + (1 | district)", data, "binomial", nAGQ=0,
                    offset="age")  # fmt: skip
    said = report(fit).paragraphs
    assert "with the fixed effects at the mode (nAGQ = 0)" in said["model"]
    assert "It is of the probability that use is Y." in said["model"]
    assert "It has the offset age." in said["model"]
    assert "The data do not tell livch2 from the other fixed effects: dropped." in said["model"]
    assert "4 of 1934 rows left out: 4 with missing values (age2 4)." in said["data"]
    no_fixed = lmer("Yield ~ 0 + (1 | Batch)", load_dataset("Dyestuff"))
    assert "fixed effects" not in report(no_fixed).paragraphs
    assert "Fixed effects" not in str(etable(no_fixed))


def test_the_format_of_estimates():
    """By hand: decimals by the significant digits of the standard error."""
    assert like(1234.5, 99.96, 3) == "1234"  # the size shows as 100
    assert like(0.123456, 0.0999, 2) == "0.12"  # as 0.10
    assert like(1e-9, 1e-10, 2) == "1.0e-09"
    assert like(1.2e12, 1e11, 2) == "1.2e+12"
    row = {"estimate": float("nan"), "std_error": float("nan"), "p_value": 0.9999}
    assert (estimate_text(row).estimate, estimate_text(row).p) == ("", "1.000")
    assert estimate_text({"estimate": -0.0}).estimate == "0.00"
    assert estimate_text({"estimate": np.inf, "std_error": 1.0}).estimate == "Inf"


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"show": "sd"}, "show is 'sd'; expected one of 'se', 'ci', 'statistic', 'df' or 'p'"),
        ({"show_random": "p"}, "show_random is 'p'; expected 'se' or 'ci'"),
        ({"stars": {"*": 2}}, r"stars\['\*'\] is 2; expected a number between 0 and 1"),
        ({"stars": 3}, "stars is 3; expected True or False"),
        ({"keep": "Dayz"}, "keep has 'Dayz', which is no coefficient of the models; expected some"),
        ({"drop": ["Days", "x*"]}, r"drop has 'x\*', which is no coefficient"),
        ({"order": "zz"}, "order has 'zz'"),
        ({"rename": "Days"}, "rename is 'Days'; expected a dict from names to labels"),
        ({"rename": {"Days": "(Intercept)"}}, "rename gives two rows of one the name"),
        ({"stats": "r3"}, "stats is 'r3'; expected one of 'estimation', 'family'"),
        ({"exponentiate": [True, False]}, "exponentiate is .*; expected True, False, or 1 of them"),
        ({"model_names": ["a", "b"]}, "model_names is .*; expected 1 names that differ"),
        ({"conf_method": "boot"}, "conf_method is 'boot'; expected 'wald' or 'profile'"),
        ({"conf_level": 95}, "conf_level is 95"),
        ({"title": 1}, "title is 1; expected text or None"),
        ({"labels": {}}, "etable has no labels: use rename="),
        ({"type": "tex"}, "etable has no type: the result has to_latex"),
        ({"ran_pars": None}, "ran_pars is None; expected True or False"),
    ],
)
def test_etable_refuses(arguments, message):
    one = fit_of("one")
    with pytest.raises(mixef.errors.ArgumentError, match=message):
        etable(one, **arguments)


def test_what_is_no_model():
    with pytest.raises(mixef.errors.ArgumentError, match="etable got no model"):
        etable()
    with pytest.raises(
        mixef.errors.ArgumentError, match="model 2 is 3; expected a model fitted by"
    ):
        etable(fit_of("one"), 3)
    with pytest.raises(mixef.errors.ArgumentError, match="fit is 'x'; expected a model fitted by"):
        report("x")
    with pytest.raises(mixef.errors.ArgumentError, match="report has no style"):
        report(fit_of("one"), style="apa")
