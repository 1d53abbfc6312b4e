#!/usr/bin/env bash
# What a GPU node needs before `python -m embed_worker` runs: ~/.embed-worker with vLLM and the worker's libraries.
# An environment that is there already (a baked image, a shared file system) is named by EMBED_WORKER_PYTHON.
set -euo pipefail
cd "$(dirname "$0")"
if [ -n "${EMBED_WORKER_PYTHON:-}" ]; then
  "$EMBED_WORKER_PYTHON" -c 'import embed_worker.lake.job, importlib.util as u, sys; sys.exit("no vllm" if not u.find_spec("vllm") else 0)'
  echo "worker environment: $EMBED_WORKER_PYTHON, as it is"
  exit 0
fi
if ! command -v nvidia-smi >/dev/null; then
  echo "this node has no GPU driver (nvidia-smi). On a CPU node, point EMBED_WORKER_PYTHON to an environment made from locks/worker-cpu.txt, torch for the CPU and this folder" >&2
  exit 1
fi
retried() { # three tries: a package index that is away for a minute is no reason to lose the machine
  local pause
  for pause in 15 60; do
    "$@" && return
    echo "failed, once more in $pause s: $*" >&2
    sleep "$pause"
  done
  "$@"
}
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || retried python3 -m pip install --quiet --user uv
[ -x "$HOME/.embed-worker/bin/python" ] || uv venv --quiet --python 3.12 "$HOME/.embed-worker"
python="$HOME/.embed-worker/bin/python"
retried uv pip install --quiet --python "$python" --no-deps --require-hashes -r locks/worker-gpu.txt || {
  echo "locks/worker-gpu.txt cannot be installed; the message above is uv's. Where a release has gone or changed: \`make locks\` in a clone" >&2
  exit 1
}
uv pip install --quiet --python "$python" --no-deps --no-build-isolation .
