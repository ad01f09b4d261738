"""What every public result looks like: at the prompt, in a notebook, in Markdown and in LaTeX."""

import inspect
import pickle
import re
import warnings
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from scipy import sparse

import mixef
from mixef import (
    all_fit,
    anova,
    exact_rlrt,
    glmer,
    glmer_nb,
    lm_list,
    lmer,
    load_dataset,
    pb_test,
    power,
    simulate_from,
)
from mixef.estimation.fit import Fit
from mixef.methods.plots import Plots
from mixef.text.printed import LONGEST, WIDEST, Printed, PrintedFrames, frame_table
from mixef.text.tables import Table

KNOWN = {"beta": [1, 2], "theta": [1, 0, 1], "sigma": 1}
SLEEP = "Reaction ~ Days + (Days | Subject)"
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
# Longest text of a result, and of a part that is only reached through one.
LINES, WIDTH = 60, 120
# The predictor behind the last coefficient of each model.
PREDICTORS = {"Days": "Days", "period4": "period", "YEAR97": "YEAR"}
# What some of the models do not have (two terms to be collinear, a covariate with a slope), and
# what belongs to another library.
OF_ANOTHER = ("vif", "emtrends", "to_marginaleffects")
# What a user makes shows how it was made.
MADE_BY_USERS = (mixef.LmerControl, mixef.GlmerControl, mixef.Family, mixef.Link)
# The state of a fit is the program's own, and pictures are not shown in words: one line each.
CLOSED = (*MADE_BY_USERS, Fit, Plots)
PLAIN = (pd.DataFrame, pd.Series, pd.Index, np.ndarray, np.generic, str, int, float, bool,
         type(None), sparse.sparray, sparse.spmatrix)  # fmt: skip


def models():
    sleep = load_dataset("sleepstudy")
    return {
        "lmm": lmer(SLEEP, sleep),
        "ml": lmer("Reaction ~ Days + (1 | Subject)", sleep, REML=False),
        "glmm": glmer(CBPP, load_dataset("cbpp"), "binomial"),
        "nb": glmer_nb("TICKS ~ YEAR + (1 | BROOD)", load_dataset("grouseticks")),
    }


def of_model(fit):
    """The result of every public method and property of a model, by name."""
    linear = isinstance(fit, mixef.LinearMixedModel)
    name = fit.fixef().index[-1]
    arguments = {
        "contest": [name], "getME": ["ALL"], "bootstrap": [5], "integrand": [[0.0, 1.0]],
        "update": [". ~ ."], "drop1": [None, "F" if linear else "Chisq"],
        "refit": [fit.simulate(3, seed=1)], "emmeans": [PREDICTORS[name]], "with_vcov": ["CR0"],
    }  # fmt: skip
    options = {"bootstrap": {"seed": 1}, "profile": {"which": name, "delta_cutoff": 0.9},
               "ranef": {"condVar": True}, "simulate": {"n": 2, "seed": 1},
               "confint": {"method": "wald"}, "influence": {"groups": fit.ngrps().index[-1],
               "refit": False}}  # fmt: skip
    out = {}
    for key in sorted(k for k in dir(fit) if not k.startswith("_") and k not in OF_ANOTHER):
        value = getattr(fit, key)
        if inspect.ismethod(value):
            value = value(*arguments.get(key, []), **options.get(key, {}))
        out[key] = value
    return out


@cache
def results():
    """Every public result, by what returns it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = models()
        out = {f"{kind}.{key}": value for kind, fit in made.items()
               for key, value in of_model(fit).items()}  # fmt: skip
        lmm, ml, glmm = made["lmm"], made["ml"], made["glmm"]
        cake = lmer("angle ~ recipe * temp + (1 | recipe:replicate)", load_dataset("cake"))
        means, rows = cake.emmeans("recipe"), glmm.simulated_residuals(20, seed=1)
        sleep = load_dataset("sleepstudy")
        tried, lists = (
            all_fit(ml, ["newton", "COBYLA"]),
            lm_list("Reaction ~ Days | Subject", sleep),
        )
        out |= {
            "anova": anova(lmm, ml), "all_fit": tried, "all_fit.summary": tried.summary(),
            "exact_rlrt": exact_rlrt(ml, n=20, seed=1), "lm_list": lists,
            "lm_list.summary": lists.summary(), "lm_list.coef_tables": lists.coef_tables(),
            "lm_list.confint": lists.confint(), "pb_test": pb_test(lmm, ". ~ . - Days", 5, seed=1),
            "power": power(ml, "Days", n=3, seed=1),
            "glmm.joint": glmm.contest(["period2", "period3"]),
            "simulate_from": simulate_from(SLEEP, sleep, KNOWN, seed=1),
            "datasets": mixef.datasets(), "contest.each": lmm.contest(["Days"], joint=False),
            "GHrule": mixef.GHrule(3), "etable": mixef.etable(lmm, glmm, stats="nobs"),
            "report": mixef.report(lmm), "matrices": mixef.model_matrices(SLEEP, sleep),
            "vif": cake.vif(), "means": means,
            "emtrends": cake.emtrends("temp", "recipe"), "pairs": means.pairs(),
            "cld": means.cld(), "eff_size": means.eff_size(), "joint": means.joint_tests(),
            "residuals.tests": rows.tests(), "residuals.groups": rows.test_groups("herd"),
            "compare": mixef.compare(lmm, ml), "ranova": mixef.ranova(lmm),
            "step": mixef.step(ml), "delta_method": mixef.delta_method(lmm, "Days / 2"),
        }  # fmt: skip
    return out


def parts(value, seen, depth=0):
    """A result and what is reached from it: values of mappings and public attributes."""
    if id(value) in seen or isinstance(value, PLAIN) or (callable(value) and not depth):
        return
    seen[id(value)] = value
    yield value
    if depth == 3:
        return
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, (list, tuple)):
        inner = list(value)
    else:
        inner = []
    if type(value).__module__.startswith("mixef") and not isinstance(value, CLOSED):
        names = [n for n in dir(value) if not n.startswith("_")]
        inner += [getattr(value, n) for n in names if not callable(getattr(value, n, None))]
    for part in inner:
        yield from parts(part, seen, depth + 1)


def printed():
    """The results that are of mixef's own types, and the dicts among them."""
    return {key: value for key, value in results().items() if not isinstance(value, PLAIN)}


def test_no_result_is_a_dump():
    """Neither itself nor what it holds shows as the generated text of a dataclass."""
    seen = {}
    for key in printed():
        for value in parts(printed()[key], seen):
            if isinstance(value, MADE_BY_USERS) or not type(value).__module__.startswith("mixef"):
                continue
            assert "__create_fn__" not in type(value).__repr__.__qualname__, (key, type(value))
            text = repr(value)
            assert "object at 0x" not in text, (key, type(value))
            assert "array(" not in text, (key, type(value))
            assert len(text.splitlines()) <= LINES, (key, type(value))
            assert max(map(len, text.splitlines()), default=0) <= WIDTH, (key, type(value))
    kinds = {type(value).__name__ for value in seen.values()}
    assert kinds >= {"Convergence", "Step", "GroupVarCorr", "Curve", "ManyFits", "AllFitSummary"}


def test_every_result_is_pandas_or_prints_itself():
    """But for the pieces of getME, and the tables of a result themselves."""
    for key, value in printed().items():
        if key.endswith((".getME", ".tables")) or isinstance(value, CLOSED):
            continue
        assert isinstance(value, Printed), (key, type(value))
        assert type(value).__repr__ is Printed.__repr__, key
        assert not hasattr(value, "_repr_markdown_"), key  # beside HTML it would show twice


class Reader(HTMLParser):
    """The tags that are open, and the text of cells, captions and notes."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.tables = [], [], 0

    def handle_starttag(self, tag, attributes):
        if tag != "br":
            self.open.append(tag)
            self.tables += tag == "table"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_every_form_has_the_same_cells():
    for key, value in printed().items():
        if not isinstance(value, Printed):
            continue
        tables = value.tables()
        cells = {cell.strip() for table in tables for row in table.rows for cell in row}
        reader = Reader()
        reader.feed(value.to_html())
        assert not reader.open
        assert reader.tables == len(tables), key
        assert cells <= {*reader.texts, ""}, key
        assert value._repr_html_().startswith(("<div", "<table")), key
        rules = [
            line for line in value.to_markdown().splitlines() if re.fullmatch(r"[|:\- ]+", line)
        ]
        assert len(rules) == len(tables), key
        latex = value.to_latex()
        assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == len(tables), key
        assert value._repr_latex_().count(r"\begin{tabular}") == len(tables), key


def well_formed(html):
    """Assert that HTML is well formed and wants nothing of the page; return its rows of cells."""
    root = ElementTree.fromstring(f"<body>{html.replace('<br>', '<br/>')}</body>")
    for element in root.iter():
        style = element.get("style", "").replace("color: inherit", "")
        assert not re.search(r"colou?r|background|#[0-9a-f]{3}|rgb", style)
        assert element.tag not in ("style", "script", "font")
        assert not (element.tag == "th" and not element.get("scope"))
    tables = [*root.iter("table")]
    scrolled = root.findall(".//div[@style='overflow-x: auto; margin: 0.5em 0']/table")
    assert len(scrolled) == len(tables)
    rows = [[*row] for table in tables for row in table.iter("tr")]
    for table in tables:
        assert len(table.findall("thead")) == 1
        assert len(table.findall("tfoot")) <= 1
        spans = [sum(int(c.get("colspan", 1)) for c in row) for row in table.iter("tr")]
        assert len(set(spans)) == 1
    return [["".join(cell.itertext()) for cell in row] for row in rows]


def markdown_rows(markdown):
    """The cells of all pipe tables; each row of a table has as many."""
    tables = [[]]
    for line in markdown.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
            cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]
            tables[-1].append([re.sub(r"\\(.)", r"\1", cell).strip() for cell in cells])
        elif tables[-1]:
            tables.append([])
    for rows in filter(None, tables):
        assert len({len(row) for row in rows}) == 1
        assert all(re.fullmatch(":?-{3,}:?", cell) for cell in rows[1])
    return [row for rows in tables for row in rows]


def balanced(latex):
    """Assert that braces and environments close, and every row has as many cells as the first."""
    signs = re.sub(r"\\\\|\\[{}&]", "", latex)
    depth = np.cumsum([{"{": 1, "}": -1}.get(sign, 0) for sign in signs])
    assert depth.size == 0 or (depth.min() >= 0 and depth[-1] == 0)
    opened = []
    for end, name in re.findall(r"\\(begin|end)\{(\w+)\}", latex):
        assert opened.pop() == name if end == "end" else not opened.append(name)
    assert not opened
    for table in re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", latex, re.DOTALL):
        lines = [line for line in table.splitlines() if line.endswith(r"\\")]
        counts = {len(re.findall(r"(?<!\\)&", line)) for line in lines if "multicol" not in line}
        assert len(counts) == 1


def test_every_form_is_well_formed():
    """In a notebook too, and of what users make: families, links, options."""
    made = [kind() for kind in (*MADE_BY_USERS[:2], mixef.Gamma, mixef.NegativeBinomial)]
    made.append(mixef.Binomial().link)
    for value in (*printed().values(), *made):
        if isinstance(value, (Printed, Table)):
            well_formed(value.to_html())
            markdown_rows(value.to_markdown())
            balanced(value.to_latex())
        if hasattr(value, "_repr_html_"):
            well_formed(value._repr_html_())
            shown = value._repr_latex_()
            balanced(shown)
            # Quarto takes what starts so for mathematics, and documents of Word lose it
            assert not shown.startswith(r"\begin{")
            assert "<table" not in value._repr_html_() or r"\providecommand{\toprule}" in shown


def test_warnings_are_in_every_form():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff2"))
    said = "boundary (singular) fit: the variance of (Intercept) in (1 | Batch) is zero"
    assert ["Message", said] in well_formed(fit._repr_html_())
    assert ["Message", said] in markdown_rows(fit.to_markdown())
    for latex in (fit.to_latex(), fit._repr_latex_()):
        assert "Message & boundary (singular) fit: the variance of (Intercept)" in latex


NASTY = '<b>&"$x_1$ 50% #|*\\~^{}'


def test_names_are_escaped_in_every_form():
    """A column, a level and a coefficient with all the signs that HTML, Markdown and TeX read."""
    data = load_dataset("sleepstudy").rename(columns={"Days": NASTY})
    data["Subject"] = data["Subject"].astype(str) + NASTY
    fit = lmer(f"Reaction ~ `{NASTY}` + (`{NASTY}` | Subject)", data, REML=False)
    small = fit.update(f". ~ . - `{NASTY}`")
    for value in (fit, fit.summary(), fit.ranef(), fit.coef(), fit.VarCorr(), fit.anova(),
                  fit.contest([0, 1]), fit.convergence, fit.drop1(),
                  anova(fit, small), fit.refit(fit.simulate(2, seed=1))):  # fmt: skip
        html, latex, markdown = value.to_html(), value.to_latex(), value.to_markdown()
        assert "<b>" not in html
        assert "&lt;b&gt;&amp;" in html
        reader = Reader()
        reader.feed(html)
        assert not reader.open
        assert r"\textless{}b\textgreater{}\&" in latex
        assert not re.search(r"(?<!\\)[$#%_](?!-\$)", latex.replace("$-$", ""))
        assert not re.search(r"(?<!\\)[<*$]b?", markdown.replace("**", ""))


def test_long_results_show_their_first_rows():
    """The forms to keep have all rows; a prompt and a notebook the first ones."""
    effects = lmer("y ~ 1 + (1 | s)", load_dataset("InstEval").head(4000)).ranef()
    n = len(effects["s"])
    assert n > 100
    lines = repr(effects).splitlines()
    assert len(lines) == LONGEST + 3
    assert lines[-1] == f"... {n - LONGEST} more rows"
    assert f"... {n - LONGEST} more rows" in effects._repr_html_()
    for text in (effects.to_text(), effects.to_markdown(), effects.to_latex(), effects.to_html()):
        assert "more rows" not in text
        assert text.count("\n") > n


def test_wide_frames_show_their_first_columns():
    data = load_dataset("cake").assign(day=lambda d: d.index % 30)
    fit = lmer("angle ~ C + (1 | replicate)".replace("C", "factor(day)"), data)
    coefficients = fit.coef()
    lines = repr(coefficients).splitlines()
    assert max(map(len, lines)) <= WIDEST
    shown = len(lines[1].split())
    assert lines[-1] == f"... {30 - shown} more columns"
    assert f"... {30 - shown} more columns" in coefficients._repr_html_()
    for text in (coefficients.to_text(), coefficients.to_markdown(), coefficients.to_html()):
        assert "more columns" not in text
        assert "factor(day)29" in text
    narrow = Table(("a" * 200, "b"), [("1", "2")]).narrow(10)  # one column, whatever its width
    assert narrow.to_text().endswith("... 1 more columns")


def test_frames_by_name_are_still_dicts():
    fit = lmer(SLEEP, load_dataset("sleepstudy"))
    effects = fit.ranef()
    assert isinstance(effects, dict)
    assert list(effects) == ["Subject"]
    assert pickle.loads(pickle.dumps(effects))["Subject"].equals(effects["Subject"])
    assert repr(effects).splitlines()[0] == "Subject"
    assert repr(fit.coef()).splitlines()[2].split()[0] == "308"


def test_the_prompt_shows_what_is_printed():
    fit = lmer(SLEEP, load_dataset("sleepstudy"))
    assert repr(fit.summary()) == str(fit.summary())
    assert repr(fit.summary()).startswith("Linear mixed model fit by REML. t-tests use Satt")
    assert repr(fit.convergence).startswith("newton: converged after 1 evaluation;")
    assert repr(fit._fit) == f"<Fit of {SLEEP}, 180 rows>"
    assert repr(fit) == str(fit) == fit.to_text()
    assert fit.to_markdown() == fit.summary().to_markdown()


def test_a_frame_of_text_and_flags():
    table = frame_table(pd.DataFrame({"a": ["x", None], "b": [True, False], ("c", 1): [1, 20]}))
    assert table.to_text().splitlines() == ["  a b     c, 1", "0 x True     1", "1   False   20"]
    assert frame_table(pd.DataFrame(index=["a", "b"])).to_text().splitlines() == ["", "a", "b"]


def test_long_frames_are_laid_out_as_far_as_they_are_shown():
    x = np.r_[np.full(40, 0.5), 1e-9]  # whose decimals no shown number needs
    lines = str(PrintedFrames(g=pd.DataFrame({"x": x}))).splitlines()
    assert lines[2].split() == ["0", "0.5"]
    assert lines[-2:] == ["39 0.5", "... 1 more rows"]
