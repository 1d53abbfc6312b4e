"""The check that all shards of a spec are of one embedding space."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_worker.attempt.runner import run_job
from embed_worker.engine.loading import load_model
from embed_worker.lake import layout
from tests.kits import pipelines as kit
from tests.kits.checked import change_manifest, run_shard, shard_view


@pytest.mark.parametrize("changes", [{"pooling": "last"}, {"attention": "causal"}])
def test_a_shard_made_another_way_fails_same_embedding_space(ready: kit.Prepared, changes: dict[str, Any]) -> None:
    """Same folder, same spec id, sound in itself: only the canaries show that its vectors are of another kind."""
    ready.embed(0)
    assert run_shard(shard_view(ready, 0))["same_embedding_space"].passed  # the reference
    impostor = load_model(kit.spec(**changes))
    run_job(ready.job(1), lambda: impostor, threading.Event())
    outcomes = run_shard(shard_view(ready, 1))
    failed = {name for name, outcome in outcomes.items() if not outcome.passed}
    assert failed == {"same_embedding_space"}
    assert "canaries of d-00000" in outcomes["same_embedding_space"].description
    assert outcomes["same_embedding_space"].metadata["worst_cosine"] < 0.999
    assert run_shard(shard_view(ready, 0))["same_embedding_space"].passed, "the reference stays"


def test_the_first_shard_is_the_reference_and_stays_it(ready: kit.Prepared) -> None:
    ready.embed(0)
    ready.embed(1)
    first, second = run_shard(shard_view(ready, 1)), run_shard(shard_view(ready, 0))
    assert first["same_embedding_space"].metadata == {"worst_cosine": pytest.approx(1), "reference": "d-00000"}
    assert second["same_embedding_space"].metadata["reference"] == "d-00000"


def test_a_shard_without_canaries_fails(ready: kit.Prepared) -> None:
    ready.embed(1)
    change_manifest(ready, canaries=None)
    assert "no canary" in run_shard(shard_view(ready))["same_embedding_space"].description


def test_a_damaged_reference_fails_instead_of_passing(ready: kit.Prepared) -> None:
    ready.embed(1)
    assert run_shard(shard_view(ready))["same_embedding_space"].passed
    path = Path(ready.store.path(layout.canaries_file(ready.pipeline.embedding.spec_id)))
    path.write_text("{}")
    assert "cannot be checked" in run_shard(shard_view(ready))["same_embedding_space"].description


def test_a_space_of_another_dimension_fails_both(ready: kit.Prepared) -> None:
    ready.embed(1)
    run_shard(shard_view(ready))
    path = Path(ready.store.path(layout.canaries_file(ready.pipeline.embedding.spec_id)))
    space = json.loads(path.read_text())
    del space["digest"]
    from embed_worker.engine.loading import CANARY_TEXTS
    from embed_worker.lake.manifests import Canaries

    space["canaries"] = Canaries.of(CANARY_TEXTS, np.eye(len(CANARY_TEXTS), 8)).model_dump(mode="json")
    path.write_text(json.dumps(space))
    outcomes = run_shard(shard_view(ready))
    assert not outcomes["dimension"].passed
    assert not outcomes["same_embedding_space"].passed
