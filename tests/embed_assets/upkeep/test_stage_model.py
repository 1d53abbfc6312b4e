"""A model is put into the lake once, in the spec's dtype; nodes fetch it from there and find what the pins say."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from embed_assets.cli.app import app
from embed_assets.upkeep.stage_model import NotStaged, stage_model
from embed_assets.upkeep.tensors import cast, convert, tensors_of
from embed_worker.engine import weights
from embed_worker.engine.weights import check_weights, check_whole, model_folder
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store

RNG = np.random.default_rng(7)
TENSORS = {
    "model.embed_tokens.weight": RNG.normal(size=(40, 8)).astype("<f4"),
    "model.layers.0.weight": RNG.normal(size=(8, 8)).astype("<f4"),
    "model.position_ids": np.arange(12, dtype="<i8"),
    "lm_head.weight": RNG.normal(size=(40, 8)).astype("<f4"),
}
KINDS = {"<f4": "F32", "<i8": "I64"}


def write(path: Path, tensors: dict[str, Any]) -> None:
    header, data = {}, b""
    for name, value in tensors.items():
        raw = value.tobytes()
        header[name] = {
            "dtype": KINDS[value.dtype.str], "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]
        }  # fmt: skip
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def spec(**changes: Any) -> EmbeddingSpec:
    values = {"model": "org/Tiny-Embed", "pooling": "last", "attention": "causal", "dtype": "bfloat16"}
    return EmbeddingSpec(**{**values, **changes})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two shards with an index, a tokenizer, a pooling module, and what is left behind."""
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "onnx").mkdir()
    names = list(TENSORS)
    write(folder / "model-00001-of-00002.safetensors", {name: TENSORS[name] for name in names[:2]})
    write(folder / "model-00002-of-00002.safetensors", {name: TENSORS[name] for name in names[2:]})
    weight_map = {name: f"model-0000{1 + i // 2}-of-00002.safetensors" for i, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for name in ("config.json", "tokenizer.json", "1_Pooling/config.json", "onnx/config.json"):
        (folder / name).write_text(json.dumps({"file": name}))
    (folder / "modeling.py").write_text("raise SystemExit")
    return folder


def test_nodes_fetch_what_was_staged(lake: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "PIECE", 100)
    staged = stage_model(Store(str(lake)), spec(), model)
    pinned = spec(location=f"file://{staged.location}", sha256=staged.sha256)
    folder = model_folder(pinned)
    check_weights(pinned, folder)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "1_Pooling/config.json", "config.json", "tokenizer.json", "model.safetensors.index.json", *staged.sha256
    }  # fmt: skip
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(TENSORS) - {"lm_head.weight"}
    assert staged.bytes_after < staged.bytes_before / 2
    for file in staged.sha256:
        check_whole(folder / file)
        tensors, start = tensors_of(folder / file)
        for tensor in tensors:
            raw = (folder / file).read_bytes()[start + tensor.begin : start + tensor.end]
            want = TENSORS[tensor.name]
            if tensor.dtype == "I64":
                assert raw == want.tobytes()
            else:
                assert tensor.dtype == "BF16" and raw == cast(want.tobytes(), "F32", "BF16")
            assert tensor.shape == list(want.shape) and index["weight_map"][tensor.name] == file
    assert index["metadata"]["total_size"] == 2 * (40 * 8 + 64) + 12 * 8


def test_staging_again_changes_nothing_and_other_content_is_refused(lake: Path, model: Path) -> None:
    store = Store(str(lake))
    told: list[str] = []
    first = stage_model(store, spec(), model)
    assert stage_model(store, spec(), model, told.append) == first
    assert sum("there already" in line for line in told) == 6
    write(model / "model-00001-of-00002.safetensors", {"model.layers.0.weight": TENSORS["model.layers.0.weight"] + 1})
    with pytest.raises(NotStaged, match=r"model-00001-of-00002.safetensors is there with other content: delete"):
        stage_model(store, spec(), model)


def test_a_folder_without_a_model_and_a_file_that_is_cut_off(lake: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(NotStaged, match="holds no model"):
        stage_model(Store(str(lake)), spec(), tmp_path)
    file = model / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(NotStaged, match=r"00002.safetensors is cut off"):
        stage_model(Store(str(lake)), spec(), model)


def nearest(value: float) -> int:
    """The bfloat16 next to a float32, ties to even: by looking at both neighbours."""
    bits = int(np.float32(value).view(np.uint32))
    low = bits >> 16
    places = {one: float(np.uint32(one << 16).view(np.float32)) for one in (low, low + 1)}
    below, above = abs(places[low] - value), abs(places[low + 1] - value)
    if math.isinf(places[low + 1]) and not math.isinf(value):
        above = 2.0**128 - abs(value)  # what would follow the largest
    if below == above:
        return low if low % 2 == 0 else low + 1
    return low if below < above else low + 1


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
def test_bfloat16_is_the_nearest_ties_to_even(values: list[float]) -> None:
    got = np.frombuffer(cast(np.array(values, "<f4").tobytes(), "F32", "BF16"), "<u2")
    finite = [(g, v) for g, v in zip(got.tolist(), values, strict=True) if not math.isinf(v)]
    assert [g for g, _ in finite] == [nearest(v) for _, v in finite]
    assert all(g in (0x7F80, 0xFF80) for g, v in zip(got.tolist(), values, strict=True) if math.isinf(v))


@given(st.lists(st.floats(width=16, allow_nan=False), min_size=1, max_size=50))
def test_what_fits_comes_back_as_it_was(values: list[float]) -> None:
    wide = np.array(values, "<f4")
    assert cast(cast(wide.tobytes(), "F32", "F16"), "F16", "F32") == wide.tobytes()
    short = cast(wide.tobytes(), "F32", "BF16")
    assert cast(cast(short, "BF16", "F32"), "F32", "BF16") == short
    nan = cast(np.array([np.nan], "<f4").tobytes(), "F32", "BF16")
    assert np.isnan(np.frombuffer(cast(nan, "BF16", "F32"), "<f4"))[0]


def test_a_file_of_nothing_that_is_used_is_left_out(lake: Path, model: Path) -> None:
    write(model / "model-00003-of-00003.safetensors", {"lm_head.weight": TENSORS["lm_head.weight"]})
    assert sorted(stage_model(Store(str(lake)), spec(), model).sha256) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    ]  # fmt: skip
    assert convert(model / "model-00003-of-00003.safetensors", model / "x", "bfloat16") == {}


def test_the_command_tells_what_to_write(
    lake: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBED_LAKE", str(lake))
    monkeypatch.setenv("EMBED_PIPELINES", "pipelines/amazon_books.yaml")
    done = CliRunner().invoke(app, ["stage-model", "--from", str(tmp_path / "nothing-here")])
    assert done.exit_code == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    done = CliRunner().invoke(app, ["stage-model", "--from", str(empty)])
    assert done.exit_code == 2 and "holds no model" in done.output
    done = CliRunner().invoke(app, ["stage-model", "--from", str(model)])
    assert done.exit_code == 0, done.output
    assert "location:" in done.output and "models/gte-qwen2-7b-instruct-" in done.output and "sha256" in done.output
