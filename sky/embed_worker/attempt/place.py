"""Where an attempt runs and what its machine costs, as far as the environment tells."""

import math
import os
from typing import Any

import orjson

CLUSTER = "SKYPILOT_CLUSTER_INFO"
"""SkyPilot's own: JSON with cloud, region and zone."""
PRICE = "EMBED_PRICE_PER_HOUR"
"""Dollars an hour of this machine, where whoever starts it knows them."""
SPOT = "EMBED_SPOT"
"""`1` or `0`: whether the machine is a spot machine. SkyPilot does not tell."""


def place() -> dict[str, Any]:
    """cloud, region, zone, spot, price_per_hour; a key that is not known is left out, never guessed."""
    found: dict[str, Any] = {}
    try:
        cluster = orjson.loads(os.environ.get(CLUSTER) or "{}")
    except orjson.JSONDecodeError:
        cluster = {}
    if isinstance(cluster, dict):
        found |= {key: str(cluster[key]) for key in ("cloud", "region", "zone") if cluster.get(key)}
    if os.environ.get(SPOT) in ("0", "1"):
        found["spot"] = os.environ[SPOT] == "1"
    try:
        price = float(os.environ.get(PRICE, ""))
    except ValueError:
        return found
    if math.isfinite(price) and price > 0:
        found["price_per_hour"] = price
    return found
