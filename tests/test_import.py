"""What an import brings along, and what happens where a library is missing."""

import ast
import inspect
import os
import subprocess
import sys
import textwrap
import typing
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
FIT_ALONE = """
    from mixef import lmer, load_dataset
    lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
"""
CROSSED = """
    from mixef import lmer, load_dataset
    lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
"""
HEAVY = [
    "numba",
    "sksparse",
    "scipy.special",
    "scipy.optimize",
    "scipy.stats",
    "matplotlib",
    "polars",
    "pyarrow.parquet",
    "IPython",
    "formulaic",
    "narwhals",
    "scipy.sparse.csgraph",
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


@pytest.mark.parametrize("code", [FIT_ALONE, CROSSED], ids=["fit", "crossed"])
def test_a_fit_loads_nothing_that_reads_fits_and_no_other_kind_of_model(code):
    loaded = {name for name in loaded_by(code) if name.startswith("mixef.")}
    rooms = ("mixef.inference.", "mixef.families.")
    source = Path(mixef.__file__).parents[1]
    files = [name for name in loaded if (source / (name.replace(".", "/") + ".py")).exists()]
    assert "mixef.lmm" in files
    assert not [name for name in files if name.startswith(rooms)]
    assert not [name for name in loaded if "generalized" in name or "batch" in name]


def test_what_loads_late_is_what_it_stands_for():
    code = """
        import sys, typing
        from mixef.inference import getme
        from mixef.inference.prediction import predict
        assert type(getme).__name__ == "LateModule" and "mixef.inference.getme" not in sys.modules
        assert getme.get_me.__module__ == "mixef.inference.getme"
        assert "get_me" in dir(getme) and vars(getme) is vars(sys.modules[getme.__name__])
        getme.added = 1  # goes to the module, as a test that replaces a function means it
        import mixef.inference.getme
        from mixef.inference import getme as loaded
        assert loaded is sys.modules["mixef.inference.getme"] and loaded.added == 1
        del getme.added
        assert not hasattr(loaded, "added") and not hasattr(getme, "nosuch")
        try:
            from mixef.inference import nosuch
        except ImportError as error:
            assert "nosuch" in str(error)
        else:
            raise SystemExit("found")
        assert "mixef.inference.prediction.predict" not in sys.modules
    """
    done = run(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cls", [mixef.LinearMixedModel, mixef.GeneralizedLinearMixedModel])
def test_methods_keep_signatures_hints_and_docstrings(cls):
    """What help() and editors show does not depend on what is loaded."""
    methods = [m for name, m in inspect.getmembers(cls, inspect.isfunction) if name[0] != "_"]
    assert len(methods) > 25
    for method in methods:
        assert method.__doc__
        assert inspect.signature(method).parameters
        assert "return" in typing.get_type_hints(method), method


def test_a_large_sparse_model_needs_numba():
    """So that the test above can fail."""
    code = """
        from mixef.linalg.kernels import compiled
        compiled()
    """
    assert "numba" in loaded_by(code)


NESTED = """
    import numpy as np
    from mixef import lmer
    g = np.arange(4000) // 4
    rng = np.random.default_rng(1)
    y = rng.normal(size=1000)[g] + rng.normal(size=100)[g // 10] + rng.normal(size=4000)
    fit = lmer("y ~ 1 + (1 | g) + (1 | h)", {"y": y, "g": g, "h": g // 10})
    print(repr(fit.objective), type(fit._fit.criterion().factor).__name__)
"""


@pytest.mark.parametrize("blocked", ["sksparse", "sksparse.cholmod"])
def test_without_scikit_sparse_a_factor_of_our_own_gives_the_same(blocked):
    usual = run(NESTED)
    without = run(f"import sys; sys.modules['{blocked}'] = None" + textwrap.dedent(NESTED))
    assert without.returncode == 0, without.stderr
    objective, factor = without.stdout.split()
    assert factor == "SimplicialFactor"
    # Two factors of one matrix, whose condition number is near ten.
    assert float(objective) == pytest.approx(float(usual.stdout.split()[0]), rel=1e-12)
    assert not without.stderr


def test_another_api_of_scikit_sparse_is_not_used():
    code = """
        import sys, types
        sys.modules["sksparse"] = package = types.ModuleType("sksparse")
        package.cholmod = sys.modules["sksparse.cholmod"] = types.ModuleType("sksparse.cholmod")
        from mixef.linalg.cholmod import library
        assert library() is None
    """
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_nested_models_load_no_compiler():
    for without in ("", "import sys; sys.modules['sksparse'] = None"):
        assert "numba" not in loaded_by(without + textwrap.dedent(NESTED))


def test_nothing_that_windows_lacks_is_needed():
    code = """
        import os, sys
        import numpy, scipy.sparse, pandas, scipy.linalg
        for name in ("resource", "fcntl", "pwd", "grp", "termios"):
            sys.modules[name] = None
        del os.sysconf, os.sched_getaffinity, os.getuid
    """
    done = run(textwrap.dedent(code) + textwrap.dedent(FIT) + "fit.bootstrap(20, seed=1)")
    assert done.returncode == 0, done.stderr


def test_importing_is_silent_even_with_warnings_as_errors():
    done = run("import mixef", "-W", "error::mixef.errors.MixefWarning", "-W", "error::UserWarning")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_all_public_names_are_there_and_documented():
    for name in mixef.__all__:
        assert getattr(mixef, name).__doc__, name
        assert name in dir(mixef)
    assert mixef.__version__


def test_type_checkers_are_told_that_the_package_has_types():
    assert (Path(mixef.__file__).parent / "py.typed").exists()


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
        assert mixef.datasets().shape[0] == 16
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
