#!/usr/bin/env bash
# The whole suite, for two cores. Most tests share them; those that need a machine to themselves come one by one, Slurm
# last: beside it, two cores are at a load of 25, and tests of other things starve.
set -euo pipefail
cd "$(dirname "$0")/.."
alone="vllm or e2e or ui"
# The storms' short form counts as the long one does, in a file of its own: the committed figures are `make chaos`'s.
export EMBED_CHAOS_RESULTS=$PWD/bench/results/chaos_short.json
rm -f "$EMBED_CHAOS_RESULTS"
.venv/bin/pytest -n 2 --dist worksteal -m "not ($alone or slurm or clouds)"
.venv/bin/pytest -m "($alone) and not slurm" --timeout=900
cat "$EMBED_CHAOS_RESULTS"
.venv/bin/pytest -m slurm -s
