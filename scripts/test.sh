#!/usr/bin/env bash
# The whole suite. Fast tests share the cores; the others have the machine to themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
slow="vllm or e2e or slurm or ui"
.venv/bin/pytest -n 2 -m "not ($slow)"
.venv/bin/pytest -m "$slow" --timeout=900
