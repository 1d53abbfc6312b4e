"""The plan's parts: samples, counts, speeds, prices; and the command as a person calls it."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from embed_assets.cli.app import app
from embed_assets.estimate import sample as sampling
from embed_assets.estimate import speed
from embed_assets.estimate.build import accelerators_of, make_plan, quotes_for
from embed_assets.estimate.figures import Figure, How
from embed_assets.estimate.model import describe
from embed_assets.estimate.sample import sample_snapshot, sample_source
from embed_assets.estimate.show import as_markdown, as_metadata, number
from embed_assets.estimate.tokens import count, find_tokenizer, guess, parameters_in_name, stated
from embed_assets.spec.pipeline import HourlyPrice, PlanAssumptions
from embed_worker.engine.hash import byte_tokenizer
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.lake.attempts import Hardware
from embed_worker.lake.figures import figures_of
from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from resources.lake import Lake
from resources.skypilot.prices import Quote, wanted
from resources.skypilot.settings import SkyPilotFields
from tests.kits import pipelines as kit

BYTES_OF = [len(record["text"].encode()) + 2 for record in kit.texts(20)]
"""Tokens of each of the source's rows for the hash engine: its bytes, [CLS] and [SEP]."""


def free(names: Sequence[str]) -> dict[str, Quote]:
    return dict.fromkeys(names, Quote(None, None, reason="no price list"))


def plan_of(lake: Path, source: Path, **changes: Any) -> Any:
    assumptions = PlanAssumptions(**{"tokens_per_second": {"L4": 10.0}, **changes})
    pipeline = kit.pipeline([kit.dataset(str(source))], plan=assumptions)
    return make_plan(Lake(root=str(lake)), pipeline, pipeline.datasets[0], ["L4"], free)


def test_before_and_after_ingest_the_plan_counts_the_same_tokens(lake: Path, source: Path, store: Store) -> None:
    before = plan_of(lake, source)
    ingest(store, kit.dataset(str(source)))
    after = plan_of(lake, source)
    for plan in (before, after):
        assert plan.todo.rows == Figure.exact(20, How.MEASURED)
        assert plan.todo.tokens.value == pytest.approx(sum(BYTES_OF))
        assert plan.counts.tokens_per_row.how is How.MEASURED and not plan.counts.tokens_per_row.is_range
    assert "of the source's 20 rows" in before.counts.how and "of the snapshot's 20 rows" in after.counts.how


def test_the_plan_agrees_with_what_the_worker_then_counts(lake: Path, tmp_path: Path) -> None:
    records = [*kit.texts(40), {"text": "long " * 60}, {"text": "text number 1, word "}]
    source = kit.write_jsonl(tmp_path / "some.jsonl", records)
    planned = plan_of(lake, source)
    prepared = kit.Prepared(lake, str(source))
    made = [prepared.embed(stride) for stride in range(3)]
    assert planned.todo.tokens.value == pytest.approx(sum(m.tokens for m in made))
    assert planned.todo.windows.value == pytest.approx(sum(m.windows for m in made))
    assert planned.todo.rows.value == sum(m.rows_in for m in made)


def test_committed_shards_give_the_measured_speed(lake: Path, source: Path) -> None:
    prepared = kit.Prepared(lake, str(source))
    manifest = prepared.embed(0)
    plan = make_plan(prepared.resource, prepared.pipeline, prepared.dataset, [], free)
    (offer,) = plan.offers
    assert offer.accelerator == speed.CPU and offer.tokens_per_second.how is How.MEASURED
    assert offer.tokens_per_second.value == pytest.approx(figures_of(manifest).tokens_per_second)
    assert any("measured speeds: of 1 committed shards" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("gpus", "name"),
    [
        ([], "cpu"),
        (["NVIDIA L4"], "L4"),
        (["NVIDIA A10G"], "A10G"),
        (["NVIDIA L40S"], "L40S"),
        (["NVIDIA A100-SXM4-40GB"], "A100"),
        (["NVIDIA A100-SXM4-80GB"] * 2, "A100-80GB:2"),
        (["NVIDIA H100 80GB HBM3"], "H100"),
        (["Grace Hopper"], "Grace Hopper"),
    ],
)
def test_a_shard_names_its_accelerator_as_skypilot_does(lake: Path, source: Path, gpus: list[str], name: str) -> None:
    manifest = kit.Prepared(lake, str(source)).embed(0)
    assert speed.accelerator_of(manifest.model_copy(update={"hardware": Hardware(gpus=gpus)})) == name


def test_the_sample_of_a_big_snapshot_is_random_and_always_the_same(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.writers.BATCH_ROWS", 50)
    monkeypatch.setattr("embed_worker.steps.fast.block.BLOCK_BYTES", 16)  # a row
    monkeypatch.setattr(sampling, "GROUPS", 6)
    records = [{"text": "x" * (10 + i // 50)} for i in range(1000)]  # a row group's texts are alike
    raw = ingest(store, kit.dataset(str(kit.write_jsonl(tmp_path / "big.jsonl", records)))).manifest
    sample = sample_snapshot(store, raw, 100)
    assert sample == sample_snapshot(store, raw, 100)
    assert (len(sample.texts), len(set(sample.clusters)), sample.whole) == (100, 6, False)
    assert "from 6 of 20 row groups" in sample.origin
    spec = kit.spec()
    found = count(sample, TextTokenizer(byte_tokenizer(), spec), spec, 1000).tokens_per_row
    true = float(np.mean([len(record["text"]) + 2 for record in records]))
    assert found.low <= true <= found.high
    alone = np.std([len(text) for text in sample.texts]) / math.sqrt(100)
    assert (found.high - found.low) / 2 > 1.96 * 1.5 * alone, "rows of one group are no independent draws"


def test_the_head_of_a_source_projects_its_rows_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "HEAD_BYTES", 4 << 20)
    records = [{"text": "y" * (50 + i % 100), "kind": i % 4} for i in range(80_000)]
    path = kit.write_jsonl(tmp_path / "big.jsonl", records)
    sample = sample_source(kit.dataset(str(path), where={"kind": [0, 1]}), 500, None)
    assert not sample.random and not sample.whole and len(sample.texts) == 500
    assert sample.rows.how is How.SAMPLED and sample.rows.low <= 40_000 <= sample.rows.high
    assert sample.rows.high < 1.6 * sample.rows.low
    assert sample_source(kit.dataset(str(path)), 500, 77).rows == Figure.exact(77, How.STATED)
    spec = kit.spec()
    mean = count(sample, TextTokenizer(byte_tokenizer(), spec), spec, 1000).tokens_per_row
    assert (mean.high - mean.low) / 2 > 0.25 * mean.value, "a head is no random sample"


def test_rows_and_range_and_unusable_records_of_the_head(tmp_path: Path) -> None:
    records = [{"text": "a"}, {"text": " "}, "not a record", {"text": "b"}, {"text": "c"}, {"text": "d"}]
    path = kit.write_jsonl(tmp_path / "odd.jsonl", records)
    assert sample_source(kit.dataset(str(path)), 10, None).texts == ["a", "b", "c", "d"]
    ranged = sample_source(kit.dataset(str(path), rows={"start": 1, "end": 4}), 10, None)
    assert ranged.texts == ["b", "c"] and ranged.rows.value == 2


def test_duplicates_are_those_that_a_checkpoint_sees() -> None:
    texts = ["same", "same", "other", "same"]
    sample = sampling.Sample(texts, [0, 1, 2, 3], Figure.exact(4, How.MEASURED), "", random=True, whole=True)
    spec = kit.spec()
    tokenizer = TextTokenizer(byte_tokenizer(), spec)
    assert count(sample, tokenizer, spec, 4).duplicates == 0.5
    assert count(sample, tokenizer, spec, 2).duplicates == 0.25


def test_without_a_tokenizer_the_lengths_guess_and_the_range_holds_the_truth() -> None:
    texts = [record["text"] for record in kit.texts(20)]
    sample = sampling.Sample(texts, list(range(20)), Figure.exact(20, How.MEASURED), "here", random=True, whole=True)
    counts = guess(sample, kit.spec())
    assert counts.tokens_per_row.how is How.ASSUMED and counts.duplicates is None
    mean = float(np.mean([len(text) for text in texts]))
    assert counts.tokens_per_row.low < mean / 4 + 2 < counts.tokens_per_row.high
    assert "characters a token are assumed" in counts.how


def test_a_tokenizer_that_is_named_but_not_there_is_an_error(tmp_path: Path, source: Path) -> None:
    pipeline = kit.pipeline(
        [kit.dataset(str(source))],
        embedding=kit.spec(model="some/model-7B", location=str(tmp_path)),
        plan=PlanAssumptions(tokenizer=str(tmp_path / "tokenizer.json")),
    )
    with pytest.raises(ValueError, match=r"plan\.tokenizer: there is no file .*tokenizer\.json"):
        find_tokenizer(pipeline)
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert find_tokenizer(pipeline)[1].endswith("tokenizer.json")
    without = pipeline.model_copy(update={"plan": PlanAssumptions(), "embedding": kit.spec(model="some/model-7B")})
    assert find_tokenizer(without)[0] is None


def test_stated_figures_need_neither_source_nor_tokenizer(lake: Path, tmp_path: Path) -> None:
    plan = plan_of(lake, tmp_path / "not there.jsonl", rows=1000, tokens_per_row=50.0)
    assert plan.todo.tokens == Figure.exact(50_000, How.STATED)
    assert plan.offers[0].engine_hours.value == pytest.approx(50_000 / 10 / 3600)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Alibaba-NLP/gte-Qwen2-7B-instruct", 7e9),
        ("Qwen/Qwen3-Embedding-0.6B", 0.6e9),
        ("a/b-335M", 335e6),
        ("sentence-transformers/all-MiniLM-L6-v2", None),
        ("org-7B/base", None),
    ],
)
def test_parameters_in_a_name(name: str, parameters: float | None) -> None:
    assert parameters_in_name(name) == parameters


def test_the_weights_headers_give_the_parameters(tmp_path: Path, source: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "embeddings.word_embeddings.weight": {"dtype": "F32", "shape": [1000, 8], "data_offsets": [0, 32000]},
        "layer.0.weight": {"dtype": "F32", "shape": [8, 16], "data_offsets": [32000, 32512]},
        "layer.0.bias": {"dtype": "F32", "shape": [16], "data_offsets": [32512, 32576]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 32576)
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}))
    pipeline = kit.pipeline([kit.dataset(str(source))], embedding=kit.spec(model="x/y", location=str(tmp_path)))
    model = describe(pipeline)
    assert model.parameters == Figure.exact(8 * 16 + 16, How.MEASURED)
    assert model.dimension == 8 and model.weight_bytes == 32576 + 8 + len(text)


def test_an_assumed_speed_is_a_share_of_peak_flops() -> None:
    rate = speed.assumed("L4:2", Figure.exact(7e9, How.STATED))
    assert rate is not None and rate.how is How.ASSUMED
    assert rate.value == pytest.approx(2 * 121e12 * 0.30 / (2 * 7e9))
    assert speed.assumed("TPU", Figure.exact(7e9, How.STATED)) is None
    assert speed.assumed("L4", None) is None


def test_prices_of_the_pipeline_win_and_the_rest_is_unknown(source: Path) -> None:
    pipeline = kit.pipeline(
        [kit.dataset(str(source))],
        plan=PlanAssumptions(usd_per_hour={"L4": HourlyPrice(spot=0.3)}, tokens_per_second={"X9": 5.0}),
    )
    quotes = quotes_for(pipeline, SkyPilotFields(), catalog=False)(["L4", "H100", "cpu"])
    assert (quotes["L4"].spot, quotes["L4"].on_demand) == (0.3, None)
    assert quotes["H100"].spot is None and "not asked for" in quotes["H100"].reason
    names = accelerators_of(pipeline, SkyPilotFields(), "skypilot")
    assert names == ["X9", "L4", "A10G", "L40S", "A100", "A100-80GB", "H100"]


def test_what_the_deployments_task_asks_for() -> None:
    assert [(one.accelerator, one.spot) for one in wanted(SkyPilotFields(accelerators="L4:1, H100:2"))] == [
        ("L4", True), ("H100:2", True),
    ]  # fmt: skip
    assert [one.spot for one in wanted(SkyPilotFields(use_spot=False))] == [False] * 6
    assert wanted(SkyPilotFields(accelerators="none")) == []


def test_unknown_is_said_and_never_zero(lake: Path, source: Path) -> None:
    plan = plan_of(lake, source)
    metadata = as_metadata(plan)
    assert metadata["plan_usd"] == "unknown: no price list"
    assert "| unknown | unknown |" in as_markdown(plan) and "$0" not in as_markdown(plan)
    assert plan.best is not None and plan.best.spot_usd is None


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.0123"), (12, "12"), (9_999, "9,999"), (29.5e6, "29.5 M"), (2.95e9, "2.95 G")]
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert number(value) == text


def pipeline_yaml(folder: Path, source: Path, **keys: Any) -> Path:
    path = folder / "p.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "p",
                "datasets": [{"name": "d", "source": str(source), "text": "{text}", "strides": 3}],
                "embedding": kit.HASH,
                **keys,
            }
        )
    )
    return path


def test_the_command_prints_tables_json_and_the_budgets_verdict(
    tmp_path: Path, lake: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"budget_usd": 1.0, "plan": {"usd_per_hour": {"L4": {"spot": 0.5, "on_demand": 1.0}}}}
    monkeypatch.setenv("EMBED_PIPELINES", str(pipeline_yaml(tmp_path, source, **keys)))
    monkeypatch.setenv("EMBED_LAKE", str(lake))
    arguments = ["plan", "--no-prices", "--accelerators", "L4", "--tokens-per-second", "L4=100"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "budget_usd 1.00: within it" in shown.output
    assert "above it" in CliRunner().invoke(app, [*arguments, "--rows", "100000"]).output
    assert "wall time on L4" in shown.output and "how known" in shown.output
    (value,) = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert value["todo"]["tokens"]["value"] == pytest.approx(sum(BYTES_OF))
    assert value["best"] == "L4" and value["offers"][0]["spot"] == 0.5
    told = CliRunner().invoke(app, ["plan", "--tokens-per-second", "L4"])
    assert told.exit_code == 2
    assert "write it as L4=2000" in told.output + told.stderr


def test_stated_windows_are_at_least_one_a_row() -> None:
    assert stated(10.0, kit.spec()).windows_per_row.value == 1
    assert stated(640.0, kit.spec()).windows_per_row.value == 10
    assert stated(640.0, kit.spec(long_texts="truncate")).windows_per_row.value == 1
