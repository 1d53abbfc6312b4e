"""A model put into the lake's bucket once, as small as embedding needs it, so that hundreds of nodes fetch it there."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embed_assets.upkeep.tensors import convert
from embed_worker.extras import need
from embed_worker.lake.files import sha256_of
from embed_worker.lake.spec import EmbeddingSpec, digest_of
from embed_worker.lake.store import Store

FOLDER = "models"
INDEX = "model.safetensors.index.json"
PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]
SKIPPED = ("onnx/", "openvino/", "original/")


class NotStaged(Exception):
    """The model cannot be staged; the message says why and what to do."""


@dataclass(frozen=True)
class Staged:
    """What to write into the pipeline: `location`, and pins of the weights."""

    location: str
    sha256: dict[str, str]
    bytes_before: int
    bytes_after: int


def stage_model(
    store: Store, spec: EmbeddingSpec, source: Path | None = None, tell: Callable[[str], object] = lambda _: None
) -> Staged:
    """Fetches (or takes `source`), converts, uploads. What is there already is left as it is, or refused if it differs.

    Raises NotStaged, StoreUnavailable.
    """
    folder = source or _from_hub(spec)
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise NotStaged(f"{folder} holds no model: config.json and *.safetensors are wanted")
    before = sum(path.stat().st_size for path in weights)
    slug = spec.spec_id.rsplit("-", 1)[0]
    place = f"{FOLDER}/{slug}-{digest_of([spec.model, spec.revision, spec.dtype, str(source or '')], 10)}"
    pins: dict[str, str] = {}
    after = 0
    with tempfile.TemporaryDirectory(prefix="embed-stage-") as scratch:
        where: dict[str, str] = {}
        total = 0
        for path in weights:
            local = Path(scratch) / path.name
            tell(f"{path.name}: to {spec.dtype}")
            try:
                sizes = convert(path, local, spec.dtype)
            except ValueError as error:
                raise NotStaged(f"{error}; fetch it again") from error
            if sizes:
                where |= dict.fromkeys(sizes, path.name)
                total += sum(sizes.values())
                after += local.stat().st_size
                pins[path.name] = _put(store, f"{place}/{path.name}", local, tell)
            local.unlink()
        if (folder / INDEX).is_file():
            index = {"metadata": {"total_size": total}, "weight_map": where}
            local = Path(scratch) / INDEX
            local.write_text(json.dumps(index, indent=2, sort_keys=True))
            _put(store, f"{place}/{INDEX}", local, tell)
        for path in _others(folder):
            local = Path(scratch) / "other"
            shutil.copyfile(path, local)
            _put(store, f"{place}/{path.relative_to(folder).as_posix()}", local, tell)
            local.unlink()  # a lake on this disk may have linked it
    return Staged(store.url(place), pins, before, after)


def _put(store: Store, path: str, local: Path, tell: Callable[[str], object]) -> str:
    digest = sha256_of(local)
    if store.create_file(path, local):
        tell(f"{path}: {local.stat().st_size / 1e6:,.1f} MB")
        return digest
    with tempfile.NamedTemporaryFile() as there, store.open(path) as file:
        shutil.copyfileobj(file, there, 1 << 22)
        there.flush()
        if sha256_of(Path(there.name)) != digest:
            raise NotStaged(
                f"{store.url(path)} is there with other content: delete {store.url(path.rpartition('/')[0])}"
            )
    tell(f"{path}: there already")
    return digest


def _others(folder: Path) -> list[Path]:
    """Configuration and tokenizer: all that is no weights, and no Python."""
    names = {path for pattern in PATTERNS for path in folder.rglob(pattern)}
    relative = {path: path.relative_to(folder).as_posix() for path in names if path.is_file()}
    return sorted(
        path
        for path, name in relative.items()
        if path.suffix != ".safetensors" and name != INDEX and not name.startswith((*SKIPPED, "."))
    )


def _from_hub(spec: EmbeddingSpec) -> Path:
    need("plan")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec.model, revision=spec.revision, allow_patterns=PATTERNS))
    except Exception as error:  # the hub's library has a dozen, and the network its own
        raise NotStaged(
            f"cannot fetch {spec.model} (revision {spec.revision}): {type(error).__name__}: {error}. A folder with it "
            "on this machine can be named with --from"
        ) from error
