"""A worker process whose engine is slow enough to be killed in mid-work, and that waits for the word to begin."""

import subprocess
import sys

SLOW_WORKER = """
import sys, threading, time
import numpy as np
from embed_worker.engine import loading as models
from embed_worker.engine.hash import HashEngine

class Slow(HashEngine):
    def embed(self, source):
        for key, vector in super().embed(source):
            time.sleep(0.002)
            yield key, vector

models.HashEngine = Slow
from embed_worker.lake.job import load_job
from embed_worker.attempt.runner import run_job
job = load_job(sys.argv[1])
model = models.load_model(job.spec)
print("ready", flush=True)
sys.stdin.readline()
run_job(job, lambda: model, threading.Event())
"""


def start(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_WORKER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
