"""Every public name is on one page of the reference."""

import inspect
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

import mixef
from mixef.datasets.load import CATALOGUE, load_dataset

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```\{public\}\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def public():
    """The module of the site that knows what is public."""
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        import public_names
    finally:
        sys.path.pop(0)
    return public_names


def listed():
    """The names on all pages, as often as they are there."""
    texts = [path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")]
    blocks = [block for text in texts for block in BLOCK.findall(text)]
    return Counter(name for block in blocks for name in block.split())


def test_every_public_name_is_on_one_page(public):
    found, known = listed(), set(public.public_names())
    assert not known - set(found), "put these on a page of docs/reference"
    assert not set(found) - known, "these are no public names of mixef"
    assert not [name for name, times in found.items() if times > 1]


def test_what_is_public(public):
    known = public.public_names()
    assert set(mixef.__all__) <= set(known)
    for model in (mixef.LinearMixedModel, mixef.GeneralizedLinearMixedModel):
        own = {name for name in dir(model) if not name.startswith(("_", "to_"))} - {"tables"}
        assert {f"fit.{name}" for name in own} <= set(known)
    for name in ("errors.DataError", "sklearn.MixedModelRegressor", "MarginalMeans", "Plots"):
        assert name in known
    assert known["fit.ranef"] == "mixef.mixedmodel.MixedModel.ranef"
    assert known["fit.REML"] == "mixef.lmm.LinearMixedModel.REML"


def test_members_that_are_told_with_a_class(public):
    means = next(value for value in public.results() if value.__name__ == "MarginalMeans")
    told = public.members(means)
    assert {"pairs", "contrast", "cld"} <= set(told)
    assert "to_latex" not in told  # with Printed
    assert "vcov" not in told  # with LinearFunctions, which it is
    assert public.members(mixef.Binomial) == []  # with Family
    assert "variance" in public.members(mixef.Family)


def test_every_public_name_has_words(public):
    for value in (*public.MODELS, *public.results()):
        assert inspect.getdoc(value), value
        for name in public.members(value):
            assert inspect.getdoc(getattr(value, name)), f"{value.__name__}.{name}"


def test_the_catalogue_is_what_the_data_sets_are():
    """The page on them is written from the catalogue and from the data."""
    for name, entry in CATALOGUE.items():
        data = load_dataset(name)
        assert (len(data), tuple(data.columns)) == (entry.rows, entry.columns)


#: How a reader gets each result that draws itself.
MADE_BY = {
    "Bootstrap": ".bootstrap(",
    "EstimatesTable": "etable(",
    "Influence": ".influence(",
    "LinearFunctions": ".emmeans(",
    "PBTest": "pb_test(",
    "Power": "power(",
    "Profile": ".profile(",
    "RandomEffects": ".ranef(",
    "SimulatedResiduals": ".simulated_residuals(",
}


def test_every_picture_is_in_the_gallery(public):
    gallery = (DOCS / "gallery" / "index.md").read_text(encoding="utf-8")
    assert ".plot(seed=1);" in gallery
    for name in public.members(public.Plots):
        assert f".plot.{name}(" in gallery or f'.plot("{name.removeprefix("profile_")}")' in gallery
    for value in public.results():
        if "plot" in public.members(value):
            made_by = MADE_BY.get(value.__name__, "a line of MADE_BY")
            assert made_by in gallery, f"show {value.__name__} in the gallery"
