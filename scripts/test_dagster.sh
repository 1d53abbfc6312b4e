#!/usr/bin/env bash
# The graph's tests on the lowest and on the newest Dagster that pyproject.toml allows; all else as locked.
# Arguments: other tests, pytest's options.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
range=$(sed -n 's/^  "dagster\(>=.*\)",$/\1/p' pyproject.toml)
lowest=${range#>=}
uv_here
others=$(mktemp)
trap 'rm -f "$others"' EXIT
sed -n 's/^\([a-z0-9][a-z0-9.-]*==[^\\]*\).*/\1/p' locks/platform-dev.txt | grep -v '^dagster' > "$others"
for release in "==${lowest%%,*}" "$range"; do
  python=.venv-dagster/bin/python
  $uv venv --quiet --clear --python .venv-uv/bin/python .venv-dagster
  # without the UI: its package may be a release behind
  $uv pip install --quiet --python $python -c "$others" -e ".[cli,index,monitor,plan,s3]" "dagster$release" \
    httpx hypothesis "moto[server]" pytest pytest-timeout pytest-xdist
  say "Dagster $($python -c 'import dagster; print(dagster.__version__)')"
  $python -m pytest -p no:cacheprovider -n 2 "${@:-tests/embed_assets/graph}"
done
