"""What pip installs, and where it says so."""

import re
import tomllib
from pathlib import Path

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
