"""Formulas of thousands of terms and of a thousand parentheses: no recursion, no quadratic time."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yardstick import within

from mixef import lmer
from mixef.errors import DataWarning, FormulaError
from mixef.terms.algebra import expand_terms
from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope, State
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula, update_formula
from mixef.terms.frame import model_frame
from mixef.terms.nodes import Binary, Call, Name, Paren, Unary, fold
from mixef.terms.parser import parse_expression

DEEP = {
    "a long sum": "+".join(f"v{i}" for i in range(3000)),
    "parentheses": "(" * 3000 + "x" + ")" * 3000,
    "a sum that nests to the right": "(x + " * 1500 + "x" + ")" * 1500,
    "signs": "-" * 3000 + "x",
    "powers": "^".join(["x"] * 3000),
    "calls": "log(" * 3000 + "x" + ")" * 3000,
    "arguments": "f(" + ", ".join(["x"] * 3000) + ")",
    "subtractions": "x0" + "".join(f" - x{i}" for i in range(3000)),
    "conditions": " & ".join(["x > 1"] * 3000),
    "lists": "[" * 1000 + "1" + "]" * 1000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_nodes_are_equal_copied_pickled_and_shown_at_any_depth(text):
    node = parse_expression(text)
    again = parse_expression.__wrapped__(text)
    assert again is not node
    assert again == node
    assert hash(again) == hash(node)
    other = parse_expression.__wrapped__(text.replace("x", "z").replace("v", "z"))
    assert (other == node) is (text == DEEP["lists"])
    assert pickle.loads(pickle.dumps(node)) == node
    assert copy.deepcopy(node) is node
    assert node.text in repr(node)
    assert parse_expression(node.text).text == node.text
    assert fold(node, lambda n, parts: 1 + sum(parts)) == sum(1 for _ in node.walk())


def leaf():
    return st.sampled_from(["a", "b", "log(x)", "f(x, k = 2)", "`my x`", '"s"', "1", "2L", "x:z"])


def grown(inner):
    two = st.tuples(inner, st.sampled_from("+-*/:^|&~"), inner).map(" ".join)
    return st.one_of(two, inner.map(lambda t: f"({t})"), inner.map(lambda t: f"-{t}"))


@settings(max_examples=150, deadline=None)
@given(st.recursive(leaf(), grown, max_leaves=12))
def test_what_is_written_is_what_was_read(text):
    node = parse_expression(text)
    assert parse_expression(node.text) == node
    assert pickle.loads(pickle.dumps(node)) == node


def climbed(tokens):
    """Operator-precedence climbing by recursion: another route to the same trees."""
    powers = {
        "~": (10, 11), "|": (20, 21), "&": (30, 31), "+": (60, 61), "-": (60, 61),
        "*": (70, 71), "/": (70, 71), ":": (90, 91), "^": (111, 100),
    }  # fmt: skip
    prefix = {"~": 11, "!": 40, "-": 100, "+": 100}

    def expression(least):
        token = tokens.pop(0)
        if token == "(":
            node = Paren(expression(0))
            tokens.pop(0)
        else:
            node = Unary(token, expression(prefix[token])) if token in prefix else Name(token)
        while tokens and tokens[0] in powers and powers[tokens[0]][0] >= least:
            op = tokens.pop(0)
            node = Binary(op, node, expression(powers[op][1]))
        return node

    return expression(0)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["a", "b", "!a", "-b", "~c"]),
        lambda t: st.one_of(
            st.tuples(t, st.sampled_from("+-*/:^|&~"), t).map(" ".join), t.map(lambda s: f"( {s} )")
        ),
        max_leaves=15,
    )
)
def test_precedence_is_that_of_a_recursive_parser(text):
    tokens = text.replace("!", "! ").replace("-b", "- b").replace("~c", "~ c").split()
    assert parse_expression(text) == climbed(tokens)


@pytest.fixture(scope="module")
def wide():
    rng = np.random.default_rng(1)
    data = pd.DataFrame(rng.normal(size=(120, 3000)), columns=[f"v{i}" for i in range(3000)])
    return data.assign(y=rng.normal(size=120), g=np.arange(120) % 12)


def test_three_thousand_terms_take_no_time(wide):
    text = "y ~ " + " + ".join(f"v{i}" for i in range(3000)) + " + (1 | g)"
    with within(1_800_000):
        frame = model_frame(parse_formula(text), wide)
        made = design(frame.fixed_terms, frame)
    np.testing.assert_array_equal(made.matrix[:, 1:], wide.iloc[:, :3000])
    with within(300_000):
        model_frame(parse_formula(text), wide)
    by_dot = model_frame(parse_formula("y ~ . - g + (1 | g)"), wide)
    assert design(by_dot.fixed_terms, by_dot).names == made.names


def test_long_formulas_are_fitted():
    rng = np.random.default_rng(1)
    k = 400
    data = pd.DataFrame(rng.normal(size=(500, k)), columns=[f"x{i}" for i in range(k)])
    data = data.assign(y=rng.normal(size=500), g=np.arange(500) % 20)
    names = list(data.columns[:k])
    fit = lmer("y ~ " + " + ".join(names) + " + (1 | g)", data)
    assert fit.objective == lmer("y ~ . - g + (1 | g)", data).objective
    assert pickle.loads(pickle.dumps(fit)).objective == fit.objective
    nested = lmer("y ~ " + "(" * 1000 + "x0" + ")" * 1000 + " + (1 | g)", data)
    assert nested.objective == lmer("y ~ x0 + (1 | g)", data).objective
    assert lmer("y ~ " + "+".join(["x0"] * 3000) + " + (1 | g)", data).npar == 4
    smaller = fit.update(". ~ . - " + " - ".join(names[:300]))
    assert len(smaller.beta) == 101


def test_grouping_factors_may_be_deep_and_long():
    deep = parse_formula("y ~ 1 + (1 | " + "(" * 1000 + "g" + ")" * 1000 + ")")
    assert [bar.name for bar in deep.bars] == ["g"]
    many = parse_formula("y ~ 1 + (1 | " + " + ".join(f"g{i}" for i in range(1000)) + ")")
    assert len(many.bars) == 1000
    assert len(parse_formula("y ~ " + " + ".join(f"(1 | g{i})" for i in range(1000))).bars) == 1000
    data = {"y": np.arange(6.0), **{f"g{i}": np.arange(6) // 2 for i in range(500)}}
    crossed = parse_formula("y ~ 1 + (1 | " + ":".join(f"g{i}" for i in range(500)) + ")")
    assert len(model_frame(crossed, data).groups) == 500


def test_updates_of_long_formulas():
    names = [f"v{i}" for i in range(2000)]
    old = "y ~ " + " + ".join(names) + " + (1 | g)"
    with within(1_000_000):
        assert update_formula(old, ". ~ . - v7") == old.replace("v7 + ", "", 1)
        assert update_formula(old, ". ~ " + "(" * 1000 + "." + ")" * 1000) == old


def test_an_expression_may_be_deep():
    scope = Scope(Columns({"x": np.arange(1.0, 4.0)}), State())
    value = scope.variable(parse_expression("I(" + "(" * 2000 + "x" + " + 1)" * 2000 + ")"))
    np.testing.assert_array_equal(value, np.arange(1.0, 4.0) + 2000)
    assert isinstance(parse_expression("I(" * 2000 + "x" + ")" * 2000), Call)
    assert scope.variable(parse_expression(" | ".join(["x > 2"] * 3000))).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("*".join(f"v{i}" for i in range(18)), "up to 262,143 terms"),
        ("(" + "+".join(f"v{i}" for i in range(200)) + ")^3", "up to 1,333,500 terms"),
        ("(" + "+".join(f"v{i}" for i in range(3000)) + "):(" + "+".join(
            f"w{i}" for i in range(3000)) + ")", "up to 9,000,000 terms"),
        ("*".join(f"v{i}" for i in range(2000)), "more than 1,000,000,000,000 terms"),
        ("(" + "*".join(f"v{i}" for i in range(30)) + ")^1e9", "more than"),
        (".^4", "up to 4,603,482 terms"),
    ],
)  # fmt: skip
def test_expansions_that_nobody_means_are_counted_and_refused(text, count):
    dot = tuple(f"c{i}" for i in range(103))
    with (
        within(2_000_000),
        pytest.raises(FormulaError, match=rf"stands for {count}.*expected at most 10,000"),
    ):
        expand_terms(parse_expression(text), dot)


def test_large_expansions_that_are_meant():
    hundred = " + ".join(f"v{i}" for i in range(100))
    pairs = expand_terms(parse_expression(f"({hundred})^2"))
    assert len(pairs.terms) == 100 + 4950
    assert expand_terms(parse_expression(f"({hundred}) * ({hundred})")).terms == pairs.terms
    assert len(expand_terms(parse_expression("*".join(["x"] * 3000))).terms) == 1
    assert len(expand_terms(parse_expression("x^1e9")).terms) == 1
    assert len(expand_terms(parse_expression("+".join(f"v{i}" for i in range(20_000)))).terms) > 1e4


@pytest.mark.parametrize(
    ("change", "absent", "there"),
    [
        (". ~ . - zz", "zz", "x, z, (1 | g)"),
        (". ~ . - zz - x", "zz", "z, (1 | g)"),
        (". ~ . - x:z", "x:z", "x, z, (1 | g)"),
        (". ~ . - (1 | h)", "1 | h", "x, z, (1 | g)"),
        (". ~ . - (x + q)", "q", "z, (1 | g)"),
    ],
)
def test_a_term_that_is_taken_away_but_not_there_is_told(change, absent, there):
    with pytest.warns(DataWarning) as caught:
        update_formula("y ~ x + z + (1 | g)", change)
    (warning,) = caught
    assert f"takes away {absent}, which is not" in str(warning.message)
    assert str(warning.message).endswith(f"its terms are: {there}")


def test_what_is_there_is_taken_away_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for change in (". ~ . - x", ". ~ . - x*z", ". ~ . - 1", ". ~ . - (1 | g) + (1 | h)"):
            update_formula("y ~ x * z + (1 | g)", change)
    with pytest.warns(DataWarning, match="takes away q"):
        model_frame(parse_formula("y ~ x - q"), {"y": [1.0, 2], "x": [1.0, 2]})


@pytest.mark.parametrize("change", [3, [". ~ ."], None, b". ~ ."])
def test_a_change_that_is_no_text_is_a_type_error(change):
    with pytest.raises(TypeError, match=r"expected text such as '\. ~ \. - x'"):
        update_formula("y ~ x", change)


def test_a_change_without_tilde_says_how_it_is_written():
    with pytest.raises(FormulaError, match=r"without '~'; expected text such as '\. ~ \. - x'"):
        update_formula("y ~ x", ". - x")


def test_time_is_linear_in_the_depth():
    with within(7_000_000):
        assert parse_formula("y ~ " + "(" * 10_000 + "x" + ")" * 10_000).fixed.text.endswith(")")
        assert len(parse_formula("y ~ " + "(" * 10_000 + "1 | g" + ")" * 10_000).bars) == 1
        update_formula("y ~ x", ". ~ x - " + "(q - " * 8_000 + "q" + ")" * 8_000)


def test_messages_about_long_formulas_are_short():
    text = " + ".join(f"v{i}" for i in range(3000))
    for wrong in (
        f"y ~ {text} + (1 | g",
        f"y ~ {text} + 'a' + (1|g)",
        f"{text}",
        "y ~ " + "x" * 10**5,
    ):
        with pytest.raises(FormulaError) as caught:
            model_frame(parse_formula(wrong), {"y": [1.0, 2.0]})
        assert len(str(caught.value)) < 2500


@pytest.mark.parametrize(
    ("python", "ours"),
    [
        ("x > 1 and z < 2", "x > 1 & z < 2"),
        ("x > 1 or not z", "x > 1 | !z"),
        ("not (x > 1)", "!(x > 1)"),
        ("f in ['a', 'b'] and x not in [1]", 'f %in% c("a", "b") & !x %in% c(1)'),
        ("not x == 1 and z", "!x == 1 & z"),
        ("and + or", "and + or"),
    ],
)
def test_pythons_words_mean_what_they_say(python, ours):
    assert parse_expression(python) == parse_expression(ours)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("0 < x < 3", "expected '&' between two comparisons"),
        ("x = 3", "expected '==', which compares"),
        ("x > @k", "variables of yours go by their names, without '@'"),
        ("f(a = 1, a = 2)", "each argument once"),
        ("1e999L", "too large"),
        ("0x" + "f" * 400, "too large"),
    ],
)
def test_habits_of_other_languages_are_answered(text, part):
    with pytest.raises(FormulaError, match=part):
        parse_expression(text)


def test_a_tilde_does_not_negate():
    scope = Scope(Columns({"x": np.array([True, False])}), State())
    with pytest.raises(FormulaError, match=r"'!' \(or 'not'\) negates"):
        scope.variable(parse_expression("~x"))
