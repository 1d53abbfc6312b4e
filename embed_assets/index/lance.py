"""LanceDB: one database a spec, one table a dataset. Its own faults come as errors of the lake, in one sentence."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from embed_assets.index.record import TAG, IndexRecord
from embed_worker.extras import need
from embed_worker.lake import layout
from embed_worker.lake.errors import LakeError, NoPermission, StoreAway, StoreUnavailable
from resources.lake import Lake

KEPT = timedelta(days=1)
"""A reader may still be at an older version of the table."""
FULL = re.compile(r"No space left|os error 28|Disk quota|os error 122|File too large", re.I)
REFUSED = re.compile(
    r"AccessDenied|Forbidden|Unauthenticated|InvalidAccessKeyId|SignatureDoesNotMatch|Permission denied"
)
AWAY = re.compile(
    r"error sending request|BadScheme|Connection|timed out|timeout|dns error|NoSuchBucket|Generic S3", re.I
)
GONE = re.compile(r"not found|No such file|no longer exists", re.I)
HTTP = "AWS_ALLOW_HTTP"
INTERESTING = 300


def database(lake: Lake, spec_id: str) -> Any:
    """Raises MissingExtra where LanceDB is not there."""
    need("index")
    import lancedb

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options = {"allow_http": "true"} if endpoint.startswith("http://") else None
    return lancedb.connect(lake.url(layout.index_folder(spec_id)), storage_options=options)


def open_table(lake: Lake, spec_id: str, dataset: str) -> Any:
    """The dataset's table at its newest version, or None where there is none."""
    need("index")
    if f"{dataset}.lance" not in lake.store.list(layout.index_folder(spec_id)):
        return None  # connecting would make a folder
    with lance_errors(lake, dataset):
        try:
            return database(lake, spec_id).open_table(dataset)
        except (ValueError, FileNotFoundError) as error:
            if GONE.search(str(error)):
                return None
            raise


def open_version(lake: Lake, record: IndexRecord) -> Any:
    """The version that a record names, to be read, or None where it is not there."""
    table = open_table(lake, record.spec_id, record.dataset)
    if table is not None:
        with lance_errors(lake, record.dataset):
            try:
                table.checkout(record.version)
            except (ValueError, RuntimeError, FileNotFoundError) as error:
                if GONE.search(str(error)):
                    return None
                raise
    return table


@contextmanager
def lance_errors(lake: Lake, dataset: str) -> Iterator[None]:
    """Raises StoreUnavailable for what an operator can mend, with LanceDB's first line and not its backtrace."""
    try:
        yield
    except LakeError:
        raise
    except (RuntimeError, OSError, ValueError) as error:
        text = str(error)
        where = f"{lake.url('vector_index')}: the table of {dataset}"
        if FULL.search(text):
            raise StoreUnavailable(
                f"{where}: no space left. Free some space, or point EMBED_LAKE elsewhere; readers keep the version "
                "before"
            ) from error
        said = " ".join(text.splitlines()[0].split())[:INTERESTING] if text else type(error).__name__
        if "BadScheme" in text:
            raise StoreUnavailable(f"{where}: LanceDB refuses an http:// endpoint; set {HTTP}=true") from error
        if REFUSED.search(text):
            raise NoPermission(f"{where}: no permission ({said}). Give this user read and write access") from error
        if AWAY.search(text):
            raise StoreAway(f"{where}: the store cannot be reached: {said}") from error
        raise


def at_newest(table: Any, record: IndexRecord) -> None:
    """Makes the published version the newest one again: what came after it was never published."""
    table.checkout_latest()
    if table.version != record.version:
        table.checkout(record.version)
        table.restore()
        table.checkout_latest()


def protect(table: Any) -> int:
    """Tags the newest version, which LanceDB then keeps; its number."""
    version = int(table.version)
    tags = table.tags.list()
    if TAG in tags:
        if int(tags[TAG]["version"]) != version:
            table.tags.update(TAG, version)
    else:
        table.tags.create(TAG, version)
    return version


def sweep(table: Any) -> None:
    """Removes versions that nobody reads any more. LanceDB does so only while it optimizes: call it where there is
    nothing to be optimized, so that the newest version stays the published one."""
    table.optimize(cleanup_older_than=KEPT)
