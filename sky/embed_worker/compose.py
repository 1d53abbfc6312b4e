"""A partition of known texts alone, made where the driver runs: no engine, no tokenizer, no job of a backend."""

import logging
import threading

from embed_worker.attempt.runner import run_job
from embed_worker.engine.loading import LoadedModel
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.errors import NeedsEngine, WorkerError
from embed_worker.lake.errors import LakeError
from embed_worker.lake.job import load_job
from embed_worker.lake.processes import end_with_parent
from embed_worker.lake.spec import EmbeddingSpec

log = logging.getLogger(__name__)


def begin() -> None:
    """Of a process of a pool."""
    logging.basicConfig(level=logging.WARNING)
    end_with_parent()


def compose(url: str) -> str | None:
    """Makes the partition of a job file, if earlier shards know all its texts; why not, where it is not committed.

    A partition that needs an engine is left as it is found.
    """
    try:
        job = load_job(url)
        run_job(job, _no_model, threading.Event(), _no_tokenizer, composing=True)
    except (WorkerError, LakeError) as error:
        log.log(logging.INFO if isinstance(error, NeedsEngine) else logging.WARNING, "%s: %s", url, error)
        return str(error)
    return None


def _no_model() -> LoadedModel:
    raise NeedsEngine("an engine is needed")


def _no_tokenizer(spec: EmbeddingSpec) -> TextTokenizer:
    raise NeedsEngine("a tokenizer is needed")
