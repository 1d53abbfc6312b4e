"""`python -m embed_worker JOB.json…` makes the partitions of some job files and exits.

`python -m embed_worker --serve` takes requests as JSON lines on stdin and answers on stdout, the engine loaded
once: {"job": URL} → {"job": URL, "code": 0, "error": null}, {"query": {"spec": {…}, "texts": [...]}} →
{"vectors": [[…]]}. It ends when stdin closes. Logs go to stderr.
"""

import argparse
import logging
import os
import queue
import signal
import sys
import threading
from typing import Any, TextIO

import orjson

from embed_worker.errors import ExitCode, Preempted, WorkerError
from embed_worker.job import load_job
from embed_worker.model_spec import EmbeddingSpec
from embed_worker.models import LoadedModel, load_model
from embed_worker.runner import run_job

log = logging.getLogger("embed_worker")

GRACE_SECONDS = 8.0
"""After a signal: time to finish the write in hand. A model being loaded is not waited for."""


class Worker:
    """Runs jobs one after another; the engine stays loaded while the spec stays the same."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._model: LoadedModel | None = None

    def model(self, spec: EmbeddingSpec) -> LoadedModel:
        if self._model is None:
            self._model = load_model(spec)
        elif self._model.spec != spec:
            raise WorkerError("this worker process has another model loaded; start one for this spec")
        return self._model

    def run(self, url: str) -> tuple[ExitCode, str | None]:
        """Exit code and error of one job; never raises."""
        try:
            job = load_job(url)
            run_job(job, lambda: self.model(job.spec), self.stop)
        except Preempted as error:
            log.warning("%s: %s", url, error)
            return ExitCode.RETRY, str(error)
        except WorkerError as error:
            log.error("%s: %s", url, error)
            return error.exit_code, str(error)
        except Exception as error:
            log.exception("%s: failed", url)
            return ExitCode.RETRY, f"{type(error).__name__}: {error}"
        return ExitCode.DONE, None

    def query(self, query: dict[str, Any]) -> dict[str, Any]:
        """Vectors of a few search texts, with the spec's query prompt."""
        try:
            spec = EmbeddingSpec.model_validate(query["spec"])
            vectors = self.model(spec).embed_texts(query["texts"], spec.prompts.query)
        except (WorkerError, ValueError, KeyError) as error:
            return {"error": str(error)}
        return {"vectors": vectors.tolist()}


def serve(worker: Worker, answers: TextIO) -> None:
    """Takes requests until stdin closes; that also stops the job in hand, since nobody waits for it."""
    requests: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            requests.put(orjson.loads(line))
        worker.stop.set()
        requests.put(None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while not worker.stop.is_set():
        try:
            request = requests.get(timeout=0.5)
        except queue.Empty:
            continue
        if request is None:
            return
        if "job" in request:
            code, error = worker.run(request["job"])
            answer: dict[str, Any] = {"job": request["job"], "code": int(code), "error": error}
        else:
            answer = worker.query(request["query"])
        answers.write(orjson.dumps(answer).decode() + "\n")
        answers.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m embed_worker", description="Embeds partitions with vLLM.")
    parser.add_argument("jobs", nargs="*", metavar="JOB.json", help="URL of a job file")
    parser.add_argument("--serve", action="store_true", help="take requests as JSON lines on stdin")
    arguments = parser.parse_args()
    if arguments.serve == bool(arguments.jobs):
        parser.error("give job files, or --serve")
    # Libraries print to stdout as they like: keep it for our answers alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    worker = Worker()

    def on_signal(*_: object) -> None:
        worker.stop.set()
        hard_stop = threading.Timer(GRACE_SECONDS, lambda: os._exit(ExitCode.RETRY))
        hard_stop.daemon = True
        hard_stop.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if arguments.serve:
        serve(worker, answers)
        return ExitCode.RETRY if worker.stop.is_set() else ExitCode.DONE
    codes = []
    for url in arguments.jobs:
        code, _ = worker.run(url)
        codes.append(code)
        if worker.stop.is_set():
            return ExitCode.RETRY
    return max(codes)  # RETRY outranks BAD_JOB: what can still be done comes first


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # vLLM's and torch's threads need no farewell, and some hang at it
