"""From an asset in the UI to the file that describes it, as Dagster does it for a defs.yaml."""

from pathlib import Path
from typing import Any

import dagster as dg

from embed_assets.spec.load import read_documents


def code_reference(file: Path, line: int | None = None) -> dict[str, Any]:
    """Metadata of a definition."""
    found = dg.LocalFileCodeReference(file_path=str(file.absolute()), line_number=line)
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[found])}


def leading_to(file: Path, assets: list[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The assets, each with its way to the pipeline in its file."""
    metadata = code_reference(file, next(iter(read_documents(file))))
    return [asset.map_asset_specs(lambda spec: spec.merge_attributes(metadata=metadata)) for asset in assets]
