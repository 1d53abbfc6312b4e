"""Safetensors files on their way to another dtype, tensor by tensor, so that no model has to fit into memory.

The format is a header's length, a JSON header, and the tensors' bytes; the numbers are rounded to the nearest, ties to
even, as torch's own casts do.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""The spec's dtypes → safetensors'."""
SIZES = {"BF16": 2, "F16": 2, "F32": 4}
MAX_HEADER = 100_000_000
UNUSED = ("lm_head.",)
"""Beginnings of names of tensors that an embedding never uses."""


@dataclass(frozen=True)
class Tensor:
    """Of a file's header."""

    name: str
    dtype: str
    shape: list[int]
    begin: int
    end: int


def tensors_of(path: Path) -> tuple[list[Tensor], int]:
    """The tensors in the order of their bytes, and where those begin. Raises ValueError where it is no such file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(min(length, MAX_HEADER)))
        header.pop("__metadata__", None)
        found = [Tensor(name, one["dtype"], one["shape"], *one["data_offsets"]) for name, one in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    if path.stat().st_size != 8 + length + max((one.end for one in found), default=0):
        raise ValueError(f"{path} is cut off: its header tells of other bytes")
    return sorted(found, key=lambda one: one.begin), 8 + length


def convert(source: Path, target: Path, dtype: str, tell: Callable[[int], object] = lambda _: None) -> dict[str, int]:
    """Writes a copy in the spec's dtype, without what embedding does not use; bytes of each tensor that it holds.

    Tensors of whole numbers, and those of a dtype that is not cast, stay as they are.
    """
    tensors, start = tensors_of(source)
    kept = [one for one in tensors if not one.name.startswith(UNUSED)]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    sizes: dict[str, int] = {}
    at = 0
    for one in kept:
        wanted = NAMES[dtype] if one.dtype in SIZES else one.dtype
        size = (one.end - one.begin) * SIZES.get(wanted, 1) // SIZES.get(one.dtype, 1)
        header[one.name] = {"dtype": wanted, "shape": one.shape, "data_offsets": [at, at + size]}
        sizes[one.name], at = size, at + size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as data, target.open("wb") as sink:
        sink.write(len(text).to_bytes(8, "little") + text)
        for one in kept:
            data.seek(start + one.begin)
            raw = data.read(one.end - one.begin)
            sink.write(cast(raw, one.dtype, header[one.name]["dtype"]))
            tell(len(raw))
        sink.flush()
        os.fsync(sink.fileno())
    return sizes


def cast(raw: bytes, source: str, target: str) -> bytes:
    """The same numbers in another dtype."""
    if source == target:
        return raw
    if source == "BF16":
        wide = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    else:
        wide = np.frombuffer(raw, "<f2" if source == "F16" else "<f4").astype("<f4")
    if target == "F32":
        return wide.tobytes()
    if target == "F16":
        with np.errstate(over="ignore"):
            return wide.astype("<f2").tobytes()
    bits = wide.view("<u4")
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(wide), (bits >> 16) | 0x40, rounded).astype("<u2").tobytes()
