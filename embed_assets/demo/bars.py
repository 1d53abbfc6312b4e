"""Progress bars for a run that is on, fed from the lake's heartbeats and manifests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from embed_assets.monitor.states import FINDING
from embed_assets.spec import EmbeddingPipeline
from embed_assets.upkeep.status import DatasetStatus, pipeline_status
from resources.lake import Lake

INTERVAL = 0.7


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description:<34}", markup=False), BarColumn(30), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        yield progress


@contextmanager
def embedding_bars(progress: Progress, lake: Lake, pipeline: EmbeddingPipeline) -> Iterator[None]:
    """Shows embedded rows of each dataset while the body runs."""
    done = threading.Event()
    tasks = {d.name: progress.add_task(f"embedding_shards {d.name}", total=None, note="") for d in pipeline.datasets}

    def update() -> None:
        for status in pipeline_status(lake.store, pipeline):
            if status.snapshot is None:
                continue
            rows = min(status.rows_with_vector + status.rows_rejected + status.rows_in_hand, status.rows)
            note = "" if rows == status.rows else _phase(status)
            progress.update(tasks[status.dataset], total=status.rows, completed=rows, note=note)

    def loop() -> None:
        while not done.wait(INTERVAL):
            try:
                update()
            except Exception:  # noqa: S112  (only the bars suffer; the next look is soon)
                continue

    thread = threading.Thread(target=loop, name="bars", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        update()


def _phase(status: DatasetStatus) -> str:
    """What most of the workers are at; loading the model while none of them is further."""
    further = [(count, phase) for phase, count in status.phases.items() if phase not in FINDING]
    return max(further)[1] if further else "loading the model" if status.phases else ""
