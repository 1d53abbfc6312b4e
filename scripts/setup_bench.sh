#!/usr/bin/env bash
# Builds or updates what the worker's bench measures against, kept apart, so that its pins never move those of the worker:
# .venv-bench (sentence-transformers) and .venv-bench-ray (Ray, which finds vLLM in .venv-worker).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
TORCH=2.13.0
SENTENCE_TRANSFORMERS=6.2.0
RAY=2.60.0
venv .venv-bench
venv .venv-bench-ray
stamp=.venv-bench/.installed
want="$(cat scripts/setup_bench.sh | checksum)"
[ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0
say "bench environment (.venv-bench): PyTorch $TORCH, sentence-transformers $SENTENCE_TRANSFORMERS; Ray $RAY; about 2 GB"
# torch first and by itself, as in setup_worker.sh: the CPU build where pip has one
pip_in .venv-bench install "torch==$TORCH+cpu" 2>/dev/null || pip_in .venv-bench install "torch==$TORCH"
pip_in .venv-bench install "sentence-transformers==$SENTENCE_TRANSFORMERS" "tokenizers>=0.21"
packages() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
(cd "$(packages .venv-worker)" && pwd) > "$(packages .venv-bench-ray)/worker.pth"
pip_in .venv-bench-ray install "ray[data]==$RAY"
echo "$want" > "$stamp"
