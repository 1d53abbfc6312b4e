#!/usr/bin/env bash
# Builds or updates .venv-worker: embed_worker with vLLM for the CPU. It cannot share an environment with SkyPilot.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
TORCH=2.13.0
lock=locks/worker-cpu.txt
venv .venv-worker
stamp=.venv-worker/.installed
want="$(cat sky/pyproject.toml "$lock" scripts/setup_worker.sh | checksum)"
[ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0
say "worker environment (.venv-worker): PyTorch $TORCH for the CPU, vLLM; about 3.5 GB"

torch() { # the CPU build, whose needs are in the lock: the default build brings gigabytes of CUDA that a CPU never uses
  if .venv-worker/bin/python -c "import importlib.metadata as m, sys; sys.exit(m.version('torch').split('+')[0] != '$TORCH')" 2>/dev/null; then return; fi
  pip_in .venv-worker install --no-deps "torch==$TORCH+cpu" 2>/dev/null && return
  if [ -n "${TORCH_CPU_INDEX:-}" ]; then
    say "pip's own index has no CPU build of torch $TORCH; trying TORCH_CPU_INDEX"
    pip_in .venv-worker install --no-deps "torch==$TORCH" --index-url "$TORCH_CPU_INDEX" && return
    say "TORCH_CPU_INDEX has no torch $TORCH either; taking the default build"
  else
    say "pip's own index has no CPU build of torch $TORCH; taking the default build, which is large." \
        "To avoid that, set TORCH_CPU_INDEX to the CPU wheel index that PyTorch's install page names"
  fi
  pip_in .venv-worker install "torch==$TORCH"
}

torch || fail "torch $TORCH cannot be installed; the message above is pip's"
from_lock .venv-worker "$lock" sky
echo "$want" > "$stamp"
