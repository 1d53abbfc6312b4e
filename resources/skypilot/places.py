"""Where jobs may run: beside the lake, unless the deployment says otherwise. And what that asks of the nodes."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from embed_worker.lake.job import EmbedJob
from resources.compute import BackendBroken

CLOUDS = {"s3": "aws", "s3a": "aws", "gs": "gcp", "gcs": "gcp", "az": "azure", "abfs": "azure", "abfss": "azure"}
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Where one is set, s3:// is no bucket of AWS but of a store that speaks like it."""
ANYWHERE = "*"
"""EMBED_SKY_INFRA for every cloud that `sky check` has enabled."""
FOREIGN = re.compile(r"tpu|mi\d{2,3}|radeon|trainium|inferentia|gaudi|habana|neuron", re.IGNORECASE)
"""Accelerators that the worker's environment, a build for CUDA, does not run on."""
MANY = 150
"""Jobs at once that need more of the API server than its default has."""

Config = Mapping[str, Any]


def cloud_of(lake: str) -> str | None:
    """The cloud that a lake's bucket is in; None where its address does not tell."""
    cloud = CLOUDS.get(lake.partition("://")[0]) if "://" in lake else None
    return None if cloud == "aws" and any(os.environ.get(name) for name in ENDPOINTS) else cloud


def candidates(config: Config) -> Iterator[dict[str, Any]]:
    """Each of a task's alternatives, with what they share."""
    resources = dict(config.get("resources") or {})
    alternatives = resources.pop("ordered", None) or resources.pop("any_of", None) or [{}]
    for one in alternatives:
        yield {**resources, **one}


def gpus_of(accelerators: Any) -> dict[str, int]:
    """`L4:2`, {L4: 2} or a list of such, as SkyPilot takes them: name → count. Empty on a machine without."""
    if not accelerators:
        return {}
    if isinstance(accelerators, str):
        accelerators = [part.strip(" {}'\"") for part in accelerators.split(",")]
    if isinstance(accelerators, Mapping):
        return {str(name): int(count or 1) for name, count in accelerators.items()}
    return {name: int(float(count or 1)) for name, _, count in (str(one).partition(":") for one in accelerators)}


def check_accelerators(config: Config) -> None:
    """Raises BackendBroken for those that the worker cannot use: a machine would be paid for, and refused there."""
    names = {name for one in candidates(config) for name in gpus_of(one.get("accelerators"))}
    if foreign := sorted(name for name in names if FOREIGN.match(name)):
        raise BackendBroken(
            f"the worker runs on NVIDIA GPUs (CUDA) or on CPUs, not on {', '.join(foreign)}: correct "
            "EMBED_SKY_ACCELERATORS, or the task file"
        )


def check_engine(config: Config, job: EmbedJob) -> None:
    """Raises BackendBroken where the engine spans more GPUs than a machine that the job may get has."""
    engine = job.spec.engine
    size = int(engine.get("tensor_parallel_size", 1)) * int(engine.get("pipeline_parallel_size", 1))
    for one in candidates(config):
        gpus = gpus_of(one.get("accelerators"))
        if size > 1 and (not gpus or min(gpus.values()) < size):
            name = next(iter(gpus), "L4")
            raise BackendBroken(
                f"{job.pipeline}: embedding.engine spans {size} GPUs (tensor_parallel_size × pipeline_parallel_size), "
                f"but jobs may get a machine with {gpus.get(name, 0)}: set EMBED_SKY_ACCELERATORS={name}:{size}, or "
                "correct embedding.engine"
            )


def advice(config: Config, lake: str, jobs: int, *, local_server: bool, pool: bool) -> Sequence[str]:
    """What a person should know before so many jobs are launched."""
    found = []
    home = cloud_of(lake)
    clouds = {str(one["infra"]).partition("/")[0] if one.get("infra") else None for one in candidates(config)}
    if home is not None and not pool and (others := clouds - {home}):
        where = "every enabled cloud" if None in others else ", ".join(sorted(str(one) for one in others))
        found.append(
            f"jobs may run on {where}, the lake is in {home}: nodes elsewhere have no role for {lake}, so hand keys "
            "over (EMBED_SKY_SECRETS), and every byte they read costs egress. "
            f"EMBED_SKY_INFRA={home} keeps them beside it"
        )
    if jobs > MANY and not pool:
        found.append(
            f"{jobs} jobs are to be launched: a jobs controller with 16 GiB launches 8 at a time and runs 200. More "
            "needs `sky api start --deploy` on a machine with 8 CPUs and 32 GiB (104 and 2,000), or a larger "
            "controller; what it cannot run waits as PENDING"
        )
    if local_server and home is not None and not pool:
        found.append(
            "the API server is on this machine: where it is not in consolidation mode and has no jobs.bucket "
            "(~/.sky/config.yaml), SkyPilot makes a bucket for every launch; and it sleeps when this machine sleeps"
        )
    return found
