#!/usr/bin/env bash
# Sets up what is missing, then fits the sleepstudy and InstEval models and prints summaries and times.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
.venv/bin/python examples/sleepstudy.py
.venv/bin/python examples/insteval.py
