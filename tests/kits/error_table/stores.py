"""The store that the lake is in: full, away, refusing."""

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec

from tests.kits.error_table.registry import provokes
from tests.kits.error_table.scene import Scene
from tests.kits.error_table.worker import python
from tests.kits.graph_bench import RAW, SHARDS, STRIDES
from tests.kits.lake.fault_proxy import FaultProxy

AT_ONCE = {"connect_timeout": 2, "read_timeout": 5, "retries": {"max_attempts": 0}}
"""The client's own patience is half a minute."""


@contextlib.contextmanager
def behind(scene: Scene, rates: Mapping[str, float] = {}) -> Iterator[FaultProxy]:
    """A lake on S3, which this process asks through a proxy with these faults."""
    proxy = FaultProxy(scene.fixture("s3_server"), rates=rates)
    with proxy.running(), scene.patch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": proxy.url, "config_kwargs": AT_ONCE})
        yield proxy


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return path


@provokes("no space left. Free some space, or point EMBED_LAKE elsewhere")
def a_full_disk(scene: Scene) -> Iterator[str]:
    disk = scene.fixture("small_disk")
    scene.lies_in(disk / "lake")
    filler = fill(disk)
    yield scene.told(RAW)
    filler.unlink()
    scene.made(RAW)
    filler = fill(disk)
    yield scene.told(STRIDES)
    filler.unlink()
    scene.made(STRIDES)


@provokes("no space left. Free some space, or point TMPDIR elsewhere")
def a_full_scratch_disk(scene: Scene) -> Iterator[str]:
    disk = scene.fixture("small_disk")
    scene.lies_in(scene.fixture("s3_root"))
    filler = fill(disk)
    with scene.patch.context() as patch:
        patch.setattr("tempfile.tempdir", str(disk))
        yield scene.told(RAW)
    filler.unlink()
    scene.made(RAW)


@provokes("the lake does not answer")
def a_disk_that_is_full_for_a_while(scene: Scene) -> Iterator[str]:
    disk = scene.fixture("small_disk")
    scene.lies_in(disk / "lake")
    assert scene.ready
    filler = fill(disk)
    threading.Timer(1.5, filler.unlink).start()
    yield scene.logged(SHARDS)


@provokes("cannot be read or written (…). Point EMBED_LAKE at a writable folder")
def a_read_only_disk(scene: Scene) -> Iterator[str]:
    scene.lies_in(scene.fixture("read_only_disk") / "lake")
    yield scene.told(RAW)


@provokes("there is no such bucket")
def no_bucket(scene: Scene) -> Iterator[str]:
    """Whoever asks first."""
    assert scene.fixture("s3_server")
    scene.lies_in("s3://typo/lake")
    yield scene.told(RAW)
    yield scene.told(SHARDS)
    for command in ("status", "gc", "verify"):
        yield scene.command(command)


@provokes("there is no such folder. Nothing was made yet, or EMBED_LAKE is wrong")
def no_folder_of_a_lake(scene: Scene) -> Iterator[str]:
    yield scene.command("gc")
    assert scene.ready
    assert "nothing to remove" in scene.works("gc")


@provokes("no permission", "a wrong access key may be answered alike", "Give this user read and write access")
def a_role_without_rights(scene: Scene) -> Iterator[str]:
    scene.lies_in(scene.fixture("s3_root"))
    with behind(scene, {"error AccessDenied": 1.0}):
        yield scene.told(RAW)
        yield scene.told(SHARDS)
        yield scene.command("status")
    scene.made(RAW)


@provokes("wrong access key or secret")
def a_wrong_key(scene: Scene) -> Iterator[str]:
    scene.lies_in(scene.fixture("s3_root"))
    for code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        with behind(scene, {f"error {code}": 1.0}):
            yield scene.command("verify")


@provokes("the credentials have expired. Renew them")
def expired_credentials(scene: Scene) -> Iterator[str]:
    scene.lies_in(scene.fixture("s3_root"))
    with behind(scene) as proxy:
        proxy.expired_keys.add("test")
        yield scene.command("verify")


@provokes("the store does not answer as it should: … Bad Request. Expired credentials are answered so, too")
def expired_credentials_of_a_question_without_an_answers_body(scene: Scene) -> Iterator[str]:
    scene.lies_in(scene.fixture("s3_root"))
    with behind(scene) as proxy:
        proxy.next_faults += [("HEAD", "error ExpiredToken")] * 2  # the client asks in another region, too
        yield scene.told(RAW)
        scene.made(RAW)


@provokes("the store does not answer as it should")
def a_store_that_is_overloaded(scene: Scene) -> Iterator[str]:
    scene.lies_in(scene.fixture("s3_root"))
    with behind(scene, {"error SlowDown": 1.0}):
        yield scene.told(RAW)
    scene.made(RAW)


@provokes("the store cannot be reached")
def no_network(scene: Scene) -> Iterator[str]:
    scene.lies_in(scene.fixture("s3_root"))
    with scene.patch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": AT_ONCE})
        yield scene.told(RAW)
        yield scene.command("status")
    scene.made(RAW)


@provokes("is not installed here: pip install")
def no_library(scene: Scene) -> Iterator[str]:
    scene.patch.setitem(sys.modules, "gcsfs", None)
    scene.lies_in("gs://bucket/lake")
    yield scene.told(RAW)
    yield scene.command("status")


@provokes("the worker cannot read or write the lake")
def a_lake_that_refuses_the_worker_alone(scene: Scene) -> Iterator[str]:
    scene.lies_in(scene.fixture("s3_root"))
    assert scene.ready
    proxy = FaultProxy(scene.fixture("s3_server"))
    proxy.next_faults = [("/", "error AccessDenied")] * 3
    with proxy.running():
        scene.bench.python = python(scene, first=f"export AWS_ENDPOINT_URL={proxy.url}")
        yield scene.logged(SHARDS)
