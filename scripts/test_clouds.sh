#!/usr/bin/env bash
# The lake on the protocols of Google's and Azure's stores, with gcsfs and adlfs as users have them: what a store must
# do, and a pipeline from source to set. Azurite comes from npm; without npm, Google's alone.
# Arguments: pytest's options.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
uv_here
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
sed -n 's/^\([a-z0-9][a-z0-9.-]*==[^\\]*\).*/\1/p' locks/platform-dev.txt > "$pins"
python=.venv-clouds/bin/python
[ -x $python ] || $uv venv --quiet --python .venv-uv/bin/python .venv-clouds
# Without the extra `index`: LanceDB has its own clients, and is left out of the update.
$uv pip install --quiet --python $python -c "$pins" -e ".[cli,gcs,azure,plan,polars]" cachetools gcp-storage-emulator hypothesis pytest pytest-timeout
script=.venv-clouds/azurite/node_modules/azurite/dist/src/blob/main.js
if command -v npm > /dev/null; then
  [ -f $script ] || npm install --silent --no-audit --no-fund --prefix .venv-clouds/azurite azurite
  export EMBED_TEST_AZURITE=$PWD/$script
else
  say "no npm here, so no Azurite (Debian: apt install npm): Google's store alone"
fi
$python -m pytest -p no:cacheprovider -m clouds tests/clouds "$@"
