"""Stand-ins for the Python that worker processes are started with."""

import sys
from pathlib import Path

SERVE = """
import os, sys, time
import embed_worker.__main__ as worker
from embed_worker.errors import BadJob, WorkerError

real = worker.run_job
def run_job(job, *rest, **options):
    print("working on", job.shard.key, file=sys.stderr, flush=True)
    {body}
    return real(job, *rest, **options)
worker.run_job = run_job
sys.argv = ["embed_worker", "--serve"]
code = worker.main()
sys.stderr.flush()
os._exit(code)
"""


HANG = "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL); time.sleep(600)"
"""For `worker_python`: a job that never ends, in a worker that SIGTERM ends at once."""


def worker_python(path: Path, body: str) -> str:
    """Stands in for the worker's Python: the real worker, but `body` runs before each job."""
    path.write_text(f"#!{sys.executable}\n{SERVE.format(body=body.strip())}")
    path.chmod(0o755)
    return str(path)


def shell_python(path: Path, body: str) -> str:
    """Stands in for the worker's Python: a shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)
