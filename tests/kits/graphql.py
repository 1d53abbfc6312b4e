"""The UI's GraphQL without a webserver: a code location and its runs in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster_graphql.test.utils import execute_dagster_graphql

from tests.kits.e2e.dagster_api import Dagster
from tests.kits.location import Location

SCHEMA = """
query($s: PipelineSelector!) { runConfigSchemaOrError(selector: $s) { ... on RunConfigSchema {
  rootConfigType { key } allConfigTypes { key ... on CompositeConfigType { fields {
    name description isRequired defaultValueAsJson configTypeKey } } } } } }"""
VALID = """
query($s: PipelineSelector!, $c: RunConfigData!) {
  isPipelineConfigValid(pipeline: $s, runConfigData: $c, mode: "default") {
    __typename ... on RunConfigValidationInvalid { errors { message stack { entries {
      ... on EvaluationStackPathEntry { fieldName } } } } } } }"""


class GraphQl(Dagster):
    """Asks a workspace instead of a URL; a run has ended when its launch returns."""

    def __init__(self, location: Location, workspace: WorkspaceProcessContext) -> None:
        self._workspace = workspace
        super().__init__("", location.home)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        return dict(execute_dagster_graphql(self._workspace.create_request_context(), query, variables).data)

    def config_of(self, job: str, op: str, asset: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """The keys that the launch dialog offers for an op, each with what it says of them."""
        found = self.ask(SCHEMA, s=self._selector(job, asset))["runConfigSchemaOrError"]
        fields = {one["key"]: {f["name"]: f for f in one.get("fields", ())} for one in found["allConfigTypes"]}
        at = fields[found["rootConfigType"]["key"]]
        for name in ("ops", op, "config"):
            at = fields[at[name]["configTypeKey"]]
        return at

    def refused(self, job: str, config: dict[str, Any], asset: list[str] | None = None) -> list[str]:
        """What the launch dialog says of a config; nothing where it takes it."""
        found = self.ask(VALID, s=self._selector(job, asset), c=config)["isPipelineConfigValid"]
        return [error["message"] for error in found.get("errors", ())]

    def _selector(self, job: str, asset: list[str] | None) -> dict[str, Any]:
        return {**self._of_repository, "pipelineName": job, "assetSelection": asset and [{"path": asset}]}


@contextmanager
def graphql(location: Location) -> Iterator[GraphQl]:
    """What the UI asks of a location."""
    target = LoadableTargetOrigin(python_file=str(location.file()), working_directory=str(location.folder))
    origin = InProcessCodeLocationOrigin(target, location_name="here")
    with (
        location.instance() as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as workspace,
    ):
        yield GraphQl(location, workspace)
