"""From the task file and a deployment's overrides to what SkyPilot launches."""

import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import embed_worker
from resources.compute import BackendBroken
from resources.skypilot.places import ANYWHERE

Config = dict[str, Any]

WORKER_FILES = ("pyproject.toml", "setup_node.sh", *(f"locks/worker-{kind}.txt" for kind in ("cpu", "gpu", "lake")))
WORKDIR = "sky"
"""`workdir` of the shipped files: the repository's folder, where a person launches by hand."""
ALTERNATIVES = ("ordered", "any_of")
COMMON = ("infra", "cpus", "memory", "image_id", "disk_size", "max_hourly_cost")


@dataclass(frozen=True)
class Overrides:
    """What a deployment asks for instead of what the task file says; None leaves the file's word."""

    infra: str | None = None
    """ANYWHERE takes the file's own restriction away."""
    beside: str | None = None
    """Cloud of the lake: where neither `infra` nor the file says anything."""
    accelerators: str | None = None
    use_spot: bool | None = None
    cpus: str | None = None
    memory: str | None = None
    image_id: str | None = None
    disk_size: int | None = None
    max_hourly_cost: float | None = None
    envs: Mapping[str, str] = field(default_factory=dict)


def shipped(name: str) -> Path:
    """A file that comes with this package: an installation has it beside this module, a checkout in sky/."""
    for folder in (Path(__file__).parent / "sky_files", Path(embed_worker.__file__).parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise BackendBroken(f"{name} is missing from this installation of embed-assets")


def load_task(path: str | None, default: str) -> Config:
    """The task file as a dictionary. Raises BackendBroken where it cannot be read."""
    file = Path(path).expanduser() if path else shipped(default)
    try:
        config = yaml.safe_load(file.read_text())
    except OSError as error:
        raise BackendBroken(f"task file {file} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise BackendBroken(f"{file} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise BackendBroken(f"{file} is not a SkyPilot task")
    return config


def with_overrides(config: Config, over: Overrides) -> Config:
    """A copy with the overrides in its resources, each alternative as well, and its envs."""
    resources = dict(config.get("resources") or {})
    kind = next((name for name in ALTERNATIVES if name in resources), "ordered")
    candidates = [dict(one) for one in resources.pop(kind, [])] or [{}]
    for key in COMMON:
        if (value := getattr(over, key)) is not None:
            resources[key] = value
            for one in candidates:
                one.pop(key, None)
    if over.infra == ANYWHERE:
        resources.pop("infra")
    elif over.beside is not None and not any("infra" in one or "cloud" in one for one in [resources, *candidates]):
        resources["infra"] = over.beside
    if over.accelerators is not None:
        candidates = _with_accelerators(resources, candidates, over.accelerators)
    if over.use_spot is not None:
        resources.pop("use_spot", None)
        candidates = [{**one, "use_spot": over.use_spot} for one in candidates]
    candidates = list({repr(sorted(one.items())): one for one in candidates}.values())
    resources |= candidates[0] if len(candidates) == 1 else {kind: candidates}
    return {**config, "resources": resources, "envs": {**(config.get("envs") or {}), **over.envs}}


def _with_accelerators(resources: Config, candidates: Sequence[Config], wanted: str) -> list[Config]:
    """`L4:1, A100:1` in this order for each of the file's other choices (spot, on demand); `none`: a CPU machine."""
    resources.pop("accelerators", None)
    others = [{key: value for key, value in one.items() if key != "accelerators"} for one in candidates]
    others = list({repr(sorted(one.items())): one for one in others}.values())
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if [name.lower() for name in names] == ["none"]:
        return others
    return [{"accelerators": name, **other} for other, name in itertools.product(others, names)]


def with_secrets(config: Config, names: Sequence[str]) -> Config:
    """A copy whose secrets have their values from this process' environment: no value is in any setting."""
    if missing := [name for name in names if name not in os.environ]:
        raise BackendBroken(f"EMBED_SKY_SECRETS names {', '.join(missing)}, not set in this process' environment")
    return {**config, "secrets": {**(config.get("secrets") or {}), **{name: os.environ[name] for name in names}}}


def for_pool(config: Config) -> Config:
    """A copy that takes a whole machine of a pool, whatever kind: two jobs on one GPU help nobody."""
    kept = (config.get("resources") or {}).get("job_recovery")
    return {**config, "resources": {"job_recovery": kept} if kept else {}}


def stage_worker(config: Config, folder: Path) -> Config:
    """A copy whose `workdir`, where it is the shipped one, is a folder with the worker's package and nothing else.

    The same content gives the same archive, so that the API server gets it once, not once a partition.
    """
    if config.get("workdir", WORKDIR) != WORKDIR:
        return config
    target = folder / "embed_worker"
    if not target.exists():
        source = Path(embed_worker.__file__).parent
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        (folder / "locks").mkdir()
        for name in WORKER_FILES:
            shutil.copy2(shipped(name), folder / name)
    return {**config, "workdir": str(folder)}
