#!/usr/bin/env bash
# What a GPU node needs before `python -m embed_worker` runs: ~/.embed-worker with vLLM and the worker's libraries.
# A node that is not fit, or may not use the lake, is told so before the 4 GB are fetched.
# An environment that is there already (a baked image, a shared file system) is named by EMBED_WORKER_PYTHON.
set -euo pipefail
cd "$(dirname "$0")"
if [ -n "${EMBED_WORKER_PYTHON:-}" ]; then
  "$EMBED_WORKER_PYTHON" -c 'import embed_worker.lake.job, importlib.util as u, sys; sys.exit("no vllm" if not u.find_spec("vllm") else 0)'
  echo "worker environment: $EMBED_WORKER_PYTHON, as it is"
  exit 0
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
locked() { # locked FILE: exactly its releases
  retried uv pip install --quiet --python "$python" --no-deps --require-hashes -r "$1" || {
    echo "$1 cannot be installed; the message above is uv's. Where a release has gone or changed: \`make locks\` in a clone" >&2
    exit 1
  }
}
python3 -m embed_worker.preflight node locks/worker-gpu.txt
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || retried python3 -m pip install --quiet --user uv
[ -x "$HOME/.embed-worker/bin/python" ] || retried uv venv --quiet --python 3.12 "$HOME/.embed-worker" # fetches a CPython
python="$HOME/.embed-worker/bin/python"
locked locks/worker-lake.txt # 60 MB: enough to ask the lake
if [ -n "${EMBED_JOB:-}" ]; then # a pool is made before there is a job
  "$python" -m embed_worker.preflight lake "$EMBED_JOB"
fi
locked locks/worker-gpu.txt
uv pip install --quiet --python "$python" --no-deps --no-build-isolation .
"$python" -m embed_worker.preflight gpu
