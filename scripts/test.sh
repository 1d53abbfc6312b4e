#!/usr/bin/env bash
# The whole suite. Most tests share the cores; the others have the machine to themselves, one after another.
set -euo pipefail
cd "$(dirname "$0")/.."
alone="vllm or e2e or ui"
.venv/bin/pytest -n 2 -m "not ($alone or slurm)"
.venv/bin/pytest -m "($alone) and not slurm" --timeout=900
.venv/bin/pytest -m slurm -s
