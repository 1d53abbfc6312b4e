"""The contestants in turn, the order reversed in every other round, and the medians of their ratios."""

import os
import statistics
import time
from collections.abc import Mapping
from typing import Any

from bench.worker.contestants import Contestant

Round = dict[str, Any]


def alternate(contestants: Mapping[str, Contestant], rounds: int) -> list[Round]:
    """Figures of each contestant in each round. Machines warm up and neighbours come and go: hence the turns."""
    found: list[Round] = []
    for number in range(rounds):
        names = list(contestants) if number % 2 == 0 else list(reversed(contestants))
        one: Round = {"load_at_start": round(os.getloadavg()[0], 1), "order": names}
        for name in names:
            begun = time.monotonic()
            one[name] = contestants[name]()
            rate = one[name].get("tokens_per_second")
            said = f"{rate:,.0f} tokens/s" if rate else f"{one[name]['flops'] / 1e9:,.0f} GFLOP/s"
            print(f"round {number + 1}: {name}: {said} ({time.monotonic() - begun:.0f} s in all)", flush=True)
        found.append(one)
    return found


def median(rounds: list[Round], name: str, key: str = "tokens_per_second") -> float | None:
    """None where the contestant did not run, or has no such figure."""
    values = [one[name][key] for one in rounds if key in one.get(name, {})]
    return statistics.median(values) if values else None


def ratio(rounds: list[Round], above: str, below: str, key: str = "tokens_per_second") -> float | None:
    """Median of the ratios within each round: a machine that slows down between rounds is in none of them."""
    found = [
        one[above][key] / one[below][key] for one in rounds if key in one.get(above, {}) and key in one.get(below, {})
    ]
    return round(statistics.median(found), 3) if found else None


def ratios(rounds: list[Round], flops_per_token: float) -> dict[str, float | None]:
    """The figures that the page tells."""
    busy = median(rounds, "worker", "busy")
    shares = [
        one["worker"]["tokens_per_second"] * flops_per_token / one["gemm"]["flops"]
        for one in rounds
        if "worker" in one and "gemm" in one
    ]
    return {
        "steady_over_bare": ratio(rounds, "worker", "bare"),
        "process_over_bare": ratio(rounds, "bare", "worker", "process_seconds"),
        "over_seed_loop": ratio(rounds, "worker", "seed_loop"),
        "over_sentence_transformers": ratio(rounds, "worker", "sentence_transformers"),
        "over_ray_data": ratio(rounds, "worker", "ray_data"),
        "process_over_ray_data": ratio(rounds, "ray_data", "worker", "process_seconds"),
        "share_of_gemm": round(statistics.median(shares), 3) if shares else None,
        "engine_busy": None if busy is None else round(busy, 4),
    }
