"""Puts the figures of the chaos suites into docs/guarantees.md: `python -m tests.kits.chaos.figures_page RESULTS.json`."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.control_plane import machine as machine_facts
from bench.report import write_section
from tests.kits import ROOT
from tests.kits.chaos.figures import KEYS

PAGE = ROOT / "docs" / "guarantees.md"
WORDS = {
    "kills": "kill -9 of workers, of ingest and cut, and of Dagster, at named steps and at random moments",
    "zombies": "attempts that were frozen and woken after another had taken over",
    "s3_faults": "faults of the S3 server",
    "damages": "files damaged at rest",
    "fuzz_cases": "fuzzed inputs",
    "lost": "rows lost",
    "doubled": "rows doubled",
    "undetected": "damages that `verify` or the check `files_intact` did not find",
    "orphans": "files that nobody needs and `gc` does not find",
}


def main() -> None:
    path = Path(sys.argv[1])
    found = json.loads(path.read_text())
    found |= {"date": datetime.now(UTC).date().isoformat(), "machine": machine_facts()}
    path.write_text(json.dumps(found, indent=2) + "\n")
    box = found["machine"]
    rows = "\n".join(f"| {WORDS[key]} | {found[key]:,} |" for key in KEYS)
    text = (
        f"| counted by the suites of `make chaos` | |\n|---|---:|\n{rows}\n\n{found['date']} · {box['cpu']}, {box['cores']} cores · "
        "[chaos.json](../bench/results/chaos.json)"
    )
    write_section("chaos", text, PAGE)
    print(text)


if __name__ == "__main__":
    main()
