#!/usr/bin/env bash
# Builds or updates .venv, the platform's environment: Dagster, the UI, the CLI. Arguments: extras to add.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
extras="ui,s3,http,monitor${1:+,$1}"
venv .venv
stamp=.venv/.installed
want="$(cat pyproject.toml scripts/setup_platform.sh | checksum) $extras"
# A narrower set is satisfied by a wider one that is there already.
if [ -f "$stamp" ] && [ "$(cut -d' ' -f1 "$stamp")" = "${want% *}" ] && covers "$(cut -d' ' -f2 "$stamp")" "$extras"; then
  exit 0
fi
if [ -f "$stamp" ]; then extras="$(union "$(cut -d' ' -f2 "$stamp")" "$extras")"; fi
say "platform environment (.venv): $extras"
pip_in .venv install -e ".[$extras]"
echo "${want% *} $extras" > "$stamp"
