"""What an import brings along, and what it says when a library is missing."""

import os
import subprocess
import sys
import textwrap

import pytest

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
    done = run("import sys; sys.modules['sksparse'] = None; import mixef")
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
            import mixef
        except ImportError as error:
            from mixef.errors import MissingLibraryError, MixefError
            assert type(error) is MissingLibraryError and isinstance(error, MixefError)
        else:
            raise SystemExit("imported")
    """
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_importing_is_silent_even_with_warnings_as_errors():
    done = run("import mixef", "-W", "error::mixef.errors.MixefWarning", "-W", "error::UserWarning")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_all_public_names_are_there_and_documented():
    import mixef

    for name in mixef.__all__:
        assert getattr(mixef, name).__doc__, name
    assert mixef.__version__
