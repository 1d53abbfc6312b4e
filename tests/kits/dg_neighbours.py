"""A `dg` project with a pipeline among assets of the user's own: what makes its source, what reads its vectors, a
schedule, a pool, the alert sensor."""

from pathlib import Path

import pyarrow.parquet as pq
import yaml

from tests.kits import pipelines as kit
from tests.kits.dg_project import DgProject
from tests.kits.docs_code import blocks

ROWS, STRIDES = 24, 3
PARTITIONS = [f"tickets-{stride:05d}" for stride in range(STRIDES)]
UPSTREAM = f"""
import json
from pathlib import Path
import dagster as dg

@dg.asset(key=["warehouse", "tickets"])
def tickets() -> None:
    rows = [{{"id": i, "subject": f"subject {{i}}", "body": "x" + " word" * i}} for i in range({ROWS})]
    Path(__file__).with_name("tickets.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
"""
BESIDE = "Your own assets beside it"
"""The heading in docs/dagster.md whose code stands downstream."""


def lengths(rows: int = ROWS) -> dict[str, int]:
    """What the downstream asset ought to find."""
    return {str(i): len(f"subject {i}\nx{' word' * i}") for i in range(rows)}


def neighbourhood(folder: Path, webhook: str) -> DgProject:
    """Made by `dg` where `dg` can make it; the red checks go to the webhook."""
    made = DgProject(folder, more_env={"EMBED_ALERT_WEBHOOK": webhook})
    component = "embed_assets.EmbeddingPipelineComponent"
    made.dg("scaffold", "defs", component, "tickets", "--source", "../warehouse/tickets.jsonl")
    made.dg("scaffold", "defs", "embed_assets.DeploymentComponent", "deployment")
    made.dg("check", "defs")  # what was scaffolded loads as it is
    (downstream,) = blocks(BESIDE)
    # Its sensor looks every 30 s, which a test has no time for.
    downstream = downstream.replace("sensor([pipeline])", "sensor([pipeline], minimum_interval_seconds=1)")
    for file, text in (("warehouse/tickets.py", UPSTREAM), ("reports/lengths.py", downstream)):
        path = made.defs / file
        path.parent.mkdir()
        path.write_text(text)
    file = made.defs / "tickets" / "defs.yaml"
    value = yaml.safe_load(file.read_text())
    value["attributes"]["datasets"][0] |= {
        "text": "{subject}\n{body}",
        "id": "{id}",
        "strides": STRIDES,
        "deps": ["warehouse/tickets"],
    }
    value["attributes"] |= {
        "embedding": kit.HASH, "translation": {"key": "search/{asset}", "group": "search"},
        "op": {"steps": {"embedding_shards": {"pool": "gpus"}}},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(value))
    return made


def damage(project: DgProject, partition: str) -> None:
    """Writes a part of a shard anew: every row is there, but it is another file than the manifest lists."""
    stride = partition.rpartition("-")[2]
    (part,) = project.lake.glob(f"embedding_shards/tickets/*/*/{stride}/*/part-00000.parquet")
    table = pq.read_table(part)
    temporary = part.with_name("other")
    pq.write_table(table, temporary, compression="none")
    temporary.replace(part)
