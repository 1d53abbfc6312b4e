"""How far the reading of a source is: a line each half minute in the log, and a bar of bytes for who watches."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from embed_assets.demo.bars import progress_bars, reading_bars
from embed_assets.tell.pace import Pace, watched
from embed_worker.lake.store import Store
from embed_worker.steps.raw import Progress, ingest
from tests.kits import pipelines as kit
from tests.kits.clock import Clock


def test_a_line_each_half_minute_with_percent_speed_and_time_left() -> None:
    clock, said = Clock(), list[str]()
    pace = Pace("d", said.append, clock)
    for second in range(0, 100, 10):
        clock.now = second
        pace(Progress(1_000_000_000 + second * 10_000_000, 4_000_000_000, second * 1000, second * 10_000_000))
    assert said == [
        "d: 32% of 4,000 MB read at 10.0 MB/s, 30,000 rows, about 4 min left",
        "d: 40% of 4,000 MB read at 10.0 MB/s, 60,000 rows, about 4 min left",
        "d: 48% of 4,000 MB read at 10.0 MB/s, 90,000 rows, about 4 min left",
    ]


def test_who_watches_sees_each_step_and_none_afterwards() -> None:
    seen: list[tuple[str, Progress]] = []
    step = Progress(1, 2, 3, 1)
    pace = Pace("d", lambda _: None)
    with watched(lambda *told: seen.append(told)):
        pace(step)
    pace(step)
    assert seen == [("d", step)]


def test_the_bar_of_a_dataset_counts_the_bytes_of_its_source(tmp_path: Path) -> None:
    console = Console(file=StringIO(), width=160)
    source = kit.write_jsonl(tmp_path / "s.jsonl", kit.texts(50))
    store, dataset = Store(str(tmp_path / "lake")), kit.dataset(str(source))
    with progress_bars(console) as progress:
        with reading_bars(progress):
            ingest(store, dataset, Pace("d", lambda _: None))
        (task,) = progress.tasks
        assert task.completed == task.total == source.stat().st_size and task.fields["note"].endswith("/s")
        assert task.description == "raw_reviews d"
    assert isinstance(console.file, StringIO) and "kB" in console.file.getvalue()
