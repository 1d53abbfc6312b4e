"""Errors and options of the commands."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer
from pydantic import ValidationError
from rich.text import Text

from embed_assets.spec import EmbeddingPipeline
from embed_assets.tell.terminal import CommandError, errors, shown
from embed_worker.lake.errors import LakeError

P = ParamSpec("P")
R = TypeVar("R")

PREFIXES = {"Settings": "EMBED_", "SkyPilotSettings": "EMBED_SKY_"}


def friendly_errors(command: Callable[P, R]) -> Callable[P, R]:
    """What a person can mend is one message and exit code 2, not a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except ValidationError as error:
            message = "; ".join(
                f"{_named(error.title, fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            )
        except (CommandError, LakeError, ValueError, OSError, RuntimeError) as error:
            message = str(error)
        errors.print(Text.assemble(("error:", "bold red"), " ", shown(message)), soft_wrap=True)
        raise typer.Exit(2)

    return run


def _named(model: str, place: tuple[int | str, ...]) -> str:
    """What a person has set: a variable, or an option."""
    name = ".".join(map(str, place))
    if model in PREFIXES:
        return f"{PREFIXES[model]}{name.upper()}"
    return f"--{name.replace('_', '-')}"


def chosen(pipelines: list[EmbeddingPipeline], name: str | None) -> list[EmbeddingPipeline]:
    """The pipeline of a `--pipeline` option, or all."""
    found = [pipeline for pipeline in pipelines if name is None or pipeline.name == name]
    if not found:
        raise CommandError(f"no pipeline {name!r}; there are {', '.join(pipeline.name for pipeline in pipelines)}")
    return found
