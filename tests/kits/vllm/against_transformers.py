"""Runs in the worker's environment: real vLLM against transformers. Prints one JSON object of figures.

`python vllm_script.py MINILM WORK`: the folder with all-MiniLM-L6-v2, and an empty folder to work in.
"""

import gc
import json
import os
import shutil
import sys
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

from embed_worker.attempt.runner import run_job  # noqa: E402
from embed_worker.engine.base import Engine, ListSource, RequestSource, Result, embed_list  # noqa: E402
from embed_worker.engine.loading import LoadedModel, load_model  # noqa: E402
from embed_worker.engine.vllm import prepare_environment  # noqa: E402
from embed_worker.errors import BadJob, Preempted  # noqa: E402
from embed_worker.lake import files  # noqa: E402
from embed_worker.lake.job import EmbedJob  # noqa: E402
from embed_worker.lake.layout import ShardId  # noqa: E402
from embed_worker.lake.manifests import InputRef, ShardManifest, read_manifest  # noqa: E402
from embed_worker.lake.spec import EmbeddingSpec  # noqa: E402
from embed_worker.lake.store import Store  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "attempt"))  # as a file: the package needs pytest, which is not here
from jobs import FOLDER, PARTITIONING, input_table, write_slices  # type: ignore[import-not-found]  # noqa: E402

prepare_environment()
import torch  # noqa: E402
from transformers import AutoModel, Qwen2Config, Qwen2Model  # noqa: E402

WORDS = [
    "the",
    "film",
    "a",
    "long",
    "story",
    "of",
    "memory",
    "and",
    "loss",
    "told",
    "with",
    "wit",
    "but",
    "without",
    "hurry",
    "Größe",
    "naïveté",
    "東京",
    "violin",
    "camera",
    "light",
    "never",
    "always",
    "review",
    "director",
    "actor",
    "scene",
    "night",
    "river",
    "train",
    "sister",
    "money",
    "letter",
    "silence",
    "music",
    "1999",
    "3.5",
    "stars",
]
ROWS = 50


def texts() -> list[str]:
    chooser = np.random.default_rng(7)
    made = [" ".join(chooser.choice(WORDS, size=int(chooser.integers(1, 60)))) + "." for _ in range(ROWS - 2)]
    return ["Short.", *made, " ".join(chooser.choice(WORDS, size=700))]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def run_texts(lake: Path, spec: EmbeddingSpec, model: LoadedModel) -> tuple[ShardManifest, list[dict[str, Any]]]:
    """A whole job over the texts: stopped in its middle first, so that the engine drops what it has in flight."""
    store = Store(str(lake))
    rows = texts()
    spans, digest = write_slices(store, FOLDER, input_table(rows))
    job = EmbedJob(
        pipeline="t",
        shard=ShardId.of("t", spec.spec_id, PARTITIONING, 3, digest),
        lake=str(lake),
        input=InputRef(path=FOLDER, digest=digest, rows=len(rows)),
        spans=spans,
        spec=spec,
        checkpoint_rows=8,
    )
    stop = threading.Event()
    stop.set()
    try:
        run_job(job, lambda: model, stop)
        raise AssertionError("not stopped")
    except Preempted:
        pass
    assert run_job(job, lambda: model, threading.Event())
    manifest = read_manifest(store, job.shard.manifest_path, ShardManifest)
    assert manifest is not None
    tables = [pq.read_table(files.fetch(store, job.shard.folder, f, lake)) for f in manifest.files]
    return manifest, pa.concat_tables([t.replace_schema_metadata(None) for t in tables]).to_pylist()


class Spoiling:
    """An engine that gives the first and the last checkpoint no vectors; the canaries among them come out right."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.dimension, self.clock, self.versions = engine.dimension, engine.clock, engine.versions

    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        for key, vector in self._engine.embed(source):
            spoilt = key[0] in (0, (ROWS - 1) // 8) and not isinstance(source, ListSource)
            yield key, vector * np.nan if spoilt else vector


def minilm(folder: Path, work: Path) -> dict[str, Any]:
    spec = EmbeddingSpec(
        model="sentence-transformers/all-MiniLM-L6-v2",
        location=str(folder),
        pooling="mean",
        attention="bidirectional",
        dtype="float32",
        max_tokens=256,
        overlap=32,
    )
    model = load_model(spec)
    manifest, rows = run_texts(work / "minilm", spec, model)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    reference = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    expected, by_row, first = [], dict.fromkeys(range(ROWS), 0), dict[int, Any]()
    sources = texts()
    for row in rows:
        number = (int(row["id"].removeprefix("id-")) - 3) // 10
        by_row[number] += 1
        first.setdefault(number, row["embedding"])
        # The passage alone gives the window's tokens, cut as the reference would see them.
        passage = sources[number][row["char_start"] : row["char_end"]]
        ids = tokenizer.encode(passage).ids
        assert len(ids) == row["n_tokens"] or row["chunk"], (len(ids), row)
        with torch.no_grad():
            hidden = reference(input_ids=torch.tensor([ids])).last_hidden_state[0]
        expected.append(torch.nn.functional.normalize(hidden.mean(dim=0), dim=0).numpy())
    vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
    same = cosines(vectors, np.array(expected))
    lengths = [row["n_tokens"] for row in rows]
    try:
        too_long = embed_list(model.engine, [(101, *[1996] * 400, 102)]).shape
    except ValueError as error:
        too_long = str(error)
    # What an aborted call left must not show in the next one.
    broken = model.engine.embed(ListSource([(101, 2000 + i, 102) for i in range(40)]))
    next(broken)
    broken.close()
    again = embed_list(model.engine, [tokenizer.encode(t).ids for t in sources[:5]])
    spoilt, _ = run_texts(work / "spoilt", spec, replace(model, engine=Spoiling(model.engine)))
    return {
        "spoilt": spoilt.rejects_by_reason,
        "cosine": float(same.min()),
        "norm_error": float(np.abs(np.linalg.norm(vectors, axis=1) - 1).max()),
        "rows": len(by_row),
        "rows_missing": [number for number, count in by_row.items() if not count],
        "windows_of_the_long_text": by_row[ROWS - 1],
        "longest": max(lengths),
        "engine": manifest.engine,
        "too_long": str(too_long),
        "after_abort": float(cosines(again, np.array([first[number] for number in range(5)])).min()),
    }


def make_qwen(folder: Path) -> None:
    """gte-Qwen2 in miniature, with random weights: its config says nothing of attention, as the real one."""
    torch.manual_seed(3)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    config = Qwen2Config(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        initializer_range=0.3,
        architectures=["Qwen2Model"],
        dtype="float32",
        eos_token_id=0,
        bos_token_id=0,
        pad_token_id=0,
    )
    Qwen2Model(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})
    )
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))


def qwen_spec(folder: Path, **changes: Any) -> EmbeddingSpec:
    values: dict[str, Any] = {
        "model": "tiny/gte-qwen2",
        "location": str(folder),
        "pooling": "last",
        "attention": "bidirectional",
        "dtype": "float32",
        "max_tokens": 128,
        "append_token": "<|endoftext|>",
    }
    return EmbeddingSpec.model_validate({**values, **changes})


def qwen(folder: Path, attention: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Vectors by the worker and by transformers of the same ids, and the worker's attention in its own words."""
    model = load_model(qwen_spec(folder, attention=attention))
    sequences = [w[0].ids for w in model.tokenizer.windows(texts())]
    assert all(ids[-1] == 0 for ids in sequences)
    vectors = embed_list(model.engine, sequences)
    reference = Qwen2Model.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    expected = []
    for ids in sequences:
        mask = None
        if attention == "bidirectional":
            mask = torch.zeros(1, 1, len(ids), len(ids))  # added to the scores: nothing is hidden
        with torch.no_grad():
            hidden = reference(input_ids=torch.tensor([ids]), attention_mask=mask).last_hidden_state[0]
        expected.append(torch.nn.functional.normalize(hidden[-1], dim=0).numpy())
    return vectors, np.array(expected), str(model.engine.versions()["device"])


def refusal(spec: EmbeddingSpec) -> str:
    try:
        load_model(spec)
    except BadJob as error:
        return str(error)
    return "accepted"


def main() -> None:
    minilm_folder, work = Path(sys.argv[1]), Path(sys.argv[2])
    figures: dict[str, Any] = {"minilm": minilm(minilm_folder, work)}
    gc.collect()
    folder = work / "qwen"
    folder.mkdir()
    make_qwen(folder)
    both, expected_both, _ = qwen(folder, "bidirectional")
    gc.collect()
    causal, expected_causal, _ = qwen(folder, "causal")
    gc.collect()
    figures["qwen"] = {
        "bidirectional": float(cosines(both, expected_both).min()),
        "causal": float(cosines(causal, expected_causal).min()),
        "between": float(cosines(both, causal).min()),
    }
    bert = {"model": "a/b", "location": str(minilm_folder), "dtype": "float32", "max_tokens": 64}
    figures["refusals"] = {
        "attention": refusal(EmbeddingSpec(pooling="mean", attention="causal", **bert)),
        "pooling": refusal(EmbeddingSpec(pooling="last", attention="bidirectional", **bert)),
        "argument": refusal(qwen_spec(folder, engine={"no_such_argument": 1})),
        "raw": float(np.linalg.norm(_raw(folder))),
        "dimensions": refusal(qwen_spec(folder, dimensions=32)),
    }
    figures["matryoshka"] = matryoshka(folder, both)
    answers.write(json.dumps(figures))
    answers.flush()
    os._exit(0)  # as the worker ends: vLLM's threads need no farewell


def matryoshka(folder: Path, whole: np.ndarray) -> dict[str, Any]:
    """The same model, declaring that its vectors may be cut."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "matryoshka_dimensions": [16, 32]}))
    model = load_model(qwen_spec(folder, dimensions=32))
    cut = embed_list(model.engine, [w[0].ids for w in model.tokenizer.windows(texts())])
    return {
        "shape": list(cut.shape),
        "cosine": float(cosines(cut, whole[:, :32]).min()),
        "norm_error": float(np.abs(np.linalg.norm(cut, axis=1) - 1).max()),
        "other": refusal(qwen_spec(folder, dimensions=20)),
    }


def _raw(folder: Path) -> np.ndarray:
    """normalize: false must reach the engine, of a model without a Normalize module."""
    raw = Path(shutil.copytree(folder, folder.with_name("raw")))
    modules = json.loads((raw / "modules.json").read_text())
    (raw / "modules.json").write_text(json.dumps(modules[:-1]))
    model = load_model(qwen_spec(raw, normalize=False))
    return embed_list(model.engine, [(5, 6, 7, 0)])[0]


if __name__ == "__main__":
    main()
