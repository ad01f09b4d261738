"""What pip installs, and where it says so."""

import ast
import re
import tomllib
from pathlib import Path

import mixef

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements):
    return {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements}


def test_only_the_extra_has_to_be_compiled():
    extras = PROJECT["optional-dependencies"]
    assert names(extras["cholmod"]) == {"scikit-sparse"}
    assert "scikit-sparse" not in names(PROJECT["dependencies"]) | names(extras["dev"])
    assert not any("cholmod" in requirement for requirement in extras["dev"])


def test_mixef_is_for_every_system():
    systems = [name for name in PROJECT["classifiers"] if name.startswith("Operating System")]
    for system in ("OS Independent", "MacOS", "Microsoft :: Windows", "POSIX :: Linux"):
        assert f"Operating System :: {system}" in systems


def test_the_readme_says_how_to_install_right_after_the_example():
    readme = (ROOT / "README.md").read_text()
    _, _, after = readme.partition("```text")[2].partition("```")
    assert after.strip().startswith("`pip install mixef`")


def test_the_page_on_the_design_names_files_that_there_are():
    places = [Path(mixef.__file__).parent, ROOT / "tests"]
    known = [path.as_posix() for place in places for path in place.rglob("*.py")]
    for name in set(re.findall(r"[\w/]+\.py\b", (ROOT / "docs" / "design.md").read_text())):
        assert any(path.endswith(f"/{name}") for path in known), name


def test_recipes_are_python():
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        ast.parse(block)
