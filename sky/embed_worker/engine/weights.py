"""Where a model's files come from, and that they are the ones the spec pins."""

import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import orjson
from filelock import FileLock

from embed_worker.engine.tokens import TOKENIZER
from embed_worker.errors import BadJob, BadMachine, ModelAway
from embed_worker.lake.files import sha256_of
from embed_worker.lake.spec import EmbeddingSpec, digest_of
from embed_worker.lake.store_errors import FULL

log = logging.getLogger(__name__)

CACHE = "EMBED_MODEL_CACHE"
"""Folder of fetched models, shared by the processes of a node. Default: ~/.cache/embed-worker/models."""
PIECE, STREAMS = 32 << 20, 8
"""Bytes of a range, and how many are fetched at a time; each is in memory."""
MAX_HEADER = 100_000_000
"""Bytes of a safetensors header, as the format has it."""
FILES = (".json", ".safetensors", ".txt", ".model")
"""What a model is made of. Python code and pickled weights are left behind."""


def model_folder(spec: EmbeddingSpec) -> Path:
    """The folder with the weights: `location`, or the hub's copy of `model` at `revision`."""
    if spec.location is not None and "://" in spec.location:
        return fetch_folder(spec.location, FILES + ((".py",) if spec.trust_remote_code else ()))
    if spec.location is not None:
        folder = Path(spec.location).expanduser()
        if not (folder / "config.json").is_file():
            raise BadJob(
                f"no model at {folder} (no config.json there). Fetch {spec.model} into that folder, "
                "or correct embedding.location in the pipeline"
            )
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", *(["*.py"] if spec.trust_remote_code else [])]
    try:
        return Path(snapshot_download(spec.model, revision=spec.revision, allow_patterns=patterns))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise BadJob(f"the hub has no model {spec.model} (revision {spec.revision}), or it is not public") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        _check_disk(error)
        raise ModelAway(f"cannot fetch {spec.model} from the hub: {error}") from error


def check_weights(spec: EmbeddingSpec, folder: Path) -> None:
    """Safetensors only, every pinned digest right, and what is not pinned at least whole."""
    if not (folder / TOKENIZER).is_file():
        raise BadJob(f"{folder} has no {TOKENIZER}")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BadJob(f"{folder} has no *.safetensors; pickled weights are not loaded")
    for name, digest in spec.sha256.items():
        path = folder / name
        if not path.is_file():
            raise BadJob(f"{path} is missing; embedding.sha256 names it")
        if (found := sha256_of(path)) != digest:
            raise BadJob(f"{path} has sha256 {found}, the spec wants {digest}: not the pinned weights")
    for path in weights:
        if path.name not in spec.sha256:
            check_whole(path)


def check_whole(path: Path) -> None:
    """Holds a safetensors file's size against its header. vLLM names no file where one is cut off."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = orjson.loads(file.read(min(length, MAX_HEADER)))
        tensors = (about for name, about in header.items() if name != "__metadata__")
        wanted = 8 + length + max((about["data_offsets"][1] for about in tensors), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise BadJob(f"{path} is cut off or no safetensors file (its header: {error}); fetch it again") from error
    if (size := path.stat().st_size) != wanted:
        raise BadJob(f"{path} is cut off or damaged: it has {size} bytes, its header wants {wanted}; fetch it again")


def _fetch_ranges(fs: Any, source: str, local: Path, size: int) -> int:
    """Fetches a file in ranges, several at a time: one stream fills a fraction of a node's network. Bytes that came."""

    def piece(begin: int) -> int:
        data: bytes = fs.cat_file(source, start=begin, end=min(begin + PIECE, size))
        return os.pwrite(file.fileno(), data, begin)

    with local.open("wb") as file, ThreadPoolExecutor(STREAMS) as pool:
        return sum(pool.map(piece, range(0, size, PIECE)))


def _check_disk(error: Exception) -> None:
    """Raises BadMachine where it is this machine's disk that is full."""
    if isinstance(error, OSError) and error.errno in FULL:
        raise BadMachine(
            f"no space left for the model on this machine's disk ({error}); a larger one: EMBED_SKY_DISK_SIZE"
        ) from error


def fetch_folder(url: str, suffixes: tuple[str, ...]) -> Path:
    """The model under an object-store URL, as a local folder: fetched once a node, whoever comes first.

    Named by the files' sizes and etags: a model that is replaced at the source is fetched anew.
    """
    try:
        fs, root = fsspec.core.url_to_fs(url)
        found = fs.find(root, detail=True)
    except Exception as error:  # each cloud's library has errors of its own
        raise ModelAway(f"cannot reach the model at {url}: {type(error).__name__}: {error}") from error
    base = root.rstrip("/")
    names = {name[len(base) + 1 :]: about for name, about in sorted(found.items()) if name.endswith(suffixes)}
    if "config.json" not in names:
        raise BadJob(f"no model at {url} (no config.json there); correct embedding.location in the pipeline")
    if odd := [name for name in names if ".." in PurePosixPath(name).parts]:
        raise BadJob(f"the model at {url} has a file called {odd[0]!r}")
    identity = {
        name: [about.get("size"), str(about.get("ETag") or about.get("mtime"))] for name, about in names.items()
    }
    cache = Path(os.environ.get(CACHE, "~/.cache/embed-worker/models")).expanduser()
    target = cache / digest_of([url, identity], length=16)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{target.name}.lock"):  # freed by the kernel when its holder dies
        if target.is_dir():
            return target
        log.info("fetching %d files of the model at %s", len(names), url)
        partial = cache / f"{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # of a process that died
        try:
            for name, about in names.items():
                local = partial / name
                local.parent.mkdir(parents=True, exist_ok=True)
                if (came := _fetch_ranges(fs, f"{base}/{name}", local, int(about["size"]))) != about["size"]:
                    raise ModelAway(f"{url}/{name}: {came} of {about['size']} bytes came")
        except ModelAway:
            raise
        except Exception as error:
            _check_disk(error)
            raise ModelAway(f"cannot fetch {url}/{name}: {type(error).__name__}: {error}") from error
        partial.rename(target)
    return target
