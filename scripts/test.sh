#!/usr/bin/env bash
# Sets up what is missing, then runs the tests, the doctests and the code of the documentation.
# Arguments go to pytest, as in: bash scripts/test.sh tests/test_datasets.py -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh dev
# Two workers, a thread each: more threads than cores slow each other down. A file stays on one worker:
# the blocks of a page of documentation build on one another. Files come in their order: by the number of
# their tests, few long ones would come last, while the other worker waits.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
exec .venv/bin/python -m pytest -n "${WORKERS:-2}" --dist loadfile --no-loadscope-reorder "$@"
