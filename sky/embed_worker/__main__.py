"""`python -m embed_worker JOB.json…` makes the partitions of some job files and exits, with an engine a GPU.

`python -m embed_worker --serve` takes requests as JSON lines on stdin and answers on stdout, the engine loaded
once: {"job": URL} → {"job": URL, "code": 0, "error": null}, {"query": {"spec": {…}, "texts": [...], "space": {…}}}
→ {"vectors": [[…]]}; with a space's canaries, a model that gives them without vLLM serves in its place. It ends
when stdin closes. Logs go to stderr. An answer with "leaving": true is its last one: after an error that nobody
foresaw, as CUDA's, the engine may be broken for all that come later. One with "lake_away": true says nothing of the
job: the lake could not be read or written. Between the answers come signs of life: {"sign": "ready"} once Python is
up, "begun" when a request is understood, "loading" and "loaded" around the model.
"""

import argparse
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import orjson

from embed_worker.attempt.crew import run_lanes
from embed_worker.attempt.lanes import LANE, SINGLE, Lane, engine_groups, lanes_of
from embed_worker.attempt.patience import DEFAULT_SECONDS, SECONDS, Patience
from embed_worker.attempt.runner import run_job
from embed_worker.attempt.starts import beginning
from embed_worker.engine.loading import LoadedModel, load_model, load_tokenizer
from embed_worker.engine.tokens import NoTokens, TextTokenizer, check_tokens
from embed_worker.errors import BadMachine, Preempted, WorkerError, exit_code_of, lake_away
from embed_worker.exits import ExitCode
from embed_worker.lake.errors import LakeError
from embed_worker.lake.job import load_job
from embed_worker.lake.manifests import Canaries
from embed_worker.lake.spec import EmbeddingSpec

log = logging.getLogger("embed_worker")

STARTED_AGAIN = "EMBED_STARTED_AGAIN"
"""Of a worker that has taken the place of one that failed."""
GRACE_SECONDS = 8.0
"""After a signal: time to finish the write in hand. A model being loaded is not waited for."""


class Worker:
    """Runs jobs one after another; the engine stays loaded while the spec stays the same."""

    def __init__(self, sign: Callable[[str], None] = lambda _: None, patience_seconds: float = 0.0) -> None:
        os.environ["RUST_BACKTRACE"] = "0"  # to print one, a Rust library that is out of memory would wait for ever
        self.stop = threading.Event()
        self._patience = Patience(patience_seconds, self.stop)
        self.leaving = self.lake_away = False
        self._sign = sign
        self._model: LoadedModel | None = None
        self._tokenizer: tuple[EmbeddingSpec, TextTokenizer] | None = None
        self._light: tuple[EmbeddingSpec, LoadedModel | None] | None = None

    def tokenizer(self, spec: EmbeddingSpec) -> TextTokenizer:
        if self._tokenizer is None or self._tokenizer[0] != spec:
            self._sign("loading")
            self._tokenizer = (spec, self._patience.until_there(lambda: load_tokenizer(spec)))
        return self._tokenizer[1]

    def model(self, spec: EmbeddingSpec) -> LoadedModel:
        if self._model is None:
            self._sign("loading")
            self._model = self._patience.until_there(lambda: load_model(spec))
        elif _without_query(self._model.spec) != _without_query(spec):
            raise WorkerError("this worker process has another model loaded; start one for this spec")
        self._sign("loaded")
        return self._model

    def run(self, url: str, lane: Lane = SINGLE) -> tuple[ExitCode, str | None]:
        """Exit code and error of one job; never raises."""
        self.lake_away = False
        try:
            with beginning():
                job = self._patience.until_there(lambda: load_job(url))
            self._sign("begun")
            run_job(job, lambda: self.model(job.spec), self.stop, self.tokenizer, lane, patience=self._patience)
        except Preempted as error:
            log.warning("%s: %s", url, error)
            return ExitCode.PREEMPTED, str(error)
        except (WorkerError, LakeError) as error:
            log.error("%s: %s", url, error)
            self.leaving, self.lake_away = isinstance(error, BadMachine), lake_away(error)
            return ExitCode.PREEMPTED if self.stop.is_set() else exit_code_of(error), str(error)
        except BaseException as error:  # also a panic in a Rust library, which is no Exception
            log.exception("%s: failed", url)
            self.leaving = True
            return self._unforeseen(), f"{type(error).__name__}: {error}"
        finally:
            lane.close()
        return ExitCode.DONE, None

    def _query_model(self, spec: EmbeddingSpec, space: dict[str, Any] | None) -> LoadedModel:
        """vLLM's, or one that starts at once and gives the same vectors."""
        if self._model is not None or space is None:
            return self.model(spec)
        if self._light is None or self._light[0] != spec:
            from embed_worker.engine.light import load_light

            self._sign("loading")
            self._light = (spec, load_light(spec, Canaries.model_validate(space)))
        self._sign("loaded")
        return self._light[1] or self.model(spec)

    def _unforeseen(self) -> ExitCode:
        """Of an error that nobody sorted: before the engine has proved itself, it is most likely the machine's."""
        if self.stop.is_set():
            return ExitCode.PREEMPTED
        return ExitCode.MACHINE if self._model is None else ExitCode.AGAIN

    def query(self, query: dict[str, Any]) -> dict[str, Any]:
        """Vectors of a few search texts, with the spec's query prompt."""
        try:
            spec = EmbeddingSpec.model_validate(query["spec"])
            self._sign("begun")
            check_tokens(self.tokenizer(spec), query["texts"], spec.prompts.query)  # before a model is loaded in vain
            vectors = self._query_model(spec, query.get("space")).embed_texts(query["texts"], spec.prompts.query)
        except (WorkerError, LakeError, NoTokens) as error:
            return {"error": str(error)}
        except Exception as error:
            log.exception("query failed")
            return {"error": f"{type(error).__name__}: {error}"}
        return {"vectors": vectors.tolist()}


def _without_query(spec: EmbeddingSpec) -> EmbeddingSpec:
    return spec.model_copy(update={"prompts": spec.prompts.model_copy(update={"query": ""})})


def serve(worker: Worker, tell: Callable[[dict[str, Any]], None]) -> None:
    """Takes requests until stdin closes; that also stops the job in hand, since nobody waits for it."""
    tell({"sign": "ready"})
    requests: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        try:
            for line in sys.stdin.buffer:
                requests.put(line)
        finally:
            worker.stop.set()
            requests.put(None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while not worker.stop.is_set():
        try:
            line = requests.get(timeout=0.5)
        except queue.Empty:
            continue
        if line is None:
            return
        tell(answer_to(worker, line))
        if worker.leaving:
            return


def answer_to(worker: Worker, line: bytes) -> dict[str, Any]:
    """The answer to one line of stdin; an `error` where it is no request."""
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return {"error": f"the request is not JSON: {error}"}
    match request:
        case {"job": str(url)}:
            code, fault = worker.run(url)
            flags = {name: True for name in ("leaving", "lake_away") if getattr(worker, name)}
            return {"job": url, "code": int(code), "error": fault, **flags}
        case {"query": dict(query)}:
            return worker.query(query)
    return {"error": 'a request is {"job": URL} or {"query": {"spec": {…}, "texts": […]}}'}


def _gpus_of(url: str) -> int:
    """GPUs that one engine of the job spans."""
    try:
        engine = load_job(url).spec.engine
    except LakeError:
        return 1  # the run itself says what is wrong
    return int(engine.get("tensor_parallel_size", 1)) * int(engine.get("pipeline_parallel_size", 1))


def once_more() -> None:
    """Starts this very command anew in its place, with an engine and a CUDA context that are fresh; once."""
    if os.environ.get(STARTED_AGAIN):
        return
    log.warning("starting once more on this machine")
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, STARTED_AGAIN: "1"})  # noqa: S606 - our own command


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
    if arguments.jobs and LANE not in os.environ and len(groups := engine_groups(_gpus_of(arguments.jobs[0]))) > 1:
        return run_lanes(groups, arguments.jobs)

    def tell(line: dict[str, Any]) -> None:
        answers.write(orjson.dumps(line).decode() + "\n")
        answers.flush()

    if arguments.serve:  # whoever asks does the waiting
        worker = Worker(lambda sign: tell({"sign": sign}))
    else:
        worker = Worker(patience_seconds=float(os.environ.get(SECONDS) or DEFAULT_SECONDS))
    signalled = threading.Event()

    def on_signal(*_: object) -> None:
        signalled.set()
        worker.stop.set()
        hard_stop = threading.Timer(GRACE_SECONDS, lambda: os._exit(ExitCode.PREEMPTED))
        hard_stop.daemon = True
        hard_stop.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if arguments.serve:
        serve(worker, tell)
        if signalled.is_set():
            return ExitCode.PREEMPTED
        return ExitCode.AGAIN if worker.leaving else ExitCode.DONE
    codes = []
    for url, lane in zip(arguments.jobs, lanes_of(len(arguments.jobs)), strict=True):
        code, _ = worker.run(url, lane)
        codes.append(code)
        if signalled.is_set():
            break
    if len(codes) < len(arguments.jobs):
        return ExitCode.PREEMPTED
    if max(codes) is ExitCode.AGAIN and LANE not in os.environ:
        once_more()
    return max(codes)  # what can still be done outranks what cannot


if __name__ == "__main__":
    try:
        code = main()
    except (WorkerError, LakeError) as error:
        log.error("%s", error)
        code = exit_code_of(error)
    except Exception:
        log.exception("the worker failed")
        code = ExitCode.UNAVAILABLE  # no job was begun: nothing in the lake counts this start
    sys.stderr.flush()
    os._exit(code)  # vLLM's and torch's threads need no farewell, and some hang at it
