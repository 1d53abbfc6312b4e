"""A table that follows its sets by difference is the table that is made anew of the last one, whatever the edits."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from embed_assets.index.build import build_index
from embed_assets.index.search import published
from embed_assets.spec.index import IndexSpec
from embed_worker.engine.hash import HashEngine
from embed_worker.lake.spec import EmbeddingSpec
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared

pytestmark = pytest.mark.slow

WORDS = st.lists(st.sampled_from(["heist", "violin", "kettle", "sea"]), min_size=1, max_size=40).map(" ".join)
COLUMNS = IndexSpec(columns={"n": "int64"})


class Edits(RuleBasedStateMachine):
    """Rows come, go, change their text or a column; the model gives other vectors; the strides are cut anew."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.rows: dict[str, dict[str, Any]] = {}
        self.salt = 0
        self.strides = 3
        self.changed = True
        self.spec = COLUMNS

    @initialize(texts=st.lists(WORDS, min_size=3, max_size=8))
    def begin(self, texts: list[str]) -> None:
        for text in texts:
            self.add(text)

    @rule(text=WORDS)
    def add(self, text: str) -> None:
        key = f"k{len(self.rows)}-{self.salt}"
        self.rows[key] = {"key": key, "text": text, "n": len(self.rows)}
        self.changed = True

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if len(self.rows) > 1:
            del self.rows[data.draw(st.sampled_from(sorted(self.rows)))]
            self.changed = True

    @rule(data=st.data(), text=WORDS)
    def edit(self, data: st.DataObject, text: str) -> None:
        self.rows[data.draw(st.sampled_from(sorted(self.rows)))]["text"] = text
        self.changed = True

    @rule(data=st.data(), n=st.integers(0, 9))
    def edit_column(self, data: st.DataObject, n: int) -> None:
        self.rows[data.draw(st.sampled_from(sorted(self.rows)))]["n"] = n
        self.changed = True

    @rule()
    def other_vectors(self) -> None:
        """As where a shard was made with a fault, and is repaired."""
        self.salt += 1
        self.changed = True

    @rule(strides=st.sampled_from([2, 3]))
    def cut_anew(self, strides: int) -> None:
        self.strides = strides
        self.changed = True

    @rule(kind=st.sampled_from(["none", "IVF_HNSW_SQ"]), full_text=st.booleans())
    def other_index(self, kind: Any, full_text: bool) -> None:
        self.spec = IndexSpec(columns={"n": "int64"}, type=kind, full_text=full_text, min_recall=0)
        self.changed = True

    @invariant()
    def the_table_is_one_made_anew(self) -> None:
        if not self.changed or not self.rows:
            return
        self.changed = False
        source = kit.write_jsonl(self.folder / "s.jsonl", self.rows.values())
        followed = self.made("followed", source)
        shutil.rmtree(self.folder / "anew", ignore_errors=True)
        assert followed == self.made("anew", source)

    def made(self, name: str, source: Path) -> list[dict[str, Any]]:
        shutil.rmtree(self.folder / name / "embedding_shards", ignore_errors=True)  # other vectors of the same rows
        prepared = Prepared(
            self.folder / name, str(source), id="{key}", strides=self.strides, partitioning="content",
            embedding=kit.spec(max_tokens=32),
        )  # fmt: skip
        for stride in range(self.strides):
            self.embed(prepared, stride)
        made = build_index(prepared.resource, prepared.set(), self.spec)
        assert not build_index(prepared.resource, prepared.set(), self.spec).created
        found = published(prepared.resource, prepared.pipeline.embedding, "d")
        assert found is not None and made.record.rows == found.table.count_rows()
        rows: list[dict[str, Any]] = found.table.to_arrow().to_pylist()
        return sorted(rows, key=lambda row: (row["id"], row["chunk"]))

    def embed(self, prepared: Prepared, stride: int) -> None:
        def salted(engine: HashEngine, spec: EmbeddingSpec) -> None:
            plain(engine, spec)
            engine._salt += str(self.salt).encode()

        plain = HashEngine.__init__
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HashEngine, "__init__", salted)
            prepared.embed(stride)

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


Edits.TestCase.settings = settings(max_examples=12, stateful_step_count=8, deadline=None)
TestEdits = Edits.TestCase
