"""What is printed, against R 4.2.2 and lme4 1.1-31.

The numbers and texts are made by format_numbers.R and display.R in tests/reference.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixef.inference.summary import Summary
from mixef.inference.varcorr import GroupVarCorr, VarCorr
from mixef.text.coefficients import coef_to_table
from mixef.text.layout import abbreviate, fill, formula_lines, named_vector
from mixef.text.numbers import (
    format_common,
    format_fixed,
    format_pvalue,
    significance_stars,
    zap_small,
)
from mixef.text.tables import Table

REFERENCE = Path(__file__).parent / "reference"
R_NUMBERS = json.loads((REFERENCE / "format_numbers.json").read_text())
R_FITS = json.loads((REFERENCE / "display.json").read_text())["fits"]


def floats(texts):
    return [float(text) for text in texts]


def r_lines(lines):
    """R's lines in our terms: plain quotes, and no spaces at the end of a line."""
    return [line.rstrip().translate({0x2018: "'", 0x2019: "'"}) for line in lines]


def read_lines(name, part):
    lines = r_lines((REFERENCE / "display" / f"{name}.{part}.txt").read_text().splitlines())
    while lines and not lines[-1]:
        lines.pop()
    return lines


def mismatches(section, function):
    """Cases of one section of the reference on which `function` does not do as R does."""
    wrong = [(c, function(c)) for c in R_NUMBERS[section] if function(c) != c["out"]]
    return wrong[:3]


def test_format_common_is_format_of_r():
    assert not mismatches(
        "format", lambda c: format_common(floats(c["values"]), c["digits"], c["nsmall"])
    )


def test_zap_small_is_zapsmall_of_r():
    assert not mismatches("zapsmall", lambda c: format_common(zap_small(floats(c["values"]), 5), 4))


def test_format_pvalue_is_format_pval_of_r():
    assert not mismatches("pvalue", lambda c: format_pvalue(floats(c["values"]), c["digits"]))


def test_abbreviate_is_abbreviate_of_r():
    assert not mismatches("abbreviate", lambda c: abbreviate(c["names"], c["minlength"]))


def test_abbreviate_ends_where_names_differ_by_spaces_only():
    assert abbreviate([" x", "x"], 4) == ["x", "x"]


@pytest.mark.parametrize("case", R_NUMBERS["formula"])
def test_formula_lines_are_those_of_deparse(case):
    assert formula_lines(case["formula"]) == r_lines(case["out"])


@pytest.mark.parametrize("case", R_NUMBERS["named_vector"])
def test_named_vector_is_printed_as_in_r(case):
    cells = format_common(floats(case["values"]), 4)
    assert named_vector(case["names"], cells, case["gap"]) == r_lines(case["out"])


@pytest.mark.parametrize("case", R_NUMBERS["coef"])
def test_coef_to_table_is_print_coefmat(case):
    frame = pd.DataFrame(
        [floats(row) for row in case["table"]], index=case["rows"], columns=case["columns"]
    )
    assert str(coef_to_table(frame, case["digits"])).split("\n") == r_lines(case["out"])


def test_nonfinite_numbers_have_no_digits():
    assert format_common([np.nan, np.inf, -np.inf]) == [" NaN", " Inf", "-Inf"]
    assert format_common([]) == []
    assert format_pvalue([np.nan, 0.5]) == ["NA", "0.5"]
    assert significance_stars([np.nan]) == [""]


def test_format_fixed_shows_no_negative_zero():
    assert format_fixed([-1e-9, 0.25], 2) == ["0.00", "0.25"]


@pytest.mark.parametrize(("length", "lines"), [(51, 1), (52, 2)])
def test_fill_breaks_at_80_characters(length, lines):
    # cat("aaa", strrep("y", n), fill = TRUE) in R 4.2.2: one line up to 79 characters in all.
    assert len(fill(["x" * 27, "y" * length])) == lines


def fit_groups(numbers):
    return [
        GroupVarCorr(g["name"], g["columns"], np.array([floats(row) for row in g["cov"]]))
        for g in numbers["groups"]
    ]


def sigma_of(numbers):
    return None if numbers["sigma"] is None else float(numbers["sigma"])


def criterion_of(numbers):
    values = {label: float(value) for label, value in numbers["criterion"].items()}
    if numbers["is_reml"] and list(values) == ["REML"]:
        return "REML criterion at convergence", values["REML"]
    return values


def summary_of(numbers, messages=()):
    rows = [floats(row) for row in numbers["coef"]]
    table = pd.DataFrame(rows, index=numbers["coef_index"], columns=numbers["coef_columns"])
    plain = ("title", "formula", "nobs", "ngrps", "data_name", "weights", "offset", "subset")
    return Summary(
        **{name: numbers[name] for name in (*plain, "control", "family", "link")},
        varcorr=VarCorr(fit_groups(numbers), sigma_of(numbers)),
        criterion=criterion_of(numbers),
        coef_table=table,
        scaled_residuals=floats(numbers["scaled_residuals"]),
        corr=None if numbers["corr"] is None else np.array([floats(r) for r in numbers["corr"]]),
        messages=messages,
    )


def without_class(lines):
    """R's lines without the class behind the title, which mixef does not print."""
    return [re.sub(r" +\[('lmerMod'|glmerMod)\]$", "", line) for line in lines]


@pytest.mark.parametrize("name", R_FITS)
def test_summary_is_that_of_lme4(name):
    numbers = R_FITS[name]
    expected = without_class(read_lines(name, "summary"))
    optimizer = [line for line in expected if line.startswith("optimizer (")]
    text = str(summary_of(numbers, [*optimizer, *numbers["messages"]]))
    p = len(numbers["coef"])
    if p > 12:  # R says the same in a message, which is not part of its output
        expected += [
            "",
            f"Correlation of Fixed Effects: not shown, as p = {p} > 12; see vcov().",
        ]
    assert text.split("\n") == expected


@pytest.mark.parametrize("name", R_FITS)
def test_short_text_is_print_of_lme4(name):
    lines = without_class(read_lines(name, "print"))
    expected = [line for line in lines if not line.startswith("optimizer (")]
    assert summary_of(R_FITS[name]).to_short_text().split("\n") == expected


@pytest.mark.parametrize("name", R_FITS)
def test_varcorr_is_print_of_varcorr(name):
    found = VarCorr(fit_groups(R_FITS[name]), sigma_of(R_FITS[name]))
    # The fits' terms already have distinct names; display.R prints these three in turn.
    tables = [
        found.to_table(),
        found.to_table(("Variance", "Std.Dev."), digits=4),
        found.to_table("Variance", digits=3),
    ]
    text = "\n".join(map(str, tables))
    assert text.split("\n") == read_lines(name, "varcorr")


COV = np.array([[4.0, 3.0], [3.0, 9.0]])


def test_varcorr_numbers_names_that_come_again():
    one = GroupVarCorr("g", ["(Intercept)"], np.array([[4.0]]))
    table = VarCorr([one, one, one], None).to_table()
    assert [row[0] for row in table.rows] == ["g", "g.1", "g.2"]


@pytest.mark.parametrize(
    ("structure", "hom", "expected"),
    [
        ("us", False, [["2", ""], ["3", "0.50"]]),
        ("diag", False, [["2"], ["3"]]),
        ("diag", True, [["2"]]),
        ("cs", False, [["2", "0.50 (cs)"], ["3", ""]]),
        ("cs", True, [["2", "0.50 (cs)"]]),
        ("ar1", True, [["2", "0.50 (ar1)"]]),
    ],
)
def test_varcorr_shows_what_a_structure_has(structure, hom, expected):
    table = VarCorr([GroupVarCorr("g", ["a", "b"], COV, structure, hom)], None).to_table(digits=4)
    assert [[cell.strip() for cell in row[2:]] for row in table.rows] == expected


def test_varcorr_of_a_zero_variance_has_no_correlation():
    cov = np.array([[0.0, 0.0], [0.0, 4.0]])
    table = VarCorr([GroupVarCorr("g", ["a", "b"], cov)], 1.0).to_table()
    assert table.rows[1][-1] == "  NaN"


@pytest.mark.parametrize("comp", [(), ("sd",), ("Variance", "sd")])
def test_varcorr_refuses_an_unknown_component(comp):
    with pytest.raises(ValueError, match=r"give 'Variance', 'Std.Dev.' or both"):
        VarCorr([GroupVarCorr("g", ["a", "b"], COV)], 1.0).to_table(comp)


class CellReader(HTMLParser):
    """Collects the text of table cells, and the tags that are open."""

    def __init__(self):
        super().__init__()
        self.cells, self.open, self.balanced = [], [], True

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        self.balanced &= self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & {*self.open}:
            self.cells[-1] += data


def read_html(text):
    reader = CellReader()
    reader.feed(text)
    return reader.cells, reader.balanced and not reader.open


TABLE = Table(
    ("Est_%", "P|z"),
    [("-1.5 ", "<2e-16"), (" 2.0", "a&b")],
    index=("x^2", "<g>"),
    align="nr",
    title="T & t",
    note="n#1",
)


def test_table_html_escapes_and_keeps_every_cell():
    text = TABLE.to_html()
    cells, balanced = read_html(text)
    assert balanced
    assert cells == ["", "Est_%", "P|z", "x^2", "-1.5", "<2e-16", "<g>", "2.0", "a&b", "n#1"]
    assert ">T &amp; t</div></caption>" in text
    assert "&lt;2e-16" in text
    assert TABLE._repr_html_() == text


def test_table_latex_escapes():
    assert TABLE.to_latex().split("\n") == [
        r"\begin{table}",
        r"\centering",
        r"\caption{T \& t}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & Est\_\% & P\textbar{}z \\",
        r"\midrule",
        r"x\textasciicircum{}2 & $-$1.5 & \textless{}2e-16 \\",
        r"\textless{}g\textgreater{} & 2.0 & a\&b \\",
        r"\bottomrule",
        r"\multicolumn{3}{l}{n\#1} \\",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_table_markdown_escapes():
    assert TABLE.to_markdown().split("\n") == [
        "**T & t**",
        "",
        r"|  | Est\_% | P\|z |",
        "| :--- | ---: | ---: |",
        r"| x\^2 | -1.5 | \<2e-16 |",
        r"| \<g\> | 2.0 | a&b |",
        "",
        "n#1",
    ]


def test_table_text_aligns():
    table = Table(("a", "long", "n"), [("x", "1", " 2 "), ("yy", "10", "-3 ")], align="lrn")
    assert table.to_text().split("\n") == ["a  long n", "x     1  2", "yy   10 -3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": [("1",)]}, "row 0 has 1 cells; give it 2"),
        ({"rows": [("1", "2")], "index": ("a", "b")}, "index has 2 labels for 1 rows"),
        ({"rows": [], "align": "l"}, "give 2 letters"),
        ({"rows": [], "align": "lx"}, "give 2 letters"),
    ],
)
def test_table_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        Table(("a", "b"), **arguments)


@pytest.mark.parametrize("name", ["sleepstudy_reml", "cake", "cbpp"])
def test_every_form_of_a_summary_has_the_same_cells(name):
    summary = summary_of(R_FITS[name], ["a message"])
    cells = [c.strip() for table in summary.tables() for row in table.rows for c in row]
    html_cells, balanced = read_html(summary._repr_html_())
    assert balanced
    assert not set(cells) - set(html_cells)
    text = str(summary)
    for cell in cells:
        if cell not in (summary.formula, "binomial (logit)"):
            assert cell in text or cell in ("Formula", "Data", "Message")
    rules = [
        line for line in summary.to_markdown().split("\n") if line and not set(line) - set("|:- ")
    ]
    assert len(rules) == len(summary.tables())
    latex = summary.to_latex()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == len(summary.tables())


def test_summary_digits_change_the_estimates():
    numbers = R_FITS["sleepstudy_reml"]
    summary = summary_of(numbers)
    wide = Summary(**{**vars(summary), "digits": 6})
    assert "251.4051" not in str(summary)
    assert "251.4051" in str(wide)


def test_information_criteria_take_the_labels_they_are_given():
    summary = summary_of(R_FITS["sleepstudy_ml"])
    values = {"-2*log(L)" if k == "deviance" else k: v for k, v in summary.criterion.items()}
    lines = str(Summary(**{**vars(summary), "criterion": values})).split("\n")
    # All columns are as wide as the widest label, as print() of a named vector in R.
    assert lines[4] == "      AIC       BIC    logLik -2*log(L)  df.resid"
    assert len(lines[5]) == len(lines[4])
