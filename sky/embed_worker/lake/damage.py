"""What is told of a file of the lake that is not as it should be, and what mends it."""

from dataclasses import dataclass

from embed_worker.lake.errors import BadManifest
from embed_worker.lake.layout import DELTA, delta_key, partition_key
from embed_worker.lake.reading import Readable

CHARACTERS = 500


@dataclass(frozen=True, order=True)
class Damage:
    """Something that is not as its manifest says. `where` is a path in the lake."""

    where: str
    what: str


def cure_of(path: str) -> str:
    """What a person does about a manifest or pointer that cannot be read."""
    match path.split("/"):
        case ["raw_reviews", dataset, _, "deltas", *_]:
            return f"materialize raw_reviews of {delta_key(dataset)} again"
        case ["raw_reviews", dataset, *_]:
            return f"materialize raw_reviews of {dataset} again"
        case ["stride_partitions", dataset, _, name, *_] if name == DELTA:
            return f"materialize stride_partitions of {delta_key(dataset)} again"
        case ["stride_partitions", dataset, *_]:
            return f"materialize stride_partitions of {dataset} again"
        case ["embedding_shards", dataset, _, name, *_] if name == DELTA:
            return f"materialize embedding_shards of {delta_key(dataset)} again"
        case ["embedding_shards", dataset, _, _, stride, *_] if stride.isdigit():
            return f"materialize embedding_shards of {partition_key(dataset, int(stride))} again"
        case ["embedding_sets", dataset, *_]:
            return f"materialize embedding_set of {dataset} again"
        case ["embedding_spaces", *_]:
            return "materialize any partition of the spec to restore it"
    return "materialize what it belongs to again"


def of_manifest(store: Readable, path: str, error: BadManifest) -> Damage:
    fault = str(error).removeprefix(store.url(path)).lstrip(": ")
    return Damage(path, f"{fault[:CHARACTERS]}; {cure_of(path)}")
