"""Habits from other programs are answered by the word that works here."""

import copy
import inspect
import pickle
import re
import warnings
from operator import attrgetter

import numpy as np
import pandas as pd
import pytest
from reference_data import frame

import mixef
from mixef import (
    Binomial,
    all_fit,
    anova,
    exact_rlrt,
    glmer,
    glmer_nb,
    lm_list,
    lmer,
    pb_test,
    power,
    simulate_from,
)
from mixef.errors import ArgumentError, DataWarning
from mixef.families.convert import make_family
from mixef.hints import ATTRIBUTES, NAMES, name_hint

FORMULA = "Reaction ~ Days + (1 | Subject)"


@pytest.fixture(scope="module")
def fit():
    return lmer(FORMULA, frame("sleepstudy"))


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_of_other_programs_name_ours(fit, name):
    assert not hasattr(fit, name)
    with pytest.raises(AttributeError, match=f"LinearMixedModel has no attribute '{name}': use "):
        getattr(fit, name)
    word = re.match(r"[\w.]+", ATTRIBUTES[name]).group()
    assert attrgetter(word)(fit) is not None  # what is named is there


def test_other_attributes_are_missing_as_usual(fit):
    with pytest.raises(AttributeError, match="object has no attribute 'nonsense'"):
        fit.nonsense  # noqa: B018
    assert getattr(fit, "_ipython_display_", None) is None
    assert not hasattr(fit, "__array__")
    for twin in (copy.copy(fit), copy.deepcopy(fit), pickle.loads(pickle.dumps(fit))):
        assert twin.objective == fit.objective


@pytest.mark.parametrize("name", [*NAMES, "ranef", "confint", "theta", "isSingular", "bootMer"])
def test_names_of_other_packages_name_ours(fit, name):
    with pytest.raises(AttributeError, match=f"module 'mixef' has no attribute '{name}': use "):
        getattr(mixef, name)
    hint = name_hint(name, type(fit)).split(": use ")[1]
    word = re.match(r"[\w.]+", hint).group()
    owner = fit if word.startswith("fit.") else mixef
    assert attrgetter(word.removeprefix("fit."))(owner) is not None  # what is named is there
    assert not hasattr(mixef, "nosuch")


def test_an_error_inside_a_property_keeps_its_message(fit, monkeypatch):
    def broken(self):
        return self._fit.nothing_of_the_kind

    monkeypatch.setattr(type(fit), "sigma", property(broken))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        fit.sigma  # noqa: B018


ARGUMENTS = {
    "reml": (lambda d: lmer(FORMULA, d, reml=False), "lmer has no reml: use REML="),
    "groups": (lambda d: lmer("Reaction ~ Days", d, groups="Subject"), r"\(1 \| g\)"),
    "re_formula": (lambda d: lmer(FORMULA, d, re_formula="~Days"), r"\(1 \| g\)"),
    "family": (lambda d: lmer(FORMULA, d, family="poisson"), r"glmer\(\.\.\., family="),
    "method": (lambda d: lmer(FORMULA, d, method="ML"), "REML=True or REML=False"),
    "nagq": (lambda d: glmer("use ~ 1", d, "binomial", nagq=1), "use nAGQ="),
    "glmer REML": (lambda d: glmer(FORMULA, d, "poisson", REML=True), "by maximum likelihood"),
    "nb": (lambda d: glmer_nb(FORMULA, d, exposure="Days"), "use offset=, its logarithm"),
    "list": (lambda d: lm_list("y ~ x | g", d, foo=1), "has no foo: its arguments are formula"),
    "update": (lambda d: lmer(FORMULA, d).update(reml=False), "lmer has no reml"),
    "predict": (lambda d: lmer(FORMULA, d).predict(re_formula="~0"), "use re_form="),
    "levels": (
        lambda d: lmer(FORMULA, d).predict(allow_new_levels=True),
        'new_levels=, as "popul',
    ),
    "simulate": (lambda d: lmer(FORMULA, d).simulate(nsim=3), "simulate has no nsim: use n="),
    "boot": (lambda d: lmer(FORMULA, d).bootstrap(nsim=3, FUN=len), "use n="),
    "confint": (lambda d: lmer(FORMULA, d).confint(alpha=0.1), "use level="),
    "pb_test": (
        lambda d: pb_test(lmer(FORMULA, d), ". ~ 1", nsim=9),
        "use n=",
    ),
    "power": (lambda d: power(lmer(FORMULA, d), "Days", nsim=9), "power has no nsim: use n="),
    "power along": (lambda d: power(lmer(FORMULA, d), "Days", along="Subject"), "use sizes="),
    "power level": (lambda d: power(lmer(FORMULA, d), "Days", sig_level=0.05), "use alpha="),
    "all_fit": (lambda d: all_fit(lmer(FORMULA, d), maxfun=9), "use max_evaluations="),
    "all_fit methods": (lambda d: all_fit(lmer(FORMULA, d), meth_tab=[]), "use optimizers="),
    "simulate_from": (lambda d: simulate_from(FORMULA, d, {}, nsim=2), "use n="),
    "simulate_from levels": (
        lambda d: simulate_from(FORMULA, d, {}, allow_new_levels=True),
        "its arguments are formula, data, params",
    ),
    "simulate levels": (
        lambda d: lmer(FORMULA, d).simulate(allow_new_levels=True),
        'new_levels=, as "popul',
    ),
    "exact_rlrt": (lambda d: exact_rlrt(lmer(FORMULA, d), nsim=9), "use n="),
    "anova": (lambda d: anova(lmer(FORMULA, d), names=["a"]), "use model_names="),
    "drop1": (lambda d: lmer(FORMULA, d).drop1(cores=2), "use n_jobs="),
    "profile": (lambda d: lmer(FORMULA, d).profile(cores=2), "use n_jobs="),
    "contest": (lambda d: lmer(FORMULA, d).contest("Days", conf_level=0.9), "use level="),
    "use_rfx": (lambda d: lmer(FORMULA, d).predict(use_rfx=False), 'use re_form=, as "~0"'),
    "zi": (lambda d: glmer("TICKS ~ 1", d, "poisson", ziformula="~1"), "zero inflation is not"),
    "disp": (lambda d: lmer(FORMULA, d, dispformula="~1"), "give weights="),
    "devfun": (lambda d: lmer(FORMULA, d, devFunOnly=True), r"getME\('devfun'\)"),
    "emmeans": (lambda d: lmer(FORMULA, d).emmeans("Days", p_adjust="holm"), r"pairs\(adjust=\)"),
    "link": (lambda d: glmer("TICKS ~ 1", d, "poisson", link="sqrt"), "name the link with the"),
    "typo": (lambda d: lmer(FORMULA, d, wieghts="w"), "use weights="),
}


@pytest.mark.parametrize(("call", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_of_other_programs_name_ours(call, message):
    with pytest.raises(TypeError, match=message):
        call(frame("sleepstudy"))


def test_families_by_other_names():
    assert make_family("bernoulli") == make_family("Bernoulli(logit)") == Binomial()
    assert make_family("normal").name == "gaussian"


def test_options_in_any_case(fit):
    assert fit.confint(method="WALD").equals(fit.confint(method="wald"))
    assert fit.residuals(type="Pearson").equals(fit.residuals(type="pearson"))
    assert fit.predict(type="Response").equals(fit.predict())
    assert fit.anova(type="iii", ddf="Kenward_Roger").frame.equals(fit.anova(ddf="KR").frame)
    assert fit.drop1(test="chisq").frame.equals(fit.drop1().frame)
    new = {"Days": [1.0], "Subject": ["new"]}
    assert fit.predict(new, new_levels="Population").notna().all()
    assert fit.VarCorr().to_frame(order="Lower.Tri").shape == (2, 5)
    assert lmer(FORMULA, frame("sleepstudy"), na_action="OMIT", optimizer="l-bfgs-b").converged


# ---------------------------------------------------------------------- progress


class Bar:
    """Stands for tqdm's."""

    made = 0

    def __init__(self, **options):
        Bar.made, self.options, self.done = Bar.made + 1, options, options["initial"]

    def update(self, steps):
        self.done += steps

    def close(self):
        assert self.done == self.options["total"]


@pytest.mark.parametrize(("delay", "bars"), [(2.0, 0), (-1.0, 1)])
def test_a_bar_appears_only_after_a_while(monkeypatch, delay, bars):
    import tqdm.auto

    from mixef.inference import replicates

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    monkeypatch.setattr("mixef.progress.DELAY", delay)
    Bar.made = 0
    for progress in (True, None):
        assert replicates.in_parallel(abs, [-1, 2, -3], progress=progress) == [1, 2, 3]
    assert replicates.in_parallel(abs, [-1, 2], progress=False) == [1, 2]
    assert Bar.made == 2 * bars


def test_no_warning_of_the_bar_without_its_widgets(monkeypatch):
    import builtins

    from mixef.inference import replicates

    true_import = builtins.__import__

    def noisy(name, *rest, **more):
        if name == "tqdm.auto":
            warnings.warn("IProgress not found. Please update jupyter and ipywidgets", stacklevel=2)
        return true_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", noisy)
    monkeypatch.setattr("mixef.progress.DELAY", -1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replicates.in_parallel(np.sqrt, [1.0, 4.0], progress=True) == [1.0, 2.0]


def test_words_are_spelled_alike_everywhere(fit):
    """One name for one thing: a fit is ``fit``, and what is new is ``new_...``, but newdata."""
    of_fits = [all_fit, exact_rlrt, pb_test, power]
    assert {next(iter(inspect.signature(f).parameters)) for f in of_fits} == {"fit"}
    methods = [m for name, m in inspect.getmembers(type(fit), inspect.isfunction) if name[0] != "_"]
    names = {name for f in [*of_fits, *methods] for name in inspect.signature(f).parameters}
    assert {"newdata", "new_levels", "new_params", "use_u", "re_form"} <= names
    assert not names & {"newparams", "params", "model", "allow_new_levels", "new_data", "use_re"}
    assert not hasattr(fit, "fit")


def test_responses_of_several_categories_are_refused_by_what_to_do():
    data = frame("sleepstudy")
    data["o"] = pd.Categorical(np.arange(len(data)) % 3, ordered=True)
    with pytest.raises(ArgumentError, match=r"no family 'ordinal'.* binomial one to each"):
        glmer("o ~ Days + (1 | Subject)", data, "ordinal")
    with pytest.warns(DataWarning, match=r"shares that are not of trials .* 'beta'"):
        glmer("p ~ Days + (1 | Subject)", data.assign(p=np.linspace(0.2, 0.9, 180)), "binomial")


def test_a_dict_of_frames_says_so():
    modes = lmer("Reaction ~ Days + (1 | Subject)", frame("sleepstudy")).ranef()
    with pytest.raises(AttributeError, match=r"'Subject'; take one before, as by \['Subject'\]\.l"):
        modes.loc  # noqa: B018
    with pytest.raises(KeyError, match="there are 'Subject'"):
        modes["Days"]
