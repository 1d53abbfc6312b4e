"""Fixtures of several rooms: lakes on real S3 protocol servers, and tiny disks."""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.kits import ROOT
from tests.kits.processes import free_port


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of moto's server on loopback; the environment points every S3 client of this process at it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as sink, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        command = [sys.executable, "-m", "tests.kits.lake.moto_server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=sink)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert server.poll() is None and time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
            fsspec.filesystem("s3").mkdir("lake")
            yield url
        finally:
            server.terminate()
            server.wait()


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a SeaweedFS cluster of one process on loopback: an S3 server that people run in earnest."""
    weed = Path(sys.executable).with_name("weed")
    assert weed.exists(), "SeaweedFS is not installed: pip install -e '.[dev]'"
    folder = tmp_path_factory.mktemp("seaweed")
    keys = {"name": "test", "credentials": [{"accessKey": "test", "secretKey": "test"}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [keys]}))
    names = ("master", "volume", "filer", "s3")
    ports = {f"-{name}.port{kind}": free_port() for name in names for kind in ("", ".grpc")}
    command = [
        *(str(weed), "-logtostderr=true", "server", "-filer", "-s3", f"-dir={folder}", f"-s3.config={folder}/s3.json"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
        *("-master.volumePreallocate=false", "-master.volumeSizeLimitMB=64", "-volume.max=0"),
        *(f"{name}={port}" for name, port in ports.items()),
    ]
    url, log = f"http://127.0.0.1:{ports['-s3.port']}", folder / "log"
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=folder)
        try:
            fs = fsspec.filesystem("s3", key="test", secret="test", endpoint_url=url)  # noqa: S106
            deadline = time.monotonic() + 60
            while True:
                try:
                    fs.mkdir("lake")
                    break
                except Exception as error:  # it is up when it makes a bucket
                    assert server.poll() is None and time.monotonic() < deadline, f"{error}\n{log.read_text()}"
                    time.sleep(0.2)
            yield url
        finally:
            server.kill()  # nobody wants its data, and its own farewell takes 10 s
            server.wait()


@pytest.fixture
def seaweed_root(seaweed_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A lake of its own on SeaweedFS; S3 as this process sees it is there."""
    config = {"endpoint_url": seaweed_server, "key": "test", "secret": "test"}
    monkeypatch.setitem(fsspec.config.conf, "s3", config)
    return f"s3://lake/{uuid.uuid4().hex}"


@pytest.fixture
def s3_root(s3_server: str) -> str:
    """A lake of its own in the S3 server's bucket."""
    return f"s3://lake/{uuid.uuid4().hex}"


def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    yield from _mounted(tmp_path / "small", "size=1m")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    yield from _mounted(tmp_path / "read-only", "size=1m,ro")
