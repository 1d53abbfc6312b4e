"""Partitions that fail, each clearly, and the others that stay green."""

from pathlib import Path

import pytest

from embed_worker.engine.hash import byte_tokenizer
from tests.kits.compute.worker_python import worker_python
from tests.kits.graph_bench import RAW, SHARDS, STRIDES, GraphBench

pytestmark = pytest.mark.slow


def test_a_poisoned_partition_fails_after_its_attempts_and_the_others_stay_green(
    bench: GraphBench, tmp_path: Path
) -> None:
    bench.prepare()
    die = "if job.shard.key == 'b-00000': print('out of luck', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    bench.python = worker_python(tmp_path / "python", die)
    run = bench.embed()
    failure = bench.failure(run)
    good = set(bench.partitions()) - {"b-00000"}
    assert set(bench.made(run)) == good
    assert set(bench.checks(run)) == good
    assert bench.instance.get_materialized_partitions(SHARDS) == good
    (record,) = failure.metadata["failed_partitions"].records
    assert record.data["partition"] == "b-00000"
    assert "killed by SIGKILL" in record.data["error"]
    assert "attempts: 2" in record.data["error"]
    assert "out of luck" in failure.metadata["last_log_lines"].value
    assert "out of luck" in bench.log(run)
    bench.python = None
    again = bench.embed()
    assert again.success
    assert {key: data["adopted"] for key, data in bench.made(again).items()} == {
        **dict.fromkeys(good, True),
        "b-00000": False,
    }


def test_a_job_that_no_attempt_can_make_is_refused_at_once(bench: GraphBench) -> None:
    bench.embedding = {"model": "some/model", "location": str(bench.folder / "no-model-here")}
    bench.prepare()
    run = bench.embed()
    failure = bench.failure(run)
    assert set(bench.made(run)) == {"a-delta", "b-delta"}, "which need no job"
    errors = [record.data["error"] for record in failure.metadata["failed_partitions"].records]
    assert len(errors) == 5
    assert all("no model at" in error and "attempts: 1" in error for error in errors)
    assert "no model at" in failure.metadata["last_log_lines"].value


def test_weights_that_are_not_the_pinned_ones_are_refused(bench: GraphBench) -> None:
    model = bench.folder / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    byte_tokenizer().save(str(model / "tokenizer.json"))
    bench.embedding = {"model": "some/model", "location": str(model), "sha256": {"model.safetensors": "0" * 64}}
    bench.prepare()
    failure = bench.failure(bench.run(SHARDS, "a-00000"))
    assert "not the pinned weights" in failure.description


@pytest.mark.parametrize("python", ["/nowhere/bin/python"])
def test_a_missing_worker_environment_is_said_clearly(bench: GraphBench, python: str) -> None:
    bench.prepare()
    bench.python = python
    failure = bench.failure(bench.embed())
    assert "EMBED_WORKER_PYTHON" in failure.description
    assert "make setup" in failure.description


def test_one_bad_dataset_does_not_stop_the_other(bench: GraphBench) -> None:
    bench.sources["a"].write_text("no json\n")
    run = bench.run(RAW, "a", "b-delta")
    assert "all 1 records are unusable (malformed JSON 1)" in bench.failure(run).description
    assert set(bench.made(run)) == {"b", "b-delta"}
    strides = bench.run(STRIDES, bench.partitions()[0], bench.partitions()[-1])
    assert "raw_reviews of a is not in" in bench.failure(strides).description
    assert set(bench.made(strides)) == set(bench.partitions("b"))
    shards = bench.embed()
    assert set(bench.made(shards)) == set(bench.partitions("b"))
    assert {r.data["partition"] for r in bench.failure(shards).metadata["failed_partitions"].records} == set(
        bench.partitions("a")
    )
