"""JSON files that prove themselves: the last key is a digest of the file's own bytes and of its place in the lake.

It finds damage and files that were moved, swapped or edited. It is no signature: who may write in the lake can
write a new one.
"""

import hashlib
import re
from typing import Any

import orjson

from embed_worker.lake.store import to_json

KEY = "digest"
_TAIL = re.compile(rb',\n  "digest": "([0-9a-f]{64})"\n}\Z')
_END = b"\n}"


class Damaged(ValueError):
    """The file is not JSON, or its digest is not that of its bytes at this place."""


def sealed(path: str, value: dict[str, Any]) -> bytes:
    """A JSON object with its digest as last key. `path` is relative to the lake."""
    body = to_json(value)
    return body.removesuffix(_END) + b',\n  "digest": "%s"\n}' % _digest(path, body).encode()


def unsealed(path: str, data: bytes) -> Any:
    """The value of a sealed file without its digest, or of one that never had any. Raises Damaged."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Damaged(f"is not JSON: {error}") from error
    if not isinstance(value, dict) or KEY not in value:
        return value  # written before format 1 had digests
    tail = _TAIL.search(data)
    if tail is None or tail[1].decode() != _digest(path, data[: tail.start()] + _END):
        raise Damaged("was changed, or belongs elsewhere and not here: its digest does not fit its bytes and its place")
    del value[KEY]
    return value


def _digest(path: str, body: bytes) -> str:
    return hashlib.sha256(path.encode() + b"\n" + body).hexdigest()
