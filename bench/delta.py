"""What an update costs when little has changed, against a run from nothing: tokens, bytes, jobs, seconds.

`python -m bench.delta [--rows N]` writes bench/results/delta.json, and its section of the page. The hash engine stands
in for a model: what is counted is what the platform asks of it, and each vector shows whether it is its text's.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import orjson
import polars as pl

from bench.control_plane import machine as machine_facts
from bench.report import write_section
from bench.source_bytes import counted_bytes
from embed_assets.deployment import deployed
from embed_assets.reading.lake import Lake
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_assets.testing.compute import InProcess, InProcessCompute
from embed_worker.attempt.feeder import Feeder
from embed_worker.engine.hash import MODEL

RESULTS = Path(__file__).parents[1] / "bench" / "results" / "delta.json"
FILES, STRIDES = 20, 8
WORDS = ("a good book", "the best I have read", "far too long", "I could not put it down", "a waste of money")
COLUMNS = ["id", "chunk", "char_start", "char_end", "embedding"]
Texts = dict[str, str]


@dataclass
class Count:
    """What a run asked for."""

    tokens: int = 0
    bytes: int = 0
    jobs: int = 0
    events: int = 0
    seconds: float = 0.0


class Bench:
    """A dataset in 20 files, its lake, its Dagster instance."""

    def __init__(self, folder: Path, *, strides: int = STRIDES, more: dict[str, Any] | None = None) -> None:
        self.folder, self.strides, self.more = folder, strides, more or {}
        self.source = folder / "source"
        self.source.mkdir(parents=True, exist_ok=True)

    @property
    def pipeline(self) -> EmbeddingPipeline:
        one = {"source": f"{self.source}/*.jsonl", "text": "{text}", "id": "{id}", "strides": self.strides}
        return EmbeddingPipeline.model_validate(
            {
                "name": "bench",
                "datasets": [{"name": "reviews", **one, **self.more}],
                "embedding": {"model": MODEL, "pooling": "mean", "attention": "bidirectional"},
            }
        )

    def write(self, texts: Texts, base_rows: int) -> None:
        """A file is written again only where it has changed."""
        rows: list[list[bytes]] = [[] for _ in range(FILES + 1)]
        for id_, text in texts.items():
            rows[file_of(id_, base_rows)].append(orjson.dumps({"id": id_, "text": text}) + b"\n")
        for at, lines in enumerate(rows):
            path, data = self.source / f"{at:02d}.jsonl", b"".join(lines)
            if data and (not path.exists() or path.read_bytes() != data):
                path.write_bytes(data)
            elif not data:
                path.unlink(missing_ok=True)
        time.sleep(2.1)  # so old is a file whose time proves it

    def update(self, **config: Any) -> Count:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        definitions = deployed([self.pipeline], Settings(lake=str(self.folder / "lake")), InProcessCompute())
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        with counted() as count, dg.DagsterInstance.local_temp(str(home)) as instance:
            begun = time.monotonic()
            run = definitions.resolve_job_def("bench__update").execute_in_process(
                instance=instance, run_config={**quiet, "ops": {"bench__update_op": {"config": config}}}
            )
            count.seconds = time.monotonic() - begun
            count.events = len(instance.all_logs(run.run_id))
        return count

    def vectors(self) -> pl.DataFrame:
        frame = Lake(str(self.folder / "lake")).scan(self.pipeline, "reviews").select(COLUMNS)
        return frame.sort("id", "chunk").collect()


@contextmanager
def counted() -> Iterator[Count]:
    count, take, submit = Count(), Feeder.take, InProcess.submit

    def taking(self: Feeder, block: bool) -> Any:
        request = take(self, block)
        count.tokens += len(request[1]) if request is not None else 0
        return request

    def submitting(self: InProcess, *given: Any) -> Any:
        count.jobs += 1
        return submit(self, *given)

    with patch.object(Feeder, "take", taking), patch.object(InProcess, "submit", submitting), counted_bytes() as read:
        yield count
    count.bytes = read["bytes"]


def texts_of(rows: int) -> Texts:
    chance = random.Random(rows)
    return {f"r{i:08d}": f"{' '.join(chance.choices(WORDS, k=4))}, said reader {i}" for i in range(rows)}


def file_of(id_: str, rows: int) -> int:
    """Rows of the base lie in the files in order; those that come at the end, in one of their own."""
    return int(id_[1:].partition("-")[0]) * FILES // rows if id_.startswith("r") else FILES


Change = Callable[[Texts, random.Random], Texts]


def some(texts: Texts, share: float, chance: random.Random) -> list[str]:
    return chance.sample(sorted(texts), max(1, int(share * len(texts))))


def new_at_end(texts: Texts, chance: random.Random) -> Texts:
    return texts | {f"n{i:08d}": f"a new review, number {i}" for i in range(len(texts) // 100)}


def new_anywhere(texts: Texts, chance: random.Random) -> Texts:
    return texts | {f"{id_}-new": f"a new review beside {id_}" for id_ in some(texts, 0.01, chance)}


def edited(texts: Texts, chance: random.Random) -> Texts:
    return texts | {id_: f"{texts[id_]}, edited" for id_ in some(texts, 0.01, chance)}


def deleted(texts: Texts, chance: random.Random) -> Texts:
    gone = set(some(texts, 0.01, chance))
    return {id_: text for id_, text in texts.items() if id_ not in gone}


def shuffled(texts: Texts, chance: random.Random) -> Texts:
    order = sorted(texts)
    chance.shuffle(order)
    return {id_: texts[id_] for id_ in order}


def one_file(texts: Texts, chance: random.Random) -> Texts:
    return {id_: f"{text}, again" if file_of(id_, len(texts)) == 3 else text for id_, text in texts.items()}


CHANGES: dict[str, Change] = {
    "nothing changed": lambda texts, chance: texts,
    "1 % new at the end": new_at_end,
    "1 % new at random places": new_anywhere,
    "1 % edited": edited,
    "1 % deleted": deleted,
    "rows shuffled": shuffled,
    "one of 20 files replaced": one_file,
}


def case(folder: Path, base: Path, texts: Texts, change: Change | None, **how: Any) -> dict[str, Any]:
    """An update after a change, on a copy of the lake of `texts`, against a run of the same rows from nothing."""
    chance = random.Random(7)
    shutil.copytree(base, folder / "mine")  # with the times of its files
    Bench(folder / "mine").update()  # the files lie elsewhere now: they are read once more, and their parts are found
    mine = Bench(folder / "mine", strides=how.get("strides", STRIDES))
    total, now = Count(), texts
    for _ in range(how.get("times", 1)):
        now = change(now, chance) if change is not None else now
        mine.write(now, len(texts))
        one = mine.update(**how.get("config", {}))
        for name in vars(total):
            setattr(total, name, getattr(total, name) + getattr(one, name))
    whole = Bench(folder / "whole", strides=mine.strides)
    whole.write(now, len(texts))
    full = whole.update()
    unseen = sum(len(text.encode()) + 2 for text in set(now.values()) - set(texts.values()))
    same = mine.vectors().equals(whole.vectors())
    shutil.rmtree(folder)
    return {
        "tokens": total.tokens, "tokens_unseen": unseen, "tokens_share": round(total.tokens / full.tokens, 4),
        "bytes_share": round(total.bytes / full.bytes, 4), "seconds_share": round(total.seconds / full.seconds, 4),
        "jobs": total.jobs, "jobs_full": full.jobs, "events": total.events, "events_full": full.events, "equal": same,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    texts, cases = texts_of(rows), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = Bench(folder / "base")
        base.write(texts, rows)
        base.update()
        for title, change in CHANGES.items():
            cases[title] = case(folder / "case", base.folder, texts, change)
            print(title, cases[title], flush=True)
        cases["a new base, 1 % edited"] = case(folder / "case", base.folder, texts, edited, config={"rebase": "now"})
        cases["ten deltas, one of them a rebase"] = case(folder / "case", base.folder, texts, edited, times=10)
        cases["8 strides → 12"] = case(folder / "case", base.folder, texts, None, strides=12)
    worst = max(one["tokens"] / one["tokens_unseen"] for one in cases.values() if one["tokens_unseen"])
    result = {
        "tokens_over_new_max": round(worst, 4),
        "unchanged_bytes_share": cases["nothing changed"]["bytes_share"],
        "delta_seconds_share_1pct": cases["1 % edited"]["seconds_share"],
        "delta_jobs": max(one["jobs"] for title, one in cases.items() if title.startswith("1 %")),
        "wrong": sum(not one["equal"] for one in cases.values()),
        "rows": rows,
        "cases": cases,
        "machine": machine_facts(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    write_section("delta", section(result))


def section(result: dict[str, Any]) -> str:
    lines = [
        "## Only what changed", "",
        f"{result['rows']:,} reviews in 20 files, 8 strides, the hash engine; an update after each change, against a "
        "run of the same rows from nothing.", "",
        "| | tokens ÷ of unseen | tokens ÷ full run | source bytes ÷ | jobs | seconds ÷ | rows and vectors equal |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]  # fmt: skip
    for title, one in result["cases"].items():
        over = f"{one['tokens'] / one['tokens_unseen']:.3f}" if one["tokens_unseen"] else f"{one['tokens']} tokens"
        lines.append(
            f"| {title} | {over} | {one['tokens_share']:.3f} | {one['bytes_share']:.3f} | {one['jobs']} of "
            f"{one['jobs_full']} | {one['seconds_share']:.2f} | {'yes' if one['equal'] else 'NO'} |"
        )
    lines += ["", f"`make bench-delta` · {result['date']} · [delta.json](../bench/results/delta.json)"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
