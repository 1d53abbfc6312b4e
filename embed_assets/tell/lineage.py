"""Column schemas and column lineage: where each column of an asset comes from."""

from collections.abc import Iterable, Mapping

import dagster as dg

from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.sets import SetManifest
from embed_worker.lake.snapshots import RawManifest

TEXTS = {
    "row_id": "Dense number of the row in its snapshot, from 0",
    "id": "The record's own id",
    "text_key": "128 bits of a hash of the text: equal where texts are",
    "text": "The text to embed, made by the pipeline's template",
    "passage": "The window's own piece of the text",
    "chunk": "Window of the text, from 0",
    "n_tokens": "Tokens of the window, special tokens included",
    "char_start": "First character of the window's passage in the text",
    "char_end": "Character after the passage",
}
TYPES = {"row_id": "int64", "id": "string", "text_key": "fixed_size_binary[16]", "text": "string", "passage": "string"}
KEYS, FROM_TEXT = ("id", "text_key"), ("chunk", "n_tokens", "char_start", "char_end", "embedding")


def column_schema(raw: RawManifest) -> dg.TableSchema:
    """The columns of a snapshot, over all its parts."""
    others = [dg.TableColumn(name, column.type) for name, column in raw.columns.items()]
    return dg.TableSchema([*_columns(["row_id", "id", "text", "text_key"]), *others])


def same_columns(parent: dg.AssetKey, names: list[str]) -> dg.TableColumnLineage:
    """Columns taken over as they are."""
    return dg.TableColumnLineage({name: [dg.TableColumnDep(parent, name)] for name in names})


def shard_schema(manifest: ShardManifest) -> dg.TableSchema:
    vector = _vector("embedding", manifest.dtype, manifest.dimension, manifest.spec.model)
    return dg.TableSchema([*_columns([*KEYS, *FROM_TEXT[:-1]]), vector])


def set_schema(found: SetManifest) -> dg.TableSchema:
    return dg.TableSchema(
        [*_columns([*KEYS, *FROM_TEXT[:-1]]), _vector("embedding", found.dtype, found.dimension, found.spec_id)]
    )


def index_schema(found: SetManifest, model: str, columns: Mapping[str, str]) -> dg.TableSchema:
    names = ["id", "text_key", "chunk", "char_start", "char_end", "passage"]
    own = [dg.TableColumn(name, kind, "Of the source") for name, kind in columns.items()]
    return dg.TableSchema([*_columns(names), *own, _vector("vector", found.dtype, found.dimension, model)])


def shard_lineage(parent: dg.AssetKey) -> dg.TableColumnLineage:
    """The vector and its figures come from the text, the keys from the keys."""
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(parent, name)] for name in KEYS}
        | {name: [dg.TableColumnDep(parent, "text")] for name in FROM_TEXT}
    )


def index_lineage(
    shards: dg.AssetKey, strides: dg.AssetKey, raw: dg.AssetKey, columns: Iterable[str]
) -> dg.TableColumnLineage:
    """Of an index: the passage comes from the strides, columns to filter by from the snapshot, the rest from shards."""
    own = {name: [dg.TableColumnDep(shards, name)] for name in ("id", "text_key", "chunk", "char_start", "char_end")}
    passage = [dg.TableColumnDep(strides, "text"), *own["char_start"], *own["char_end"]]
    others = {name: [dg.TableColumnDep(raw, name)] for name in columns}
    vector = [dg.TableColumnDep(shards, "embedding")]
    return dg.TableColumnLineage({**own, "passage": passage, **others, "vector": vector})


def _columns(names: list[str]) -> list[dg.TableColumn]:
    return [dg.TableColumn(name, TYPES.get(name, "int32"), TEXTS[name]) for name in names]


STRIDE_SCHEMA = dg.TableSchema(_columns(["id", "text_key", "text"]))


def _vector(name: str, dtype: str, dimension: int | None, source: str) -> dg.TableColumn:
    """`dimension`: None where not one row could be embedded."""
    kind = f"{dtype}[{dimension}]" if dimension else f"list<{dtype}>"
    return dg.TableColumn(name, kind, f"Vector by {source}")
