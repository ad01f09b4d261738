import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_matrix_reference import REFERENCE

from mixef.errors import FormulaError
from mixef.terms.algebra import expand_terms
from mixef.terms.formula import parse_formula, update_formula
from mixef.terms.nodes import number_text
from mixef.terms.parser import parse_expression


@pytest.mark.parametrize("case", REFERENCE["bars"], ids=lambda c: c["formula"][0])
def test_bars_and_fixed_part_are_lme4s(case):
    formula = parse_formula(case["formula"][0])
    if "||" not in formula.text:  # which is one term here, where lme4 1.1 splits it
        assert [bar.text for bar in formula.bars] == case["bars"]
    assert formula.fixed.text == case["fixed"][0]


@pytest.mark.parametrize("case", REFERENCE["algebra"], ids=lambda c: c["text"][0])
def test_terms_are_those_of_R(case):
    terms = expand_terms(parse_expression(case["text"][0]))
    assert terms.intercept == bool(case["intercept"][0])
    assert list(terms.labels) == case["labels"]
    assert [o.text for o in terms.offsets] == case["offsets"]


@pytest.mark.parametrize("case", REFERENCE["updates"], ids=lambda c: f"{c['old']}, {c['new']}")
def test_update_is_that_of_R(case):
    assert update_formula(case["old"][0], case["new"][0]) == case["result"][0]


@pytest.mark.parametrize(
    ("value", "text"),
    list(zip(REFERENCE["numbers"]["value"], REFERENCE["numbers"]["text"], strict=True)),
)
def test_numbers_are_written_as_in_R(value, text):
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("group", "names"),
    [
        # a*b and a+b: reformulas (lme4 >= 1.1-36), lme4_behaviour: (e|a)+(e|b)+(e|a:b)
        ("a * b", ["a", "b", "a:b"]),
        ("a + b", ["a", "b"]),
        ("a/(b + c)", ["b:a", "c:a", "a"]),
        ("a:b/c", ["c:(a:b)", "a:b"]),
        ("(a/b)/c", ["c:(b:a)", "b:a", "a"]),
        ("`my group`/b", ["b:`my group`", "my group"]),
    ],
)
def test_grouping_expressions(group, names):
    assert [bar.name for bar in parse_formula(f"y ~ x + (1 | {group})").bars] == names


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("(x | g)", [("x | g", "us", False)]),
        ("us(x | g)", [("x | g", "us", False)]),
        ("diag(x | g)", [("x | g", "diag", False)]),
        ("diag(x | g, hom = TRUE)", [("x | g", "diag", True)]),
        ("cs(x | g)", [("x | g", "cs", False)]),
        ("ar1(0 + f | g)", [("0 + f | g", "ar1", True)]),
        ("ar1(0 + f | g, hom=False)", [("0 + f | g", "ar1", False)]),
        ("cs(x | a/b, hom=TRUE)", [("x | b:a", "cs", True), ("x | a", "cs", True)]),
        ("(x || g)", [("x | g", "diag", False)]),
        ("(f || a/b)", [("f | b:a", "diag", False), ("f | a", "diag", False)]),
        ("(1 || g)", [("1 | g", "diag", False)]),
        ("((x | g))", [("x | g", "us", False)]),
    ],
)
def test_structures(term, expected):
    bars = parse_formula(f"y ~ z + {term}").bars
    assert [(bar.text, bar.structure, bar.hom) for bar in bars] == expected


@pytest.mark.parametrize(
    ("formula", "part"),
    [
        ("y ~ x + diag(x|g, het=TRUE)", "unknown argument 'het'"),
        ("y ~ us(x|g, hom=TRUE)", "takes no second argument"),
        ("y ~ cs(x|g, hom=h)", "'hom' is not TRUE or FALSE in special call"),
        ("y ~ cs(x|g, TRUE, 3)", "unknown argument"),
        ("y ~ cs(x||g)", "both choose a structure"),
        ("y ~ x + 1 | g", "write (x + 1 | g)"),
        ("y ~ x * (1 | g)", "can only be added"),
        ("y ~ x - (1 | g)", "cannot be subtracted"),
        ("y ~ (1 | g | h)", "one '|'"),
        ("y + x", "expected '~'"),
        ("y ~ x ~ z", "more than one '~'"),
    ],
)
def test_bars_that_cannot_be_are_refused(formula, part):
    with pytest.raises(FormulaError) as caught:
        parse_formula(formula)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("formula", "caret", "part"),
    [
        ("y ~ x +", 7, "found the end"),
        ("y ~ x + (1 | g", 14, "expected ')'"),
        ("y ~ x z", 6, "expected an operator"),
        ("y ~ x + $", 8, "unexpected character '$'"),
        ("y ~ 'abc", 4, "never closed"),
        ("y ~ f(1,,2)", 8, "found ','"),
        ("y ~ x %o% z", 6, "%in%"),
        ("y ~ (1 + | g)", 9, "found '|'"),
    ],
)
def test_syntax_errors_point_at_the_place(formula, caret, part):
    with pytest.raises(FormulaError) as caught:
        parse_formula(formula)
    message, line, pointer = str(caught.value).split("\n")
    assert part in message
    assert line.strip() == formula
    assert pointer.index("^") - 4 == caret


@pytest.mark.parametrize(
    "text",
    # What R 4.2.2 gives for deparse(quote(.)).
    [
        "a + (b - c) * -d^2:e/f",
        'f(1e+05, 1e-10, 0.5, 2L, "a\\"b", 16, 100, 1e+15, 123456789)',
        "!a | b",
        "x%/%2 + x%%3",
        "splines::ns(x, 3)",
        "poly(x, 2, raw = TRUE)",
        "`my w` + log(total.fruits + 1)",
        'I(ch %in% c("p", "q"))',
    ],
)
def test_deparsing_a_deparsed_text_changes_nothing(text):
    assert parse_expression(text).text == text


def test_the_dot_stands_for_the_given_columns_only():
    node = parse_expression(". - x")
    assert expand_terms(node, ("x", "z")).labels == ("z",)
    with pytest.raises(FormulaError, match="no data"):
        expand_terms(node)


@pytest.mark.parametrize(
    ("text", "part"),
    [("2 + x", "only 0 and 1"), ("a^b", "whole number"), ("1:x", "bare number"), ("'s'", "string")],
)
def test_terms_that_cannot_be_are_refused(text, part):
    with pytest.raises(FormulaError, match=part):
        expand_terms(parse_expression(text))


def test_a_subtracted_offset_goes():
    assert update_formula("y ~ x + offset(w)", ". ~ . - offset(w)") == "y ~ x"


def test_an_update_does_not_cross_random_effects_terms():
    with pytest.raises(FormulaError, match=r"cross the random-effects term \(1 \| g\)"):
        update_formula("y ~ x + (1 | g)", ". ~ . * z")


_names = st.sampled_from(["a", "b", "c", "d"])
_sums = st.recursive(
    _names,
    lambda inner: st.tuples(inner, st.sampled_from([" + ", " * ", ":"]), inner).map(
        lambda t: f"({t[0]}{t[1]}{t[2]})"
    ),
    max_leaves=6,
)


@given(_sums)
def test_expanding_the_expanded_terms_changes_nothing(text):
    terms = expand_terms(parse_expression(text))
    again = expand_terms(parse_expression(" + ".join(terms.labels)))
    assert {frozenset(n.text for n in t) for t in again.terms} == {
        frozenset(n.text for n in t) for t in terms.terms
    }


@given(_sums)
def test_crossing_with_itself_changes_nothing(text):
    once = expand_terms(parse_expression(text))
    assert set(expand_terms(parse_expression(f"{text} + {text}")).labels) == set(once.labels)
