"""Where a provocation plays: one dataset of two partitions, a lake, a Dagster instance, and what people read of them."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from embed_assets.cli.app import app
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit
from tests.kits.graph_bench import STRIDES, GraphBench

KEYS = ("a-00000", "a-00001")


class Scene:
    """Made anew for each provocation. `fixture` gets one of pytest's by its name."""

    def __init__(
        self, folder: Path, instance: dg.DagsterInstance, patch: pytest.MonkeyPatch, fixture: Callable[[str], Any]
    ) -> None:
        self.folder, self.instance, self.patch, self.fixture = folder, instance, patch, fixture
        self.bench = GraphBench(folder, instance)
        del self.bench.sources["b"]
        self.bench.strides = {"a": len(KEYS)}
        self.source = self.bench.sources["a"]

    def lies_in(self, lake: Any) -> None:
        """The lake is this folder or URL."""
        self.bench.lake = lake

    @cached_property
    def ready(self) -> kit.Prepared:
        """The dataset, ingested and cut without Dagster."""
        return kit.Prepared(
            self.bench.lake, str(self.source), name="a", strides=len(KEYS), embedding=kit.spec(**self.bench.embedding),
            **self.bench.ingest,
        )  # fmt: skip

    @property
    def store(self) -> Store:
        return self.ready.store

    def run(self, asset: dg.AssetKey, key: str | None = None) -> dg.ExecuteInProcessResult:
        """One partition, or all of the asset's."""
        if asset == STRIDES and key is None:
            return self.bench.run(asset, *KEYS)
        return self.bench.run(
            asset, key or ("a" if asset.path[-1] in ("raw_reviews", "embedding_set", "vector_index") else KEYS[0])
        )

    def told(self, asset: dg.AssetKey, key: str | None = None) -> str:
        """What a failing run says, on its page and in its log."""
        return self._of(self.run(asset, key), fails=True)

    def logged(self, asset: dg.AssetKey, key: str | None = None) -> str:
        """The log of a run that ends well."""
        return self._of(self.run(asset, key), fails=False)

    def made(self, asset: dg.AssetKey, key: str | None = None) -> None:
        """The run ends well."""
        self.logged(asset, key)

    def command(self, *arguments: str) -> str:
        """What `embed-assets …` prints where it fails."""
        done = self._cli(*arguments)
        assert done.exit_code, done.output
        return done.output

    def works(self, *arguments: str) -> str:
        """What `embed-assets …` prints where it does not."""
        done = self._cli(*arguments)
        assert not done.exit_code, done.output
        return done.output

    def _cli(self, *arguments: str) -> Any:
        file = self.folder / "p.yaml"
        if not file.exists():
            spec = "\n".join(f"  {key}: {value}" for key, value in kit.HASH.items())
            file.write_text(
                f"name: p\ndatasets:\n- name: a\n  source: {self.source}\n  text: '{{text}}'\n"
                f"  strides: {len(KEYS)}\ncheckpoint_rows: 4\nembedding:\n{spec}\n"
            )
        environment = {"EMBED_PIPELINES": str(file), "EMBED_LAKE": str(self.bench.lake), "COLUMNS": "400"}
        return CliRunner().invoke(app, list(arguments), env=environment)

    def _of(self, run: dg.ExecuteInProcessResult, *, fails: bool) -> str:
        assert run.success is not fails, self.bench.log(run)
        if not fails:
            return self.bench.log(run)
        (event,) = self.bench.events(run, dg.DagsterEventType.STEP_FAILURE)
        failure = event.step_failure_data
        words = failure.user_failure_data.description if failure.user_failure_data else str(failure.error)
        return f"{self.bench.log(run)}\n{words}"
