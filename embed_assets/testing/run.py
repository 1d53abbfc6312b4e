"""Runs a pipeline's assets over a few rows, in this process."""

import atexit
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import dagster as dg
import orjson

from embed_assets.graph.keys import VECTOR_INDEX, asset_key
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.graph.public import build_assets
from embed_assets.graph.reading import EmbeddingsIOManager
from embed_assets.reading.lake import Lake
from embed_assets.reading.resource import LakeResource
from embed_assets.settings import Settings
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_assets.spec.given import Given, as_pipeline
from embed_assets.testing.compute import InProcessCompute
from embed_assets.testing.made import Made
from embed_worker.engine.hash import MODEL
from embed_worker.lake.layout import DELTA

Row = Mapping[str, Any]
Rows = Sequence[Row] | Mapping[str, Sequence[Row]]
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def hashed(pipeline: Given, **changes: Any) -> EmbeddingPipeline:
    """The pipeline with the hash engine in place of its model: 32 components, a token a byte. What belongs to the
    model's weights is left out, what belongs to the texts stays. `changes` are fields of the pipeline."""
    pipeline = as_pipeline(pipeline)
    theirs = ("location", "revision", "sha256", "dimensions", "append_token", "trust_remote_code", "hf_overrides")
    kept = pipeline.embedding.model_dump(exclude={"model", "references", "engine", *theirs})
    spec = type(pipeline.embedding)(model=MODEL, **kept)
    return pipeline.model_copy(update={"embedding": spec, **changes})


def materialize(
    pipeline: Given,
    rows: Rows,
    *,
    assets: Iterable[Any] = (),
    resources: Mapping[str, Any] | None = None,
    index: bool = False,
    strides: int | None = None,
    folder: Path | None = None,
    instance: dg.DagsterInstance | None = None,
    raise_on_error: bool = True,
) -> Made:
    """Materializes the assets of a pipeline over `rows`, then `assets` of the test's own, in this process.

    `rows` are records as the source has them, of the only dataset or by the dataset's name; datasets without rows are
    left alone. Vectors come from the hash engine. Without a `folder` the lake lies in a temporary one, which goes with
    the process. The resource `embeddings` is an EmbeddingsIOManager; `resources` come beside it or in its place.
    `index` builds `vector_index` too; `strides` stands in for the datasets' own. The first failure is raised, or ends
    the runs.
    """
    by_dataset = _by_dataset(as_pipeline(pipeline), rows)
    home = (folder or _temporary()).absolute()
    made_of = hashed(pipeline, datasets=_sources(as_pipeline(pipeline), by_dataset, home, strides))
    lake = Lake(str(home / "lake"))
    given = {
        "lake": LakeResource(root=lake.root),
        "compute": InProcessCompute(),
        "embeddings": EmbeddingsIOManager(lake, [made_of]),
        "io_manager": dg.FilesystemIOManager(base_dir=str(home / "values")),
        **(resources or {}),
    }
    ours = build_assets(made_of, Settings(lake=lake.root, max_attempts=1))
    definitions = dg.Definitions(assets=[*ours, *assets], resources=given)
    made = Made(made_of, lake, instance or dg.DagsterInstance.ephemeral(), definitions, list(by_dataset))
    left_out = set() if index else {asset_key(made_of, VECTOR_INDEX)}
    _run_all(made, left_out, raise_on_error)
    return made


def _temporary() -> Path:
    """A folder that outlives the result: a lazy frame of it may be collected later."""
    folder = Path(tempfile.mkdtemp(prefix="embed-testing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _by_dataset(pipeline: EmbeddingPipeline, rows: Rows) -> dict[str, Sequence[Row]]:
    names = [dataset.name for dataset in pipeline.datasets]
    if isinstance(rows, Mapping):
        if strange := sorted(set(rows) - set(names)):
            raise ValueError(f"rows of {', '.join(strange)}: {pipeline.name} has the datasets {', '.join(names)}")
        return {name: rows[name] for name in names if name in rows}
    if len(names) > 1:
        raise ValueError(f"{pipeline.name} has the datasets {', '.join(names)}; give rows={{'{names[0]}': […]}}")
    return {names[0]: rows}


def _sources(
    pipeline: EmbeddingPipeline, rows: Mapping[str, Sequence[Row]], home: Path, strides: int | None
) -> list[DatasetSpec]:
    """The datasets with files of these rows as sources."""
    home.mkdir(parents=True, exist_ok=True)
    found = []
    for dataset in pipeline.datasets:
        path = home / f"{dataset.name}.jsonl"
        path.write_bytes(b"".join(orjson.dumps(dict(row)) + b"\n" for row in rows.get(dataset.name, [])))
        # What is left to the file's name stays so: the rows lie where the user's own pipeline looks for them.
        theirs: dict[str, Any] = {"source": str(path), "storage_options": {}, "compression": "infer"}
        if dataset.format is not None:
            theirs["format"] = "jsonl"
        found.append(dataset.model_copy(update={**theirs, "strides": strides or dataset.strides}))
    return found


def _run_all(made: Made, left_out: set[dg.AssetKey], raise_on_error: bool) -> None:
    job, graph = made.definitions.resolve_implicit_global_asset_job_def(), made.definitions.resolve_asset_graph()
    done = set(left_out)
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if key in done or not node.is_executable or node.is_external:
            continue
        together = [one for one in node.execution_set_asset_keys if one not in left_out]
        done.update(together)
        for first, last in _pieces(made, node):
            run = job.execute_in_process(
                instance=made.instance,
                asset_selection=together,
                raise_on_error=raise_on_error,
                partition_key=first if first == last else None,
                tags={} if first == last else dict(zip(RANGE, (str(first), str(last)), strict=True)),
            )
            made.runs.append(run)
            if not run.success:
                return


def _pieces(made: Made, node: Any) -> list[tuple[str | None, str | None]]:
    """First and last partition of each run: a dataset's neighbours in one where the asset takes a range."""
    definition = node.partitions_def
    if definition is None:
        return [(None, None)]
    strides_of = PipelinePartitions(made.pipeline).strides_of
    known = definition.get_partition_keys()
    absent = strides_of.keys() - set(made.datasets)
    without_rows = absent.union(*(strides_of[name] for name in absent))  # a delta's key is among the strides'
    keys = [key for key in known if key not in without_rows]
    if node.backfill_policy is None:
        return [(key, key) for key in keys]
    dataset = {key: name for name, of in strides_of.items() for key in of}
    stretches = [
        list(found) for _, found in groupby(keys, lambda key: (dataset.get(key, key), key.endswith(f"-{DELTA}")))
    ]
    return [(found[0], found[-1]) for found in stretches]
