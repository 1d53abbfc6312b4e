"""Secrets do not belong in addresses: those end up in manifests, logs and the Dagster UI."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

WORDS = ("secret", "password", "passwd", "token", "key", "signature", "credential")
_QUERY = {"sig", "pwd", "auth"}


def check_address(address: str) -> str:
    """The address as it is. Raises ValueError, without repeating it, where a part of a URL carries a secret."""
    for part in address.split("::"):
        if "://" not in part:
            continue
        url = urlsplit(part)
        if ":" in url.netloc.rpartition("@")[0]:
            raise ValueError("a URL with a password in it; secrets come from the environment (fsspec: FSSPEC_*)")
        if found := [name for name, _ in parse_qsl(url.query) if is_secret(name)]:
            raise ValueError(f"a URL with a secret in it ({found[0]}=…); secrets come from the environment")
    return address


def is_secret(name: str) -> bool:
    """Whether a setting of this name is likely to hold a secret."""
    lower = name.lower()
    return lower in _QUERY or any(word in lower for word in WORDS)


def secret_names(value: Any) -> list[str]:
    """Names of likely secrets in nested settings."""
    found: list[str] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += [str(name)] if is_secret(str(name)) else secret_names(inner)
    elif isinstance(value, list):
        found = [name for inner in value for name in secret_names(inner)]
    elif isinstance(value, str) and re.match(r"[a-z0-9+]+://[^/@]*:[^/@]*@", value):
        found = ["a URL with a password"]
    return found
