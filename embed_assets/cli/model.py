"""`embed-assets stage-model` and `embed-assets spec-for`."""

from pathlib import Path

import yaml

from embed_assets.cli.common import chosen
from embed_assets.settings import deployment
from embed_assets.tell.terminal import CommandError, console, shown
from embed_assets.upkeep.spec_for import NoSpec, of_folder, of_hub
from embed_assets.upkeep.stage_model import NotStaged, stage_model


def stage(pipeline: str | None, source: Path | None) -> None:
    _, pipelines, lake = deployment()
    found = chosen(pipelines, pipeline)
    if len(found) != 1:
        raise CommandError(f"name one of {', '.join(one.name for one in found)} with --pipeline")
    try:
        staged = stage_model(lake.store, found[0].embedding, source, lambda text: console.print(shown(text)))
    except NotStaged as error:
        raise CommandError(str(error)) from error
    console.print(f"{staged.bytes_before / 1e9:,.2f} GB became {staged.bytes_after / 1e9:,.2f} GB. In the pipeline:\n")
    console.print(shown(f"embedding:\n  location: {staged.location}"), soft_wrap=True)
    console.print(shown("  sha256:  # counts in the spec id: pin before anything is embedded, or leave it out"))
    for name, digest in staged.sha256.items():
        console.print(shown(f"    {name}: {digest}"), soft_wrap=True)


def spec_for(model: str, source: Path | None, revision: str | None) -> None:
    try:
        found = of_folder(model, source) if source else of_hub(model, revision)
    except NoSpec as error:
        raise CommandError(str(error)) from error
    block = found.embedding | ({"location": str(source.absolute())} if source else {})
    for note in found.notes:
        console.print(shown(f"# {note}"), soft_wrap=True)
    text = yaml.safe_dump({"embedding": block}, sort_keys=False, allow_unicode=True, width=1000)
    console.print(shown(text.rstrip()), soft_wrap=True)
