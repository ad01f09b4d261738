#!/usr/bin/env bash
# Sets up what is missing, builds the documentation into site/ (every example is run, a warning is an error), then looks
# at every page. Outputs are kept in build/ while mixef stays the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh docs
rm -rf site
.venv/bin/python -m sphinx -q -W --keep-going -j 2 -d build/doctrees docs site
.venv/bin/python scripts/look_at_site.py site
