"""An earlier shard that is damaged, forged or deleted gives no wrong vector and fails no job."""

import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_worker.lake import layout
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.manifests import Canaries, ShardManifest, write_manifest
from embed_worker.lake.store import Store
from tests.kits.attempt.histories import MARK, Marked, bases, cut, prove_rows, proved, rows_of, with_bases
from tests.kits.attempt.jobs import manifest_of, run


@pytest.fixture(scope="module")
def base_lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], EmbedJob]:
    lake = tmp_path_factory.mktemp("base")
    rows, old = bases(lake)
    return lake, rows, old


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_damaged_base_never_gives_a_wrong_vector(base_lake: Any, data: st.DataObject) -> None:
    original, rows, _ = base_lake
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        shutil.copytree(original, lake)
        (old,) = cut(str(lake), rows, Partitioning("content", 1), checkpoint_rows=50)
        name = data.draw(st.sampled_from(sorted(p.name for p in (lake / old.shard.folder).iterdir() if p.is_file())))
        path = lake / old.shard.folder / name
        whole = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(whole) - 1) | st.integers(max(0, len(whole) - 3000), len(whole) - 1))
            whole[at] ^= 1 << data.draw(st.integers(0, 7))
        match data.draw(st.sampled_from(["flip", "flip", "flip", "cut", "gone", "empty"])):
            case "flip":
                path.write_bytes(whole)
            case "cut":
                path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
            case "gone":
                path.unlink()
            case "empty":
                path.write_bytes(b"")
        few = data.draw(st.booleans())
        some = {key: text for n, (key, text) in enumerate(rows.items()) if not few or n in (3, 5, 100)} | {"x": "new"}
        (job,) = with_bases(cut(str(lake), some, Partitioning("content", 1)), old)
        run(job)
        proved(job, some, old)


def forge(job: EmbedJob, change: Callable[[ShardManifest], dict[str, Any]]) -> None:
    """Puts a manifest in a shard's place that is sealed, and says something else."""
    store, manifest = Store(job.lake), manifest_of(job)
    store.delete(job.shard.manifest_path)
    assert write_manifest(store, job.shard.manifest_path, manifest.model_copy(update=change(manifest)))


def other_canaries(manifest: ShardManifest) -> dict[str, Any]:
    assert manifest.canaries is not None
    vectors = manifest.canaries.array()[:, ::-1]
    return {"canaries": Canaries.of(["x"], vectors).model_copy(update={"texts_digest": manifest.canaries.texts_digest})}


FORGED: dict[str, Callable[[ShardManifest], dict[str, Any]]] = {
    "canaries of another space": other_canaries,
    "no canaries": lambda manifest: {"canaries": None},
    "another dimension": lambda manifest: {"dimension": 16},
    "another size": lambda manifest: {"files": [f.model_copy(update={"bytes": f.bytes + 1}) for f in manifest.files]},
    "another digest": lambda manifest: {"files": [f.model_copy(update={"sha256": "0" * 64}) for f in manifest.files]},
    "other rows": lambda manifest: {"files": [f.model_copy(update={"rows": f.rows + 1}) for f in manifest.files]},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_base_that_is_not_what_it_says_is_not_used_and_the_log_says_why(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, old = bases(tmp_path, 20)
    (second,) = cut(str(tmp_path), rows, Partitioning("content", 2), dataset="other")[:1]
    run(second)
    forge(old, FORGED[name])
    (job,) = with_bases(cut(str(tmp_path), rows | {"x": "new"}, Partitioning("content", 1)), old, second)
    run(job)
    prove_rows(job, rows_of(job, rows | {"x": "new"}))
    assert [one.folder for one in manifest_of(job).reused] == [second.shard.folder], "the next one is tried"
    assert f"nothing is reused from {Store(job.lake).url(old.shard.folder)}: " in caplog.text
    assert list(manifest_of(job).unusable) == [old.shard.folder]


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_without_the_spaces_canaries_nothing_is_reused(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, old = bases(tmp_path, 20)
    space = tmp_path / layout.canaries_file(old.shard.spec_id)
    space.unlink() if damage == "missing" else space.write_bytes(space.read_bytes().replace(b'"made_by"', b'"made_bi"'))
    (job,) = with_bases(cut(str(tmp_path), rows | {"x": "new"}, Partitioning("content", 1)), old)
    run(job)
    assert not manifest_of(job).reused and "nothing is reused" in caplog.text
    assert list(manifest_of(job).unusable) == [layout.canaries_file(old.shard.spec_id)]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 12), st.booleans())
def test_a_base_may_go_away_while_it_is_read(base_lake: Any, after: int, made_anew: bool) -> None:
    original, rows, _ = base_lake
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        lake = Path(folder) / "lake"
        shutil.copytree(original, lake)
        (old,) = cut(str(lake), rows, Partitioning("content", 1), checkpoint_rows=50)
        some = rows | {"x": "new"}
        (job,) = with_bases(cut(str(lake), some, Partitioning("content", 1)), old)
        calls = itertools.count()
        for name in ("open", "read", "listing"):
            real = getattr(Store, name)

            def call(store: Store, path: str, *rest: Any, _real: Any = real, **options: Any) -> Any:
                if path.startswith(old.shard.folder) and next(calls) == after:
                    shutil.rmtree(lake / old.shard.folder)
                    if made_anew:
                        run(old, Marked(old.spec, MARK))
                return _real(store, path, *rest, **options)

            patch.setattr(Store, name, call)
        run(job)
        patch.undo()
        proved(job, some, old)
