#!/usr/bin/env bash
# The suite but for `make e2e-slurm`, which wants the machine for itself for a quarter of an hour. Fast tests share the cores; the others have the machine to themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
slow="vllm or e2e or ui"
.venv/bin/pytest -n 2 -m "not ($slow or slurm)"
.venv/bin/pytest -m "($slow) and not slurm" --timeout=900
