#!/usr/bin/env bash
# Builds or updates .venv, the platform's environment: Dagster, the UI, the CLI. With `dev`, what the tests need too.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
lock=locks/platform.txt
venv .venv
stamp=.venv/.installed
# One that has what the tests need keeps it.
if [ "${1:-}" = dev ] || grep -qs ' dev$' "$stamp"; then lock=locks/platform-dev.txt; fi
want="$(cat pyproject.toml "$lock" scripts/setup_platform.sh | checksum)$([ "$lock" = locks/platform.txt ] || echo " dev")"
[ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0
say "platform environment (.venv): $lock"
from_lock .venv "$lock" .
echo "$want" > "$stamp"
