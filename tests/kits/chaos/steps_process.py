"""An ingest and a cut in a process of its own, forked from the server that has imported all."""

import logging
import os
import tempfile
from dataclasses import dataclass, field
from typing import Any

import fsspec
import polars as pl  # noqa: F401  (before the fork)

from embed_assets.spec import DatasetSpec
from embed_worker.lake import failpoints
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.store import Store
from embed_worker.steps import parse, ranges
from embed_worker.steps.cut import write_strides
from embed_worker.steps.fast import block
from embed_worker.steps.raw import ingest

RANGE_BYTES = 4000
"""So that the small files of the tests have several ranges, each of several parts."""


@dataclass(frozen=True)
class Steps:
    """What is to be done, as it is sent to the process."""

    root: str
    dataset: dict[str, Any]
    strides: int
    folder: str
    armed: str = ""
    """A failpoint, as EMBED_FAILPOINT takes it."""
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    fsspec: dict[str, Any] = field(default_factory=lambda: dict(fsspec.config.conf))


def take_steps(steps: Steps) -> None:
    """Ends the process with 0 when both are committed."""
    os.environ.clear()
    os.environ.update(steps.environment)
    fsspec.config.conf.update(steps.fsspec)
    tempfile.tempdir = steps.folder
    logging.basicConfig(level=logging.INFO, filename=f"{steps.folder}/log")
    ranges.RANGE_BYTES = RANGE_BYTES
    block.BLOCK_BYTES = parse.PART_BYTES = RANGE_BYTES // 2
    try:
        store, dataset = Store(steps.root), DatasetSpec(**steps.dataset)
        failpoints.arm(steps.armed)
        raw = ingest(store, dataset).manifest
        write_strides(store, raw, Partitioning("content", steps.strides))
    except BaseException:
        logging.exception("failed")
        os._exit(1)
    os._exit(0)
