"""Where weights come from: object-store URLs, fetched once a node, verified, shared."""

import hashlib
import threading
from pathlib import Path

import fsspec
import pytest

from embed_worker.engine.hash import byte_tokenizer
from embed_worker.engine.loading import load_tokenizer
from embed_worker.engine.weights import CACHE, check_weights, model_folder
from embed_worker.errors import BadJob, WorkerError
from tests.kits.attempt.jobs import make_spec


@pytest.fixture
def url(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    fs, root = fsspec.core.url_to_fs(s3_root)
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    fs.put_file(str(tmp_path / "tokenizer.json"), f"{root}/model/tokenizer.json")
    for name, data in {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "1_Pooling/config.json": b"{}",
        "pytorch_model.bin": b"pickled",
        "modeling.py": b"raise SystemExit",
    }.items():
        fs.pipe_file(f"{root}/model/{name}", data)
    return f"{s3_root}/model"


def test_a_model_is_fetched_once_and_without_code_or_pickles(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(model="a/b", location=url, sha256={"model.safetensors": hashlib.sha256(b"weights").hexdigest()})
    folder = model_folder(spec)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]
    check_weights(spec, folder)
    assert load_tokenizer(spec).windows(["one"])[0]
    stamp = (folder / "config.json").stat().st_mtime_ns
    found = []
    threads = [threading.Thread(target=lambda: found.append(model_folder(spec))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [folder] * 4 and (folder / "config.json").stat().st_mtime_ns == stamp


def test_a_model_replaced_at_the_source_is_fetched_anew(url: str) -> None:
    spec = make_spec(model="a/b", location=url)
    before = model_folder(spec)
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/model.safetensors", b"other weights")
    fs.invalidate_cache()
    after = model_folder(spec)
    assert after != before and (after / "model.safetensors").read_bytes() == b"other weights"
    pinned = make_spec(model="a/b", location=url, sha256={"model.safetensors": hashlib.sha256(b"weights").hexdigest()})
    with pytest.raises(BadJob, match="not the pinned weights"):
        check_weights(pinned, after)


SAFETENSORS = b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
SAFETENSORS = len(SAFETENSORS).to_bytes(8, "little") + SAFETENSORS + b"\0" * 8


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (SAFETENSORS[:-1], f"it has {len(SAFETENSORS) - 1} bytes, its header wants {len(SAFETENSORS)}"),
        (SAFETENSORS + b"\0", "cut off or damaged"),
        (SAFETENSORS[:40], "its header"),
        (SAFETENSORS[:3], "its header"),
        (b"", "its header"),
        (b"weights in some other format", "its header"),
        ((2).to_bytes(8, "little") + b"[]", "its header"),
    ],
)
def test_weights_that_are_cut_off_are_named(tmp_path: Path, data: bytes, fault: str) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / "model-00001-of-00002.safetensors"
    path.write_bytes(SAFETENSORS)
    check_weights(make_spec(model="a/b"), tmp_path)
    path.write_bytes(data)
    with pytest.raises(BadJob, match=fault) as told:
        check_weights(make_spec(model="a/b"), tmp_path)
    assert str(path) in str(told.value) and "fetch it again" in str(told.value)


def test_a_fetch_that_broke_off_leaves_no_model(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fs, _ = fsspec.core.url_to_fs(url)
    whole = fs.cat_file

    def cut(source: str, **span: int) -> bytes:
        data: bytes = whole(source, **span)
        return data[:3] if source.endswith(".safetensors") else data

    spec = make_spec(model="a/b", location=url)
    with monkeypatch.context() as patch:
        patch.setattr(fs, "cat_file", cut)  # the one that url_to_fs returns: instances are cached
        with pytest.raises(WorkerError, match="3 of 7 bytes"):
            model_folder(spec)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix == ""]
    assert (model_folder(spec) / "model.safetensors").read_bytes() == b"weights"


def test_what_is_no_model_or_cannot_be_reached(url: str, s3_root: str) -> None:
    with pytest.raises(BadJob, match=r"no config\.json there"):
        model_folder(make_spec(model="a/b", location=f"{s3_root}/nothing"))
    with pytest.raises(WorkerError, match="cannot reach the model at nosuch://x"):
        model_folder(make_spec(model="a/b", location="nosuch://x"))
