"""Pipeline files: a good one, and changes to it."""

import copy
from pathlib import Path
from typing import Any

import yaml

from tests.kits import pipelines as kit

GOOD: dict[str, Any] = {
    "name": "p",
    "datasets": [{"name": "d", "source": "a.csv", "text": "{t}", "strides": 2}],
    "embedding": kit.HASH,
}


def pipeline_yaml(change: dict[str, Any]) -> str:
    """The good pipeline with some keys set: `datasets.0.text` or `embedding.pooling`; None takes the key away."""
    value = copy.deepcopy(GOOD)
    for key, setting in change.items():
        at: Any = value
        *way, last = key.split(".")
        for part in way:
            at = at[int(part)] if part.isdigit() else at.setdefault(part, {})
        if setting is None:
            del at[last]
        else:
            at[int(last) if last.isdigit() else last] = setting
    return yaml.safe_dump(value)


def pipeline_file(folder: Path, change: dict[str, Any] | None = None, name: str = "p.yaml") -> Path:
    """A file of it."""
    path = folder / name
    path.write_text(pipeline_yaml(change or {}))
    return path
