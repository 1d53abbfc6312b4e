"""Column schemas and column lineage: where each column of an asset comes from."""

import dagster as dg

from embed_worker.lake.manifests import RawManifest, ShardManifest

TEXTS = {
    "row_id": "Dense number of the row in its snapshot, from 0",
    "id": "The record's own id",
    "text": "The text to embed, made by the pipeline's template",
}
STRIDE_SCHEMA = dg.TableSchema(
    [dg.TableColumn(name, "int64" if name == "row_id" else "string", about) for name, about in TEXTS.items()]
)


def column_schema(raw: RawManifest) -> dg.TableSchema:
    """The columns of a snapshot, over all its parts."""
    others = [dg.TableColumn(name, column.type) for name, column in raw.columns.items()]
    return dg.TableSchema([*STRIDE_SCHEMA.columns, *others])


def same_columns(parent: dg.AssetKey, names: list[str]) -> dg.TableColumnLineage:
    """Columns taken over as they are."""
    return dg.TableColumnLineage({name: [dg.TableColumnDep(parent, name)] for name in names})


def shard_schema(manifest: ShardManifest) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn("row_id", "int64", TEXTS["row_id"]),
            dg.TableColumn("id", "string", TEXTS["id"]),
            dg.TableColumn("chunk", "int32", "Window of the text, from 0"),
            dg.TableColumn("n_tokens", "int32", "Tokens of the window, special tokens included"),
            dg.TableColumn("char_start", "int32", "First character of the window's passage in the text"),
            dg.TableColumn("char_end", "int32", "Character after the passage"),
            dg.TableColumn("embedding", f"{manifest.dtype}[{manifest.dimension}]", f"Vector by {manifest.spec.model}"),
        ]
    )


def shard_lineage(parent: dg.AssetKey) -> dg.TableColumnLineage:
    """The vector and its figures come from the text, the keys from the keys."""
    from_text = ["chunk", "n_tokens", "char_start", "char_end", "embedding"]
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(parent, name)] for name in ("row_id", "id")}
        | {name: [dg.TableColumnDep(parent, "text")] for name in from_text}
    )
