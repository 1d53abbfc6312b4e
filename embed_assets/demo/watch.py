"""Progress bars for a run that is on, fed from the lake's heartbeats and manifests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from embed_assets.spec import EmbeddingPipeline
from embed_assets.upkeep.status import pipeline_status
from embed_worker.lake import census
from resources.lake import Lake

INTERVAL = 0.7


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description:<34}"), BarColumn(30), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        yield progress


@contextmanager
def watch_embedding(progress: Progress, lake: Lake, pipeline: EmbeddingPipeline) -> Iterator[None]:
    """Shows embedded rows of each dataset while the body runs."""
    done = threading.Event()
    tasks = {d.name: progress.add_task(f"embedding_shards {d.name}", total=None, note="") for d in pipeline.datasets}

    def update() -> None:
        in_hand: dict[str, int] = {}
        speed: dict[str, str] = {}
        for _, state in census.heartbeats(lake.store):
            if state.get("spec_id") != pipeline.embedding.spec_id or census.age_seconds(state) > 20:
                continue
            name = str(state.get("dataset"))
            if state.get("phase") in ("starting", "loading model"):
                speed[name] = "loading the model"
            elif state.get("phase") not in ("committed", "stopped"):
                in_hand[name] = in_hand.get(name, 0) + int(state.get("rows_done", 0))
                speed[name] = str(state.get("phase"))
        for status in pipeline_status(lake, pipeline):
            if status.snapshot is None:
                continue
            rows = status.rows_embedded + status.rows_rejected
            rows = min(rows + in_hand.get(status.dataset, 0), status.rows)
            note = "" if rows == status.rows else speed.get(status.dataset, "")
            progress.update(tasks[status.dataset], total=status.rows, completed=rows, note=note)

    def loop() -> None:
        while not done.wait(INTERVAL):
            try:
                update()
            except Exception:  # noqa: S112  (only the bars suffer; the next look is soon)
                continue

    thread = threading.Thread(target=loop, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        update()
