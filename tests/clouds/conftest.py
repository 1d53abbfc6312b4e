"""Servers that speak the protocols of two clouds, each on a port of its own on loopback."""

import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kits.processes import free_port, wait_until

AZURITE = "EMBED_TEST_AZURITE"
"""The script of npm's azurite."""
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, the same everywhere."""


@contextmanager
def served(command: list[str], port: int, log: Path) -> Iterator[None]:
    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_until(answers, f"{command[0]} answers; see {log}", 60)
        yield
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a bucket."""
    port = free_port()
    log = tmp_path_factory.mktemp("gcs") / "log"
    with (
        served([sys.executable, "-m", "tests.kits.lake.gcs_server", str(port)], port, log),
        pytest.MonkeyPatch.context() as env,
    ):
        env.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        env.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it asks by gRPC, which the server does not speak
        yield "gs://lakes"


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a container."""
    script, node = os.environ.get(AZURITE), shutil.which("node")
    if script is None or node is None:
        pytest.skip(f"node, or {AZURITE}, is not there: `make test-clouds` says what is missing")
    port = free_port()
    folder = tmp_path_factory.mktemp("azure")
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--skipApiVersionCheck"]
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
    )
    with served([node, script, *options], port, folder / "log"), pytest.MonkeyPatch.context() as env:
        env.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
        import fsspec

        fsspec.filesystem("az", connection_string=connection).mkdir("lakes")
        yield "az://lakes"


@pytest.fixture(params=["gcs", "azure"])
def root(request: pytest.FixtureRequest) -> str:
    """A lake in a bucket, nothing in it yet."""
    return f"{request.getfixturevalue(request.param)}/{uuid.uuid4().hex[:8]}/lake"
