"""`make bench`: what it costs Dagster to drive 1,000 embedding partitions in one run.

The asset, the driver, the lake, the instance (SQLite) and the run worker's process are the real ones; the fleet is
simulated behind the compute protocol (bench/cloud.py). Writes bench/results/control_plane.json.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg

from bench.cloud import Weather
from bench.fleet import skypilot_installed
from bench.memory import watch
from bench.report import write_section
from bench.stage import ROOT, Stage, keys_of, staged

RESULTS = ROOT / "bench" / "results" / "control_plane.json"
TARGET_RSS_MB = 600
SINGLE_RUNS = 4


def many(stage: Stage, keys: list[str]) -> dict[str, Any]:
    """One run over all keys."""
    begun = time.monotonic()
    run = stage.create_run("embedding_shards", keys)
    created = time.monotonic() - begun
    begun = time.monotonic()
    process = stage.launch(run)
    memory = watch([process])[0]
    wall = time.monotonic() - begun
    stats = stage.line.call("stats")
    if process.returncode != 0:
        raise RuntimeError((stage.folder / f"run-{run.run_id}.log").read_text()[-4000:])
    events = _events(stage.instance, run.run_id)
    polls = stats["polls"]
    poll_seconds = stage.line.call("settings")["poll_seconds"]
    intervals = (polls[-1] - polls[0]) / poll_seconds
    return {
        "partitions": len(keys),
        **memory.summary(),
        "create_run_seconds": round(created, 1),
        "wall_seconds": round(wall, 1),
        "polls": len(polls),
        "poll_seconds": poll_seconds,
        "polls_per_interval": round((len(polls) - 1) / intervals, 3),
        "seconds_between_polls": _spread([b - a for a, b in itertools.pairwise(polls)]),
        "calls": stats["calls"],
        "jobs_launched": sum(stats["launched"].values()),
        "recoveries": stats["recoveries"],
        "commit_to_event_s": _spread([events["materialized"][k] - _committed_at(stage, k) for k in keys]),
        "commit_to_checks_s": _spread([events["checked"][k] - _committed_at(stage, k) for k in keys]),
        "checks_passed": events["passed"],
        "checks_failed": events["failed"],
        "event_log_mb": round(sum(f.stat().st_size for f in (stage.folder / "home").rglob("*.db*")) / 1e6, 1),
    }


def one_each(stage: Stage, keys: list[str]) -> dict[str, Any]:
    """The same, one run a partition: several at once, so that shared pages are counted as shared."""
    begun = time.monotonic()
    processes = [stage.launch(stage.create_run("embedding_shards", [key], single=True)) for key in keys]
    memories = watch(processes, every=0.2)
    wall = time.monotonic() - begun
    if any(process.returncode for process in processes):
        raise RuntimeError("a run of one partition failed")
    summaries = [memory.summary() for memory in memories]
    return {
        "runs_at_once": len(keys),
        "wall_seconds": round(wall, 1),
        **{name: round(statistics.mean(s[name] for s in summaries), 1) for name in summaries[0]},
    }


def _events(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    materialized: dict[str, float] = {}
    checked: dict[str, float] = {}
    passed = failed = 0
    for entry in instance.all_logs(run_id, of_type=kinds):
        event = entry.dagster_event
        assert event is not None
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            assert event.partition not in materialized, f"{event.partition} has two events"
            materialized[str(event.partition)] = entry.timestamp
        else:
            evaluation = event.asset_check_evaluation_data
            checked[str(evaluation.partition)] = entry.timestamp
            passed += evaluation.passed
            failed += not evaluation.passed
    return {"materialized": materialized, "checked": checked, "passed": passed, "failed": failed}


def _committed_at(stage: Stage, key: str) -> float:
    dataset, _, stride = key.rpartition("-")
    found = list((stage.lake / "embedding_shards" / dataset).glob(f"*/*/{stride}/*/_manifest.json"))
    assert len(found) == 1, f"{key} has {len(found)} manifests"
    return found[0].stat().st_mtime


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3) for name, part in at.items()}


def machine() -> dict[str, Any]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].partition(":")[2].strip() if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def section(result: dict[str, Any]) -> str:
    """The page's words for the figures."""
    one, each, box = result["run_1000"], result["one_run_each"], result["machine"]
    event, checks = one["commit_to_event_s"], one["commit_to_checks_s"]
    loaded = "loaded" if result["skypilot_loaded"] else "not loaded (add about 120 MB)"
    return f"""\
## One Dagster run over {one["partitions"]:,} partitions

The asset, the driver, the lake, Dagster's instance (SQLite) and the run's process are the real ones, with SkyPilot's SDK
{loaded}. The fleet is simulated behind the compute protocol: {result["fleet"]["slots"]} slots, jobs of
{result["fleet"]["run_seconds"][0]:g} to {result["fleet"]["run_seconds"][1]:g} s, one in ten preempted, some failing once.
Each job commits a real, tiny shard.

| | one run | one run a partition |
|---|---|---|
| memory, RSS at its peak | **{one["rss_peak_mb"]:.0f} MB** | {each["rss_peak_mb"]:.0f} MB each, {each["rss_peak_mb"]:,.0f} GB for 1,000 |
| memory, PSS at its peak | {one["pss_peak_mb"]:.0f} MB | {each["pss_peak_mb"]:.0f} MB each, {each["pss_peak_mb"]:,.0f} GB for 1,000 |
| polls an interval ({one["poll_seconds"]:g} s) | {one["polls_per_interval"]:.2f} | 1 for each run |
| from manifest to event, median / 95 % / max | {event["median"]:.1f} / {event["p95"]:.1f} / {event["max"]:.1f} s | |
| from manifest to its last check | {checks["median"]:.1f} / {checks["p95"]:.1f} / {checks["max"]:.1f} s | |
| CPU of the run's process | {one["cpu_seconds"]:.0f} s, {one["cpu_seconds"] / one["partitions"] * 1000:.0f} ms a partition | {each["cpu_seconds"]:.1f} s each |
| creating the run | {one["create_run_seconds"]:.0f} s | |
| jobs launched / preempted | {one["jobs_launched"]:,} / {one["recoveries"]} | |
| checks passed | {one["checks_passed"]:,} of {one["checks_passed"] + one["checks_failed"]:,} | |

A commit is seen at the next poll, and commits that come together are recorded one after another. The jobs here end far
faster than real ones, on a machine of {box["cores"]} cores that also ran the simulated fleet and other work (load
{result["load_at_start"]} when it began): so they are not the times of a quiet one. The shards are tiny: reading real ones for the
checks takes longer, and is not in these figures. The event log grows with
the partitions: {one["event_log_mb"]:.0f} MB at the end here, the strides' run included.

`make bench` · {result["date"]} · {box["cpu"]}, {box["cores"]} cores, {box["memory_gb"]:.0f} GB · dagster
{result["versions"]["dagster"]}, Python {result["versions"]["python"]} ·
[control_plane.json](../bench/results/control_plane.json)
"""  # noqa: E501


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument(
        "--run-seconds", type=float, nargs=2, default=Weather.run_seconds, help="length of a simulated job"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    weather = Weather(run_seconds=tuple(arguments.run_seconds))
    begun = time.monotonic()
    load = os.getloadavg()[0]
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True).strip()
    with staged(weather, {"many": arguments.partitions, "single": SINGLE_RUNS}) as stage:
        print(f"stage ready after {time.monotonic() - begun:.0f} s", flush=True)
        run_many = many(stage, keys_of("many", arguments.partitions))
        print(json.dumps(run_many, indent=2), flush=True)
        run_each = one_each(stage, keys_of("single", SINGLE_RUNS))
    assert run_many["checks_failed"] == 0, "checks failed"
    result = {
        "run_1000_rss_mb": run_many["rss_peak_mb"],
        "polls_per_interval": run_many["polls_per_interval"],
        "commit_to_event_s": run_many["commit_to_event_s"],
        "one_run_each_rss_mb": run_each["rss_peak_mb"],
        "one_run_each_times_1000_mb": round(run_each["rss_peak_mb"] * 1000),
        "one_run_each_pss_times_1000_mb": round(run_each["pss_peak_mb"] * 1000),
        "target": {"run_1000_rss_mb": TARGET_RSS_MB, "polls_per_interval": 1},
        "run_1000": run_many,
        "one_run_each": run_each,
        "skypilot_loaded": skypilot_installed(),
        "load_at_start": round(load, 1),
        "fleet": {"simulated": True, "slots": weather.slots, "preempted": weather.preempted,
                  "failing_once": weather.failing_once, "run_seconds": list(weather.run_seconds)},
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("dagster", "pyarrow")}},
        "commit": commit,
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.out == RESULTS:
        write_section("control_plane", section(result))
    print(
        json.dumps({k: v for k, v in result.items() if not isinstance(v, dict) or k == "commit_to_event_s"}, indent=2)
    )
    if result["run_1000_rss_mb"] > TARGET_RSS_MB or result["polls_per_interval"] > 1:
        raise SystemExit("the target is missed")


if __name__ == "__main__":
    main()
