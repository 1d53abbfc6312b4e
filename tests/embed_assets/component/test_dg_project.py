"""From `create-dagster` to vectors: a new project, this Component, and everything launched by `dg`."""

from pathlib import Path

import pytest
import yaml

from tests.kits import ROOT
from tests.kits import pipelines as kit
from tests.kits.dg_project import DgProject

pytestmark = pytest.mark.slow

UPSTREAM = """
import json
from pathlib import Path
import dagster as dg

@dg.asset(key=["warehouse", "tickets"])
def tickets() -> None:
    rows = [{"id": i, "subject": f"subject {i}", "body": "word " * i} for i in range(24)]
    Path(__file__).with_name("tickets.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DgProject:
    """A scaffolded pipeline in it, with a source that an asset of the project writes, and its resources."""
    made = DgProject(tmp_path_factory.mktemp("dg"))
    made.dg(
        "scaffold",
        "defs",
        "embed_assets.EmbeddingPipelineComponent",
        "tickets",
        "--source",
        "../warehouse/tickets.jsonl",
    )
    made.dg("scaffold", "defs", "embed_assets.DeploymentComponent", "deployment")
    made.dg("check", "defs")  # what was scaffolded loads as it is
    (made.defs / "warehouse").mkdir()
    (made.defs / "warehouse" / "tickets.py").write_text(UPSTREAM)
    file = made.defs / "tickets" / "defs.yaml"
    value = yaml.safe_load(file.read_text())
    value["attributes"]["datasets"][0] |= {
        "text": "{subject}\n{body}",
        "id": "{id}",
        "strides": 3,
        "deps": ["warehouse/tickets"],
    }
    value["attributes"] |= {
        "embedding": kit.HASH, "translation": {"key": "search/{asset}", "group": "search"},
        "op": {"steps": {"embedding_shards": {"pool": "gpus"}}},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(value))
    return made


def test_dg_lists_what_it_checks(project: DgProject) -> None:
    assert "All definitions loaded successfully" in project.dg("check", "defs")
    listed = project.dg("list", "defs", "--json")
    for name in ("raw_reviews", "stride_partitions", "embedding_shards", "vector_index"):
        assert f'"search/{name}"' in listed
    assert '"warehouse/tickets"' in listed
    components = project.dg("list", "components", "--json")
    assert "embed_assets.EmbeddingPipelineComponent" in components and "embed_assets.DeploymentComponent" in components


def test_dg_launches_a_partition_and_a_range(project: DgProject) -> None:
    first, last = "tickets-00000", "tickets-00002"
    project.dg("launch", "--assets", "key:warehouse/tickets")
    project.dg("launch", "--assets", "key:search/raw_reviews", "--partition", "tickets")
    project.dg("launch", "--assets", "key:search/stride_partitions", "--partition-range", f"{first}...{last}")
    project.dg("launch", "--assets", "key:search/embedding_shards", "--partition", first)
    assert project.materialized("search", "embedding_shards") == {first}
    project.dg("launch", "--assets", "key:search/embedding_shards", "--partition-range", f"tickets-00001...{last}")
    assert project.materialized("search", "embedding_shards") == {first, "tickets-00001", last}
    project.dg("launch", "--assets", "key:search/embedding_set", "--partition", "tickets")
    project.dg("launch", "--assets", "key:search/vector_index", "--partition", "tickets")
    assert project.materialized("search", "vector_index") == {"tickets"}
    assert list(Path(project.lake).glob("vector_index/*/tickets.lance"))


def test_dg_launches_the_update(project: DgProject) -> None:
    """Of a project that has nothing yet, and of one where all is there."""
    project.dg("launch", "--assets", "key:warehouse/tickets")
    for _ in range(2):
        project.dg("launch", "--job", "tickets__update")
        assert len(project.materialized("search", "embedding_shards")) == 3
        assert project.materialized("search", "vector_index") == {"tickets"}


def test_dg_works_in_this_repository(project: DgProject) -> None:
    assert "All definitions loaded successfully" in project.call("dg", "check", "defs", cwd=ROOT)
