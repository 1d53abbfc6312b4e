#!/usr/bin/env bash
# Builds or updates .venv-bench: sentence-transformers, which the worker's bench measures against. It is kept apart, so
# that its pins never move those of the worker.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
TORCH=2.13.0
SENTENCE_TRANSFORMERS=6.2.0
venv .venv-bench
stamp=.venv-bench/.installed
want="$(cat scripts/setup_bench.sh | checksum)"
[ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0
say "bench environment (.venv-bench): PyTorch $TORCH, sentence-transformers $SENTENCE_TRANSFORMERS; about 1.5 GB"
# torch first and by itself, as in setup_worker.sh: the CPU build where pip has one
pip_in .venv-bench install "torch==$TORCH+cpu" 2>/dev/null || pip_in .venv-bench install "torch==$TORCH"
pip_in .venv-bench install "sentence-transformers==$SENTENCE_TRANSFORMERS" "tokenizers>=0.21"
echo "$want" > "$stamp"
