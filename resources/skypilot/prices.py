"""List prices of machines with a GPU, from SkyPilot's catalog: the cheapest of each cloud's, spot and on demand.

Nothing is launched and no API server is asked. SkyPilot fetches catalogs that are not on this machine yet.
"""

import contextlib
import importlib.metadata
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resources.skypilot.deadlines import Deadlines
from resources.skypilot.settings import SkyPilotFields
from resources.skypilot.task import ALTERNATIVES, Config, load_task, with_overrides

CLOUDS = ("aws", "gcp", "azure")
"""Asked where the deployment names no cloud. EMBED_SKY_INFRA narrows it to one."""
TASK_FILE = "embed_partition.yaml"


@dataclass(frozen=True)
class Quote:
    """Dollars an hour of the cheapest machine; None with the reason where that is not known."""

    spot: float | None
    on_demand: float | None
    spot_place: str = ""
    on_demand_place: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Wanted:
    """An accelerator that jobs of this deployment may get: `L4` or `L4:2`."""

    accelerator: str
    spot: bool
    """It is tried as a spot machine, whether or not on demand too."""


def wanted(settings: SkyPilotFields) -> list[Wanted]:
    """What the deployment's task asks for, in its order. Raises BackendBroken where the task cannot be read."""
    resources: Config = with_overrides(load_task(settings.task_file, TASK_FILE), settings.overrides())["resources"]
    kind = next((name for name in ALTERNATIVES if name in resources), None)
    found: dict[str, bool] = {}
    for one in [{**resources, **each} for each in resources[kind]] if kind else [resources]:
        if named := one.get("accelerators"):
            name = _plain(str(named))
            found[name] = found.get(name, False) or bool(one.get("use_spot"))
    return [Wanted(name, spot) for name, spot in found.items()]


def catalog_quotes(accelerators: Iterable[str], infra: str | None = None, seconds: float = 60.0) -> dict[str, Quote]:
    """A quote for each accelerator. Never raises: what cannot be had is unknown, and says why."""
    names = list(accelerators)
    cloud = infra.split("/", 1)[0] if infra else None
    try:
        importlib.metadata.version("skypilot")
    except importlib.metadata.PackageNotFoundError:
        return dict.fromkeys(names, Quote(None, None, reason="skypilot is not installed here"))
    if cloud is not None and cloud not in CLOUDS:
        return dict.fromkeys(names, Quote(None, None, reason=f"{cloud} has no price list here"))
    try:
        return Deadlines().call(lambda: _look_up(names, [cloud] if cloud else list(CLOUDS)), seconds)
    except Exception as error:  # a price is never worth a plan
        return dict.fromkeys(names, Quote(None, None, reason=_why(error)))


def _look_up(names: Sequence[str], clouds: Sequence[str]) -> dict[str, Quote]:
    listed: dict[str, list[Any]] = {name: [] for name in names}
    reasons: list[str] = []
    for cloud in clouds:
        for name in names:
            accelerator, _, count = name.partition(":")
            try:
                listed[name] += _machines(cloud, accelerator, int(count or 1))
            except Exception as error:  # its catalog is not here and cannot be fetched, or lacks a column
                reasons.append(f"{cloud}: {_why(error)}")
                break
    reason = "; ".join(reasons) or f"no machine of {', '.join(clouds)} in the catalog"
    return {name: _cheapest(machines, reason) for name, machines in listed.items()}


def _machines(cloud: str, accelerator: str, count: int) -> list[Any]:
    from sky import catalog

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found: Mapping[str, list[Any]] = catalog.list_accelerators(
            gpus_only=False,
            name_filter=f"^{re.escape(accelerator)}$",
            quantity_filter=count,
            clouds=cloud,
            case_sensitive=False,
        )
    return [machine for machines in found.values() for machine in machines]


def _cheapest(machines: Sequence[Any], reason: str) -> Quote:
    def best(field: str) -> tuple[float | None, str]:
        priced = [(p, m) for m in machines if (p := getattr(m, field)) is not None and math.isfinite(p) and p > 0]
        if not priced:
            return None, ""
        price, machine = min(priced, key=lambda one: one[0])
        return float(price), f"{machine.cloud} {machine.instance_type or machine.accelerator_name}"

    spot, spot_place = best("spot_price")
    on_demand, place = best("price")
    return Quote(spot, on_demand, spot_place, place, "" if spot and on_demand else reason)


def _plain(accelerator: str) -> str:
    """`L4:1` is `L4`."""
    return accelerator.removesuffix(":1").strip("{} '\"")


def _why(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
