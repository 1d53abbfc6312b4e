#!/usr/bin/env bash
# The whole suite. Fast tests share the cores; the others have the machine to themselves, one after another.
set -euo pipefail
cd "$(dirname "$0")/.."
slow="vllm or e2e or ui"
.venv/bin/pytest -n 2 -m "not ($slow or slurm)"
.venv/bin/pytest -m "($slow) and not slurm" --timeout=900
.venv/bin/pytest -m slurm -s
