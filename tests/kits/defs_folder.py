"""A defs folder of Dagster Components, loaded in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster.components.testing import create_defs_folder_sandbox

from embed_assets import EmbeddingPipeline, EmbeddingPipelineComponent
from tests.kits.pipeline_files import pipeline_yaml


def defs_yaml(changes: dict[str, object] | None = None, more: str = "") -> str:
    """A defs.yaml of the good pipeline with some keys set; `more` is put at its end."""
    lines = pipeline_yaml(changes or {}).splitlines(keepends=True)
    return "type: embed_assets.EmbeddingPipelineComponent\nattributes:\n" + "".join(f"  {x}" for x in lines) + more


DEPLOYMENT = "type: embed_assets.DeploymentComponent\n"


class DefsFolder:
    """Files by the name of their folder, and what Dagster makes of them."""

    def __init__(self, files: dict[str, str], deployment: bool = True) -> None:
        self._files = {**files, **({"deployment": DEPLOYMENT} if deployment else {})}

    @contextmanager
    def loaded(self) -> Iterator[tuple[dg.Definitions, Path]]:
        """Raises what Dagster raises."""
        with create_defs_folder_sandbox() as sandbox:
            self._write(sandbox.defs_folder_path)
            with sandbox.build_all_defs() as defs:
                yield defs, sandbox.defs_folder_path

    @contextmanager
    def component(self, name: str) -> Iterator[tuple[EmbeddingPipeline, Path]]:
        """The pipeline in a folder, and the folder."""
        with create_defs_folder_sandbox() as sandbox:
            self._write(sandbox.defs_folder_path)
            folder = sandbox.defs_folder_path / name
            with sandbox.build_component_tree() as tree:
                (found,) = tree.get_all_components(EmbeddingPipelineComponent)
                yield found.pipeline, folder

    def _write(self, root: Path) -> None:
        for name, text in self._files.items():
            (root / name).mkdir(parents=True)
            (root / name / "defs.yaml").write_text(text)


def cause(error: BaseException) -> str:
    """What stands at the bottom of Dagster's exception: what we said."""
    return cause(error.__cause__) if error.__cause__ is not None else str(error)
