"""DAGSTER_HOME of the demo: a SQLite instance that the UI opens too."""

import os
from pathlib import Path

DAGSTER_YAML = """\
# Made by `embed-assets demo`; yours to edit.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    # Each run of embedding_shards loads the model: two at a time are enough for one machine.
    max_concurrent_runs: 2
"""


def prepare_home(default: Path) -> Path:
    """Sets DAGSTER_HOME where it is not set, and makes the folder and its dagster.yaml where they are missing."""
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(default))).absolute()
    os.environ["DAGSTER_HOME"] = str(home)
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(DAGSTER_YAML)
    return home


if __name__ == "__main__":
    prepare_home(Path(".demo/dagster_home"))
