#!/usr/bin/env bash
# The whole suite. Most tests share the cores; the others have the machine to themselves, one after another.
set -euo pipefail
cd "$(dirname "$0")/.."
alone="vllm or e2e or ui"
# The storms' short form counts as the long one does, in a file of its own: the committed figures are `make chaos`'s.
export EMBED_CHAOS_RESULTS=$PWD/bench/results/chaos_short.json
rm -f "$EMBED_CHAOS_RESULTS"
.venv/bin/pytest -n 2 -m "not ($alone or slurm)"
.venv/bin/pytest -m "($alone) and not slurm" --timeout=900
cat "$EMBED_CHAOS_RESULTS"
.venv/bin/pytest -m slurm -s
