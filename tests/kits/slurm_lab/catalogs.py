"""Hand-made price lists, so that SkyPilot's Resources, prices and optimizer work without internet.

The numbers are invented (round, plausible, spot below on-demand): tests may rely on them, bills may not.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SCHEMA = "v8"


class Row(NamedTuple):
    cloud: str
    instance: str
    gpu: str
    gpus: int
    gpu_gib: int
    vcpus: int
    memory: int
    price: float
    spot: float


REGIONS = {"aws": ("us-east-1", "us-west-2"), "gcp": ("us-central1", "europe-west4")}
ROWS = [
    Row("aws", "m6i.2xlarge", "", 0, 0, 8, 32, 0.40, 0.16),
    Row("aws", "g6.xlarge", "L4", 1, 24, 4, 16, 0.80, 0.30),
    Row("aws", "g6.2xlarge", "L4", 1, 24, 8, 32, 1.00, 0.36),
    Row("aws", "g5.2xlarge", "A10G", 1, 24, 8, 32, 1.20, 0.48),
    Row("aws", "g6e.2xlarge", "L40S", 1, 48, 8, 64, 2.20, 0.90),
    Row("aws", "p4d.24xlarge", "A100", 8, 40, 96, 1152, 32.00, 12.00),
    Row("aws", "p5.48xlarge", "H100", 8, 80, 192, 2048, 98.00, 40.00),
    Row("gcp", "n2-standard-8", "", 0, 0, 8, 32, 0.38, 0.10),
    Row("gcp", "g2-standard-4", "L4", 1, 24, 4, 16, 0.14, 0.06),
    Row("gcp", "g2-standard-8", "L4", 1, 24, 8, 32, 0.28, 0.12),
    Row("gcp", "a2-highgpu-1g", "A100", 1, 40, 12, 85, 0.80, 0.30),
    Row("gcp", "a3-highgpu-1g", "H100", 1, 80, 26, 234, 2.20, 0.90),
]
GCP_GPU_PRICES = {"L4": (0.56, 0.22), "A100": (2.90, 1.10), "H100": (9.00, 3.60)}  # host rows exclude the GPU
COLUMNS = [
    "InstanceType",
    "AcceleratorName",
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "GpuInfo",
    "Price",
    "SpotPrice",
    "Region",
    "AvailabilityZone",
    "Arch",
    "LocalDiskType",
    "LocalDiskSize",
    "LocalDiskCount",
    "NVMeSupported",
    "MaximumEfaInterfaces",
]


def _gpu_info(name: str, count: int, gib: int) -> str:
    memory = {"SizeInMiB": gib * 1024}
    gpus = {"Gpus": [{"Name": name, "Count": count, "MemoryInfo": memory}], "TotalGpuMemoryInMiB": gib * 1024}
    return str(gpus) if name else ""


def _vms(cloud: str) -> list[Sequence[object]]:
    lines: list[Sequence[object]] = []

    def add(machine: list[object], gpu: list[object], price: float, spot: float) -> None:
        instance, vcpus, memory = machine
        for at, region in enumerate(REGIONS[cloud]):
            zone = region + ("a" if cloud == "aws" else "-a")
            prices = [round(price * (1 + at / 10), 4), round(spot * (1 + at / 10), 4)]
            columns: list[object] = [
                instance,
                *gpu[:2],
                vcpus,
                memory,
                gpu[2],
                *prices,
                region,
                zone,
                "x86_64",
            ]
            lines.append(columns + [""] * (len(COLUMNS) - len(columns)))

    for row in ROWS:
        if row.cloud == cloud:
            # GCP prices host and GPU apart: the host's row names no accelerator
            info = _gpu_info(row.gpu, row.gpus, row.gpu_gib)
            gpu: list[object] = [row.gpu, row.gpus or "", info] if cloud == "aws" else ["", "", ""]
            add([row.instance, row.vcpus, row.memory], gpu, row.price, row.spot)
    if cloud == "gcp":
        for name, (price, spot) in GCP_GPU_PRICES.items():
            add(["", "", ""], [name, 1, ""], price, spot)
    return lines


def seed_catalogs(home: Path) -> Path:
    """Write the price lists where a SkyPilot with this HOME looks. Without .meta/*.md5 they are never fetched."""
    root = home / ".sky" / "catalogs" / SCHEMA
    tables: dict[str, list[Sequence[object]]] = {
        "aws/vms.csv": [COLUMNS, *_vms("aws")],
        "gcp/vms.csv": [COLUMNS, *_vms("gcp")],
        "aws/images.csv": [["Tag", "Region", "OS", "OSVersion", "ImageId", "CreationDate", "BaseImageId"]],
        "gcp/images.csv": [["Tag", "Region", "OS", "OSVersion", "ImageId", "CreationDate", "BaseImageId"]],
        "aws/instance_quota_mapping.csv": [["InstanceType", "OnDemandInstanceCode", "SpotInstanceCode"]],
        "gcp/accelerator_quota_mapping.csv": [["Accelerator", "OnDemandInstanceCode", "SpotInstanceCode"]],
        "common/accelerators.csv": [["AcceleratorName", "Clouds"]],
        "common/metadata.csv": [["GPU", "MemoryGB", "Manufacturer"]],
    }
    for gpu, gib in {row.gpu: row.gpu_gib for row in ROWS if row.gpu}.items():
        clouds = sorted({row.cloud.upper() for row in ROWS if row.gpu == gpu})
        tables["common/accelerators.csv"].append([gpu, clouds])
        tables["common/metadata.csv"].append([gpu, gib, "NVIDIA"])
    for name, lines in tables.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    return root
