"""A pipeline as a Dagster Component: `type: embed_assets.EmbeddingPipelineComponent` in a defs.yaml."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, ConfigDict, Field

from embed_assets.deployment import deployment_definitions
from embed_assets.graph.factory import build_definitions
from embed_assets.settings import Settings
from embed_assets.spec import EmbeddingPipeline
from embed_assets.spec.defs_yaml import attributes_schema, resolved
from embed_assets.spec.load import Key, agree, dotted, pipeline_of, read_documents


class PipelineAttributes(BaseModel):
    """What stands under `attributes`: the pipeline's schema, but nothing is validated before Jinja is resolved."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
        return attributes_schema()


class ScaffoldParams(BaseModel):
    """What `dg scaffold defs embed_assets.EmbeddingPipelineComponent` takes."""

    source: str = Field(default="texts.jsonl", description="Path or URL of the texts; relative to the defs.yaml.")
    text: str = Field(default="{text}", description="Template of the text to embed, over the source's columns.")
    model: str = Field(default="sentence-transformers/all-MiniLM-L6-v2", description="Name of the model on the hub.")


class PipelineScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a defs.yaml that loads as it is."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        params = request.params
        name = "".join(c if c.isalnum() and c.isascii() else "_" for c in request.target_path.name.lower())
        name = name if name[:1].isalpha() else f"p_{name}"
        attributes = {
            "name": name[:63],
            "datasets": [{"name": name[:63], "source": params.source, "text": params.text, "strides": 1}],
            "embedding": {"model": params.model, "pooling": "mean", "attention": "bidirectional"},
        }
        scaffold_component(request, attributes)


@dg.scaffold_with(PipelineScaffolder)
@dataclass
class EmbeddingPipelineComponent(dg.Component, dg.Resolvable):
    """Texts in, vectors in an index: a pipeline of embed-assets. The attributes are the keys of a pipeline file.

    Its assets ask for the resources `lake` and `compute`: embed_assets.DeploymentComponent gives them, or you do.
    """

    pipeline: EmbeddingPipeline
    file: Path | None = None
    """The defs.yaml; None where the component is made in Python."""

    @classmethod
    def model(cls) -> type[BaseModel]:
        return PipelineAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        return super().load(attributes or PipelineAttributes(), context)

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """Raises SpecError, as for a pipeline file."""
        tree, attributes = context.source_position_tree, model.model_extra or {}
        file = Path(tree.position.filename) if tree is not None else None
        if tree is not None and file is not None and file.is_file():
            # Dagster's reader lets a key be there twice: the file is read again as a pipeline file is.
            attributes = read_documents(file)[tree.position.start.line].get("attributes") or {}

        def place(key: Key) -> str:
            if tree is None:
                return f"attributes.{dotted(key)}" if key else "the pipeline"
            position, _ = tree.lookup_closest_and_path(["attributes", *key], None)
            return f"{position}: attributes.{dotted(key)}" if key else f"{position}: attributes"

        value = resolved(attributes, context.scope, file and file.parent, place)
        return cls(pipeline_of(value, place), file if tree is not None else None)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        if self.file is not None:
            all_of_us = context.component_tree.get_all_components(EmbeddingPipelineComponent)
            agree((str(one.file or one.pipeline.name), one.pipeline) for one in all_of_us)
        return build_definitions([self.pipeline], Settings())


class DeploymentScaffolder(dg.Scaffolder[Any]):
    """Writes a defs.yaml without attributes."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        scaffold_component(request)


@dg.scaffold_with(DeploymentScaffolder)
class DeploymentComponent(dg.Component):
    """The resources `lake` and `compute`, and the executor, that the environment's EMBED_* variables describe.

    Once in a code location, for all pipelines of it.
    """

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return deployment_definitions(Settings())
