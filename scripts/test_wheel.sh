#!/usr/bin/env bash
# Builds the source distribution and the wheel into dist/, checks both, and tests the wheel in .venv-wheel, where there
# is no scikit-sparse: pip may compile nothing there. Arguments go to pytest, as in: bash scripts/test_wheel.sh -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh dev

rm -rf dist
.venv/bin/python -m build --quiet --outdir dist .
.venv/bin/twine check --strict dist/*
wheel="$(echo dist/*.whl)"

# No compiler, no sources and no headers: what most users have. Spark comes as sources of Python alone.
pip_install() {
    CC=false CXX=false C_INCLUDE_PATH=/nowhere SUITESPARSE_INCLUDE_DIR=/nowhere \
        .venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-binary pyspark "$@"
}
.venv-wheel/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m venv --clear .venv-wheel
pip_install "$wheel[dev]"
pip_install --no-deps --force-reinstall "$wheel" # the version stays while the contents change
if .venv-wheel/bin/python -c 'import sksparse' 2>/dev/null; then
    echo "scikit-sparse is in .venv-wheel, where it must not be" >&2
    exit 1
fi

# The tests run in a copy of the tree without src, so that they import the wheel.
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
cp -r tests docs benchmarks examples scripts conftest.py pyproject.toml README.md CHANGELOG.md CITATION.cff \
    CONTRIBUTING.md "$copy"
python="$PWD/.venv-wheel/bin/python"
cd "$copy"
case "$("$python" -c 'import mixef; print(mixef.__file__)')" in
*/.venv-wheel/*) ;;
*)
    echo "mixef is not imported from the wheel" >&2
    exit 1
    ;;
esac
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
# Paths, not names: marginaleffects installs a package that is called "tests".
[ $# -gt 0 ] || set -- ./tests ./docs --pyargs mixef
"$python" -m pytest -n "${WORKERS:-2}" --dist loadfile --no-loadscope-reorder "$@"
