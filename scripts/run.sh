#!/usr/bin/env bash
# Sets up what is missing, then fits the sleepstudy, InstEval and Contraception models, prints their summaries, and
# tests, compares, bounds, simulates, predicts and reports.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
.venv/bin/python examples/sleepstudy.py
.venv/bin/python examples/insteval.py
.venv/bin/python examples/contraception.py
.venv/bin/python examples/inference.py
.venv/bin/python examples/after_the_fit.py
