"""What a dataset's table tells in the Dagster UI."""

from typing import Any

import dagster as dg

from embed_assets.graph.keys import EMBEDDING_SHARDS, RAW_REVIEWS, STRIDE_PARTITIONS, asset_key
from embed_assets.index.build import Built
from embed_assets.index.search import SearchTable, published, search_table
from embed_assets.spec import EmbeddingPipeline
from embed_assets.tell.lineage import index_lineage, index_schema
from embed_worker.lake import layout
from embed_worker.lake.sets import SetManifest
from resources.lake import Lake

NEAREST = 5
CHARACTERS = 160


def index_metadata(lake: Lake, pipeline: EmbeddingPipeline, found: SetManifest, made: Built) -> dict[str, Any]:
    """Numbers stay numbers: the UI plots them over materializations."""
    record = made.record
    raw, strides, shards = (asset_key(pipeline, name) for name in (RAW_REVIEWS, STRIDE_PARTITIONS, EMBEDDING_SHARDS))
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": record.rows,
        "dagster/uri": lake.url(layout.index_folder(found.spec_id)),
        "dagster/table_name": found.dataset,
        "dagster/column_schema": index_schema(found, pipeline.embedding.model, record.columns),
        "dagster/column_lineage": index_lineage(shards, strides, raw, record.columns),
        "type": "none: every vector is looked at" if record.type == "none" else record.type,
        "recall_at_10": 1.0 if record.recall is None else record.recall,
        "bytes": record.table_bytes,
        "index_bytes": record.index_bytes,
        "unindexed_share": round(record.unindexed / record.rows, 4) if record.rows else 0.0,
        "deleted_share": round(record.deleted / (record.rows + record.deleted), 4) if record.rows else 0.0,
        "added": record.added,
        "removed": record.removed,
        "dimension": found.dimension,
        "seconds": record.seconds,
        "next": f'embed-assets search "…" --dataset {found.dataset}',
        "details": {
            "adopted": not made.created,
            "rebuilt": record.rebuilt,
            "set": found.digest,
            "shards": found.count,
            "spec_id": found.spec_id,
            "digest": record.key,
            "version": record.version,
            "full_text": record.full_text,
            "nprobes": record.nprobes,
            "refine_factor": record.refine_factor,
        },
    }
    table = published(lake, pipeline.embedding, found.dataset)
    if table is not None and record.rows:
        metadata["nearest"] = _nearest(table)
    return metadata


def _nearest(found: SearchTable) -> Any:
    """The rows nearest to the table's first."""
    first = found.table.take_offsets([0]).select(["vector"]).to_list()[0]
    rows = [
        dg.TableRecord({"score": round(hit.score, 4), "id": hit.id, "passage": _short(hit.passage)})
        for hit in search_table(found, first["vector"], NEAREST)
    ]
    columns = [dg.TableColumn("score", "float"), dg.TableColumn("id", "string"), dg.TableColumn("passage", "string")]
    return dg.MetadataValue.table(rows, dg.TableSchema(columns))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
