"""What a launch may ask for, in the launch dialog and in `--config-json`."""

from typing import Any

import dagster as dg
from pydantic import ValidationError


class LaunchConfig(dg.Config):
    """A config whose fault is one sentence. The dialog knows types, not ranges: those are found when a run begins."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise dg.Failure("; ".join(map(_told, error.errors())), allow_retries=False) from None


def _told(fault: Any) -> str:
    return f"{'.'.join(map(str, fault['loc']))} {fault['msg'].removeprefix('Input ')} (got {fault['input']!r})"
