"""Times by the store's clock: those of nodes and of whoever asks may be wrong."""

import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.layout import temporary_name

PUT_SECONDS, PUT_BYTES_PER_SECOND = 300.0, 1 << 20
"""A put that takes longer hangs: HTTP's own time-outs do not run while a server keeps a client from sending."""

if TYPE_CHECKING:
    from embed_worker.lake.store import Store

STAMPS = ("LastModified", "last_modified", "updated", "mtime", "created")
"""What fsspec's file systems call the time at which a file was written."""


T = TypeVar("T")


def stamp_of(info: Mapping[str, Any], otherwise: T) -> float | T:
    """When a listed file was written, in seconds since the epoch, where the file system says so."""
    for key in STAMPS:
        match info.get(key):
            case datetime() as found:
                return found.timestamp()
            case float() | int() as seconds:
                return float(seconds)
            case str() as text:
                return datetime.fromisoformat(text).timestamp()
    return otherwise


def told_by_s3(fs: Any, base: str) -> float:
    """The `Date` of a server's answer, for a lake at `bucket/prefix`. FileNotFoundError where there is no bucket."""
    bucket, _, prefix = base.partition("/")
    answer = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/" if prefix else "", MaxKeys=1)
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date).timestamp() if date else time.time()


def now_by_writing(store: "Store") -> float:
    """The time of a file that is written for it: right on every store. Who may not write hears what the store tells.

    Raises StoreUnavailable where there is no such bucket or folder.
    """
    told = store.now()
    if store.tells_time:
        return told
    path = temporary_name("now")
    try:
        store.create(path, b"")
        return store.listing(path)[0].written
    except StoreUnavailable:  # no permission, or no space
        return told
    finally:
        store.delete(path)


def put_deadline(size: int = 0) -> float:
    return PUT_SECONDS + size / PUT_BYTES_PER_SECOND
