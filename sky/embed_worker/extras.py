"""Packages that are not always there: the extra that brings each, and one sentence where it is missing."""

from importlib.util import find_spec

EXTRAS = {
    "cli": ("rich", "typer"),
    "index": ("lancedb",),
    "plan": ("huggingface_hub", "tokenizers"),
    "monitor": ("fastapi", "prometheus_client", "uvicorn"),
    "s3": ("s3fs",),
    "gcs": ("gcsfs",),
    "azure": ("adlfs",),
    "http": ("aiohttp",),
    "polars": ("polars",),
    "testing": ("tokenizers",),
    "zstd": ("zstandard",),
}
"""Modules by extra; those that the code asks for by itself."""


class MissingExtra(RuntimeError):
    """A package of an extra is not installed here; the message says how to install it."""


def need(extra: str) -> None:
    """Raises MissingExtra where a package of the extra is not installed."""
    if absent := [name for name in EXTRAS[extra] if find_spec(name) is None]:
        raise MissingExtra(sentence(extra, *absent))


def sentence(extra: str, *absent: str) -> str:
    project = "embed-assets" if find_spec("embed_assets") else "embed-worker"
    verb = "is" if len(absent) == 1 else "are"
    return f"{', '.join(absent)} {verb} not installed here: pip install '{project}[{extra}]'"


def told(error: Exception) -> str:
    """What to say of a failed import: the sentence of its extra where it has one, else the error's own words."""
    names = {getattr(one, "name", None) for one in (error, error.__cause__)}
    found = next(((extra, name) for extra, modules in EXTRAS.items() for name in modules if name in names), None)
    return sentence(*found) if found else str(error)
