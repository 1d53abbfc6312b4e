"""The figures of a run on the slurm lab."""

import json
import os
import time
from pathlib import Path
from typing import Any

from embed_assets.upkeep.verify import Report
from tests.kits.e2e.lab_deployment import BACKFILL
from tests.kits.slurm_lab import SlurmLab


def keep(
    phases: dict[str, float],
    lab: SlurmLab,
    metadata: dict[str, dict[str, Any]],
    queue: list[dict[str, Any]],
    report: Report,
    began_load: float,
) -> None:
    """Leaves the figures where EMBED_BENCH_RESULTS says; prints them always."""
    partitions = {}
    for name, facts in metadata.items():
        worker = float(facts["seconds_by_phase"]["total"])  # of the attempt that committed
        partitions[name] = {
            "rows": facts["dagster/partition_row_count"],
            "tokens": facts["tokens"],
            "recoveries": facts.get("job_recoveries"),
            "seconds_launch": facts.get("job_seconds_launch"),
            "seconds_submit_to_commit_in_last_run": facts.get("seconds_submit_to_commit"),
            "seconds_worker": worker,
            "seconds_engine": facts["seconds_by_phase"].get("engine"),
            "seconds_load_model": facts["seconds_by_phase"].get("load_model"),
        }
    plain = [p for n, p in partitions.items() if p["recoveries"] == 0 and n in BACKFILL]
    overheads = [p["seconds_submit_to_commit_in_last_run"] - p["seconds_worker"] for p in plain]
    result = {
        "what": "real SkyPilot managed jobs on a real Slurm, one machine; see tests/e2e/test_skypilot.py",
        "cores": os.cpu_count(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "jobs": len(queue),
        "jobs_launched_twice": len(queue) - len({row["job_name"] for row in queue}),
        "rows_verified": report.rows,
        "damages_found_by_verify": len(report.damages),
        "load_average": {"before": round(began_load, 1), "after": round(os.getloadavg()[0], 1)},
        "seconds_lab": lab.seconds,
        "seconds_since_start": phases,
        "seconds_overhead_over_worker": {"min": round(min(overheads), 1), "max": round(max(overheads), 1)},
        "partitions": partitions,
    }
    print(json.dumps(result, indent=2))
    if folder := os.environ.get("EMBED_BENCH_RESULTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "slurm_e2e.json").write_text(json.dumps(result, indent=2) + "\n")
