"""Names of levels and columns with whatever signs, in every form of a table."""

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_printed import balanced, markdown_rows, well_formed

from mixef import lmer, load_dataset
from mixef.text.latex import latex_text
from mixef.text.printed import frame_table
from mixef.text.tables import Table, markdown_paragraph

SIGNS = st.sampled_from("<>&\"'|$_*`\\~^{}[]#%@-!?.,:;=+/() aZ9éβ²ά日")
WORDS = st.sampled_from(
    ["<b>", "a|b", "$x$", r"\|", "&lt;", "--", "**", "long" * 60, "{{< x >}}", "</table>"]
)
LABELS = st.lists(st.one_of(SIGNS, WORDS, st.characters(exclude_categories=("C", "Z"))), min_size=1)
TEXTS = LABELS.map("".join).filter(str.strip)


@given(st.lists(TEXTS, min_size=1, max_size=3), TEXTS, TEXTS)
@settings(max_examples=120, deadline=None)
def test_labels_survive(index, column, note):
    cells = [("1.5", f"-{i}") for i in range(len(index))]
    table = Table(("x", column), cells, index, title=column, note=note)
    first = [text.strip() for text in index]
    rows = well_formed(table.to_html())
    assert rows[0] == ["", "x", column.strip()]
    assert [row[0] for row in rows[1:-1]] == first
    assert rows[-1] == [note.strip()]
    rows = markdown_rows(table.to_markdown())
    assert rows[0] == ["", "x", " ".join(column.split())]
    assert [row[0] for row in rows[2:]] == [" ".join(text.split()) for text in index]
    for latex in (table.to_latex(), table._repr_latex_()):
        balanced(latex)
        plain = re.sub(r"\$[^$]*\$|\\[#$%_&]|\[1ex\]|p\{0\.\d+", "", latex)
        assert not re.search(r"[#$%_]", re.sub(r"\\def.*", "", plain))


def test_a_blank_column_of_labels_is_left_out():
    table = Table(("Groups", "Std.Dev."), [("g", "1.0"), ("h", "2.0")], ("", ""), "lr")
    assert table.to_text().splitlines()[1] == " g           1.0"
    assert well_formed(table.to_html()) == [["Groups", "Std.Dev."], ["g", "1.0"], ["h", "2.0"]]
    assert table.to_markdown().splitlines()[0] == "| Groups | Std.Dev. |"
    assert r"\begin{tabular}{lr}" in table.to_latex()


def test_long_text_is_broken_into_lines():
    table = Table(("check", "message"), [("rank", "word " * 40)], align="ll", title="Health")
    assert "min-width: 14em; overflow-wrap: anywhere" in table.to_html()
    assert re.search(r"\{lp\{0\.\d\d\\linewidth\}\}", table.to_latex())
    assert r"{\raggedright word word" in table.to_latex()
    # pandoc gives columns the shares of the dashes
    assert table.to_markdown().splitlines()[3] == f"| :{'-' * 5} | :{'-' * 200} |"
    short = Table(("check", "message"), [("rank", "fine")], align="ll")
    assert short.to_markdown().splitlines()[1] == "| :--- | :--- |"
    assert r"\begin{tabular}{ll}" in short.to_latex()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1. of 2", r"1\. of 2"), ("# a", r"\# a"), ("- b", r"\- b"), ("--- c", r"-\-\- c"),
     ("-0.5", "-0.5"), ("a@b ^2^ &lt; R&D", r"a\@b \^2\^ \&lt; R&D"), ("1: y ~ x", r"1: y \~ x")],
)  # fmt: skip
def test_a_paragraph_starts_no_list(text, expected):
    assert markdown_paragraph(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x₂²", "x${}_{2}$${}^{2}$"), ("ά ς", r"$\acute{\alpha}$ $\varsigma$"),
        ("ῖϐἀϙ", r"$\tilde{\iota}$ϐἀϙ"),
        ("οΟΌ", r"$\mathrm{o}$$\mathrm{O}$$\acute{\mathrm{O}}$"), ("a--b", "a-{}-b"),
     ("`x`", r"\textasciigrave{}x\textasciigrave{}"), ("½ 日", "½ 日"), ("a\x00b", "ab")],
)  # fmt: skip
def test_signs_in_latex(text, expected):
    assert latex_text(text) == expected


def test_long_labels_leave_room_for_numbers():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=["x" * 200, "y"])
    assert frame_table(frame).narrow(100).columns == ["a", "b"]


def test_levels_of_a_fit_survive():
    data = load_dataset("sleepstudy")
    levels = ["<b>", "a|b", "$x$", "50% of_it", "ß β", "l" * 90]
    data["Subject"] = data["Subject"].cat.codes.map(lambda i: f"{levels[i % 6]}{i // 6}")
    effects = lmer("Reaction ~ Days + (1 | Subject)", data).ranef()
    names = list(effects["Subject"].index)
    assert [row[0] for row in well_formed(effects._repr_html_())[1:]] == names
    assert [row[0] for row in markdown_rows(effects.to_markdown())[2:]] == names
    balanced(effects.to_latex())
