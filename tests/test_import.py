"""What an import brings along, and what it says when a library is missing."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mixef

FIT = """
    import warnings
    from mixef import lmer, load_dataset
    fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    str(fit), fit.summary(ddf=None), fit.ranef(), fit.predict()
    assert fit.converged
"""
CROSSED = """
    from mixef import lmer, load_dataset
    lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
"""
HEAVY = [
    "numba",
    "scipy.special",
    "scipy.optimize",
    "scipy.stats",
    "matplotlib",
    "polars",
    "pyarrow.parquet",
    "IPython",
]


def run(code, *arguments):
    """Run code in a fresh interpreter; return how it ended."""
    return subprocess.run(
        [sys.executable, *arguments, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )


def loaded_by(code):
    """The modules that a fresh interpreter has loaded at the end."""
    done = run(textwrap.dedent(code) + "\nimport sys; print(' '.join(sys.modules))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import mixef", FIT, CROSSED], ids=["import", "fit", "crossed"])
def test_heavy_libraries_are_loaded_only_where_needed(code):
    loaded = loaded_by(code)
    assert "mixef" in loaded
    assert not loaded.intersection(HEAVY)


def test_tests_of_coefficients_load_special_functions_alone():
    loaded = loaded_by(FIT + "    str(fit.summary()), fit.contest('Days')\n")
    assert loaded.intersection(HEAVY) == {"scipy.special"}


def test_a_large_sparse_model_needs_numba():
    """So that the test above can fail."""
    code = """
        from mixef.linalg.kernels import compiled
        compiled()
    """
    assert "numba" in loaded_by(code)


def test_without_scikit_sparse_one_sentence_says_how_to_install_it():
    done = run("import sys; sys.modules['sksparse'] = None; from mixef import lmer")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("mixef.errors.MissingLibraryError: mixef needs SuiteSparse")
    for line in (
        "sudo apt-get install libsuitesparse-dev",
        "sudo dnf install suitesparse-devel",
        "brew install suite-sparse",
        "pip install 'scikit-sparse>=0.4.16,<0.5'",
        "conda install -c conda-forge 'scikit-sparse<0.5'",
    ):
        assert line in last
    assert last.count(". ") == 0  # one sentence


def test_a_missing_library_is_an_import_error():
    code = """
        import sys
        sys.modules["sksparse.cholmod"] = None
        try:
            from mixef import lmer
        except ImportError as error:
            from mixef.errors import MissingLibraryError, MixefError
            assert type(error) is MissingLibraryError and isinstance(error, MixefError)
        else:
            raise SystemExit("imported")
    """
    done = run(code)
    assert done.returncode == 0, done.stderr


THEIRS = "import numpy, scipy.sparse, pandas"


def test_importing_loads_the_libraries_under_it_and_little_else():
    """All else waits until it is asked for; the time is 1.15 times theirs at most."""
    more = loaded_by("import mixef") - loaded_by(THEIRS)
    own = {name for name in more if name.split(".")[0] == "mixef"}
    assert own == {
        "mixef",
        "mixef.datasets",
        "mixef.datasets.catalogue",
        "mixef.datasets.load",
        "mixef.errors",
    }
    assert not {name.split(".")[0] for name in more - own} - set(sys.stdlib_module_names)


def cpu_of(code):
    """The least CPU time (s) of three fresh interpreters, from their start."""
    ends = [run(code + "; import time; print(time.process_time())") for _ in range(3)]
    return min(float(end.stdout) for end in ends)


def test_importing_takes_little_longer_than_the_libraries_under_it():
    assert cpu_of("import mixef") <= 1.15 * cpu_of(THEIRS)


def test_importing_is_silent_even_with_warnings_as_errors():
    done = run("import mixef", "-W", "error::mixef.errors.MixefWarning", "-W", "error::UserWarning")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_all_public_names_are_there_and_documented():
    for name in mixef.__all__:
        assert getattr(mixef, name).__doc__, name
        assert name in dir(mixef)
    assert mixef.__version__


def test_what_loads_a_name_is_what_editors_are_told():
    """The table of homes, the imports for type checkers and ``__all__`` say the same."""
    tree = ast.parse(Path(mixef.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert told == {name: f"mixef.{home}" for name, home in mixef._HOME.items()}
    assert set(mixef.__all__) == set(told) | {"datasets", "load_dataset"}


def test_modules_are_reached_from_the_package_and_other_names_are_not():
    code = """
        import mixef
        assert mixef.glmm.glmer is mixef.glmer
        assert mixef.errors.MixefError
        assert mixef.datasets().shape[0] == 12
        assert not hasattr(mixef, "nosuch")
        try:
            mixef.lmm_
        except AttributeError as error:
            assert str(error) == "module 'mixef' has no attribute 'lmm_'"
        else:
            raise SystemExit("found")
    """
    done = run(code)
    assert done.returncode == 0, done.stderr
