#!/usr/bin/env bash
# The whole suite, for two cores. Most tests share them; those that need a machine to themselves come one by one.
# The Slurm part waits more than it works: it goes on beside the others, and its log comes at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
alone="vllm or e2e or ui"
# The storms' short form counts as the long one does, in a file of its own: the committed figures are `make chaos`'s.
export EMBED_CHAOS_RESULTS=$PWD/bench/results/chaos_short.json
rm -f "$EMBED_CHAOS_RESULTS"
log=$(mktemp --tmpdir slurm-part.XXXXXX)
set -m # a process group of its own, which takes SIGINT: pytest then stops all that its lab has started
.venv/bin/pytest -m slurm -s > "$log" 2>&1 &
slurm=$!
set +m
stop() {
  if kill -INT "$slurm" 2> /dev/null; then
    echo "stopping the Slurm part" >&2
    wait "$slurm" || true
  fi
  rm -f "$log"
}
trap stop EXIT
trap 'exit 130' INT TERM
nice -n 5 .venv/bin/pytest -n 2 --dist worksteal -m "not ($alone or slurm)"
nice -n 5 .venv/bin/pytest -m "($alone) and not slurm" --timeout=900
cat "$EMBED_CHAOS_RESULTS"
result=0
wait "$slurm" || result=$?
cat "$log"
exit "$result"
