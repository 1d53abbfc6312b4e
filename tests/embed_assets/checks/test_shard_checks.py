"""The checks of shards: each finds its damage and says so."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_assets.checks.outcome import run_checks
from embed_assets.checks.shard import SHARD_CHECKS
from embed_worker.attempt.runner import run_job
from embed_worker.engine.loading import load_model
from embed_worker.lake import layout
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.identity import KEY_TYPE
from tests.kits import pipelines as kit
from tests.kits.checked import ROWS, change_manifest, change_shard, column, run_shard, shard_view
from tests.kits.lake.away import AwayStore


@pytest.mark.parametrize("output_dtype", ["float32", "float16"])
@pytest.mark.parametrize("stride", [0, 1])
def test_shard_checks_pass_on_what_the_worker_wrote(tmp_path: Path, lake: Path, output_dtype: str, stride: int) -> None:
    source = kit.write_jsonl(tmp_path / "s.jsonl", ROWS)
    ready = kit.Prepared(lake, str(source), strides=2, embedding=kit.spec(output_dtype=output_dtype, overlap=4))
    manifest = ready.embed(stride)
    outcomes = run_shard(shard_view(ready, stride))
    assert {name: outcome.passed for name, outcome in outcomes.items()} == dict.fromkeys(SHARD_CHECKS, True), outcomes
    assert manifest.windows > manifest.rows_embedded or stride == 0
    assert outcomes["dimension"].metadata == {"dimension": 32, "dtype": output_dtype}


def vectors(table: pa.Table, change: Callable[[np.ndarray], np.ndarray]) -> pa.Table:
    kind = table.schema.field("embedding").type
    flat = table.column("embedding").combine_chunks().flatten().to_numpy().reshape(-1, kind.list_size).copy()
    changed = change(flat)
    flat_type = kind.value_type
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(changed.reshape(-1), flat_type), changed.shape[1])
    return column(table, "embedding", fixed)


def poked(value: float) -> Callable[[pa.Table], pa.Table]:
    def change(array: np.ndarray) -> np.ndarray:
        array[2, 5] = value
        return array

    return lambda table: vectors(table, change)


def zeroed(array: np.ndarray) -> np.ndarray:
    array[3] = 0
    return array


def one_null(table: pa.Table) -> pa.Table:
    values = table.column("embedding").to_pylist()
    values[0] = None
    kind = table.schema.field("embedding").type
    return column(table, "embedding", pa.array(values, pa.list_(kind.value_type, kind.list_size)))


def without_window(table: pa.Table, chunk: int) -> pa.Table:
    """One row has several windows; take one away."""
    long = table.filter(pa.compute.equal(table.column("chunk"), 2)).column("id")[0].as_py()
    keep = [
        not (i == long and c == chunk)
        for i, c in zip(*(table.column(n).to_pylist() for n in ("id", "chunk")), strict=True)
    ]
    return table.filter(pa.array(keep))


def without_row(table: pa.Table) -> pa.Table:
    return table.filter(pa.compute.not_equal(table.column("id"), "3"))


def as_row(table: pa.Table, id_: str) -> pa.Table:
    """The first row under another id."""
    return column(table, "id", pa.array([id_, *table.column("id").to_pylist()[1:]]))


SHARD_DAMAGE: dict[str, tuple[str, Callable[[pa.Table], pa.Table], str]] = {
    "other dimension": ("dimension", lambda t: vectors(t, lambda a: np.ascontiguousarray(a[:, :16])), "float[16], not float[32]"),
    "other type": (
        "dimension",
        lambda t: column(t, "embedding", t.column("embedding").cast(pa.list_(pa.float64(), 32))),
        "double[32], not float[32]",
    ),
    "no fixed size": (
        "dimension",
        lambda t: column(t, "embedding", t.column("embedding").cast(pa.list_(pa.float32()))),
        "not a fixed-size list",
    ),
    "no vectors at all": ("dimension", lambda t: t.drop_columns(["embedding"]), "cannot be checked"),
    "a row too few": ("row_count", without_row, "6 embedded"),
    "a row is missing": ("rows_exact", without_row, "6 rows with digest"),
    "a row is doubled": ("rows_exact", lambda t: pa.concat_tables([t.slice(0, 1), t]), "8 rows with digest"),
    "a row is foreign": ("rows_exact", lambda t: as_row(t, "999"), "7 rows with digest"),
    "right count, wrong rows": ("rows_exact", lambda t: as_row(t, "3"), "7 rows with digest"),
    "another text": (
        "rows_exact", lambda t: column(t, "text_key", pa.array([bytes(16), *t.column("text_key").to_pylist()[1:]], KEY_TYPE)),
        "7 rows with digest",
    ),
    "rows out of order": ("rows_exact", lambda t: pa.concat_tables([t.filter(pa.compute.equal(t.column("id"), i)) for i in reversed(t.column("id").unique().to_pylist())]), "not in ascending order"),
    "first window missing": ("rows_exact", lambda t: without_window(t, 0), "6 rows with digest"),
    "middle window missing": ("rows_exact", lambda t: without_window(t, 1), "windows of a row"),
    "not a number": ("finite_and_normalised", poked(np.nan), "1 of"),
    "infinite": ("finite_and_normalised", poked(np.inf), "1 of"),
    "not of length 1": ("finite_and_normalised", poked(0.9), "1 of"),
    "a zero vector": ("finite_and_normalised", lambda t: vectors(t, zeroed), "1 of"),
    "a null": ("finite_and_normalised", one_null, "1 of"),
}  # fmt: skip


@pytest.mark.parametrize("damage", SHARD_DAMAGE)
def test_shard_checks_fail_on_damage(ready: kit.Prepared, damage: str) -> None:
    name, change, text = SHARD_DAMAGE[damage]
    ready.embed(1)
    change_shard(ready, change)
    outcomes = run_shard(shard_view(ready))
    assert not outcomes[name].passed
    assert text in outcomes[name].description
    assert not outcomes["files_intact"].passed


def test_a_single_flipped_byte_fails_files_intact_alone(ready: kit.Prepared) -> None:
    ready.embed(1)
    path = Path(ready.store.path(f"{ready.job(1).shard.folder}/part-00000.parquet"))
    data = bytearray(path.read_bytes())
    place = (
        data.find(np.float32(0).tobytes()) if False else 4
    )  # after the magic: inside the first page's header or data
    data[place + 40] ^= 1
    path.write_bytes(bytes(data))
    outcome = run_shard(shard_view(ready))["files_intact"]
    assert not outcome.passed
    assert "sha256 differs" in outcome.description


def test_a_cut_or_missing_file_fails(ready: kit.Prepared) -> None:
    ready.embed(1)
    path = Path(ready.store.path(f"{ready.job(1).shard.folder}/part-00000.parquet"))
    path.write_bytes(path.read_bytes()[:-10])
    assert "bytes, its manifest says" in run_shard(shard_view(ready))["files_intact"].description
    path.unlink()
    outcomes = run_shard(shard_view(ready))
    assert "is missing" in outcomes["files_intact"].description
    failed = {name for name, outcome in outcomes.items() if not outcome.passed}
    assert failed == set(SHARD_CHECKS) - {"same_embedding_space"}


def test_a_manifest_that_counts_other_rows_fails_row_count(ready: kit.Prepared) -> None:
    ready.embed(1)
    change_manifest(ready, rows_embedded=6, rows_rejected=1, rejects_by_reason={"no tokens": 1})
    outcome = run_shard(shard_view(ready))["row_count"]
    assert not outcome.passed
    assert "the manifest says (7, 6, 1)" in outcome.description


def test_rows_that_the_worker_rejected_are_counted(ready: kit.Prepared) -> None:
    def refusing() -> Any:
        model = load_model(ready.pipeline.embedding)
        embed, first = model.engine.embed, []

        def refuse_one(source: Any) -> Any:
            for key, vector in embed(source):
                first.append(key)
                yield key, "the engine refuses it" if len(first) == 1 else vector

        model.engine.embed = refuse_one  # type: ignore[method-assign]
        return model

    run_job(ready.job(1), refusing, threading.Event())
    manifest = ready.resource.shard(ready.job(1).shard)
    assert manifest is not None
    assert manifest.rows_rejected == 1
    outcomes = run_shard(shard_view(ready))
    assert all(outcome.passed for outcome in outcomes.values()), outcomes
    path = Path(ready.store.path(f"{ready.job(1).shard.folder}/{layout.REJECTS}"))
    table = pq.read_table(path)
    path.unlink()
    pq.write_table(as_row(table, "999"), path)
    outcomes = run_shard(shard_view(ready))
    assert not outcomes["rows_exact"].passed, "another row is rejected"
    assert not outcomes["files_intact"].passed
    path.unlink()
    assert not run_shard(shard_view(ready))["row_count"].passed


@pytest.mark.parametrize(
    ("reasons", "passed"),
    [
        ({"blank text": 700, "no tokens": 1}, True),
        ({"blank text": 600, "non-finite vector": 6, "engine: too long": 4}, True),
        ({"non-finite vector": 6, "engine: too long": 5}, False),
    ],
)
def test_many_rows_without_a_vector_fail_finite_and_normalised(
    ready: kit.Prepared, reasons: dict[str, int], passed: bool
) -> None:
    """A GPU that gives NaN leaves rejects behind, and vectors that are sound as far as they go."""
    ready.embed(1)
    rejected = sum(reasons.values())
    manifest = ready.resource.shard(ready.job(1).shard)
    assert manifest is not None
    change_manifest(
        ready,
        input={**manifest.input.model_dump(), "rows": 1000},
        rows_in=1000,
        rows_embedded=1000 - rejected,
        rows_rejected=rejected,
        rejects_by_reason=reasons,
    )
    outcome = run_shard(shard_view(ready))["finite_and_normalised"]
    assert outcome.passed is passed
    assert passed or "the engine gave no vector to 11 of 1,000 rows" in outcome.description


def test_a_lake_that_is_away_fails_a_check_unless_it_is_to_be_asked_again(ready: kit.Prepared) -> None:
    ready.embed(1)
    store = AwayStore(ready.store.root)
    view = replace(shard_view(ready), store=store)
    store.away = "part-"
    assert "cannot be reached" in run_checks(SHARD_CHECKS, ["dimension"], view)["dimension"].description
    with pytest.raises(StoreUnavailable):
        run_checks(SHARD_CHECKS, ["dimension"], view, ask_again=True)


def test_only_the_selected_checks_run(ready: kit.Prepared) -> None:
    ready.embed(1)
    assert set(run_checks(SHARD_CHECKS, ["row_count"], shard_view(ready))) == {"row_count"}
