"""The figures of the chaos suites: one JSON file that every suite, in any process, adds its own counts to."""

import fcntl
import json
import os
from pathlib import Path

RESULTS = "EMBED_CHAOS_RESULTS"
"""Environment variable: the JSON file to add to. Without it, nothing is kept."""
KEYS = ("kills", "zombies", "s3_faults", "damages", "fuzz_cases", "lost", "doubled", "undetected", "orphans")


def record(**counts: int) -> None:
    """Adds counts to those in the results file. Raises ValueError for a key that is not of `KEYS`."""
    if unknown := counts.keys() - set(KEYS):
        raise ValueError(f"{sorted(unknown)} are not figures of the chaos suites: {', '.join(KEYS)}")
    if not (name := os.environ.get(RESULTS)):
        return
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        found = json.loads(file.read() or "{}")
        totals = {key: int(found.get(key, 0)) + counts.get(key, 0) for key in KEYS}
        file.seek(0)
        file.truncate()
        file.write(json.dumps({**found, **totals}, indent=2) + "\n")
