"""Small pictures for the Dagster UI: SVG as data images in markdown, readable on light and dark."""

import base64
import math
from collections.abc import Sequence
from html import escape

BLUE, ORANGE, GREY = "#4f7cff", "#e8590c", "#868e96"
POINTS = 60
"""Values that a sparkline shows; the last ones of a longer series."""
MARGIN = 24
"""Of a histogram, for half of the label of its first and of its last edge."""


def image(svg: str, alt: str) -> str:
    """Markdown of a picture. `alt` is what is read where there is none."""
    encoded = base64.b64encode(svg.encode()).decode()
    words = "".join(" " if char in "[]()\n" else char for char in alt)
    return f"![{words}](data:image/svg+xml;base64,{encoded})"


def sparkline(values: Sequence[float], width: int = 300, height: int = 44) -> str:
    """Bars of a series from 0 up, the last one marked. Raises ValueError where there is no value."""
    shown = [max(0.0, value) if math.isfinite(value) else 0.0 for value in values][-POINTS:]
    if not shown:
        raise ValueError("a sparkline needs a value")
    top = max(shown) or 1.0
    step = min(width / len(shown), 12.0)
    bars = []
    for at, value in enumerate(shown):
        high = max(1.0, value / top * (height - 2))
        colour = ORANGE if at == len(shown) - 1 else BLUE
        bars.append(_bar(at * step, height - high, max(step - 1, 1), high, colour))
    return _svg(width, height, bars)


def histogram(edges: Sequence[float], counts: Sequence[int], unit: str, width: int = 480, height: int = 150) -> str:
    """Bars of `counts[i]` from `edges[i]` to `edges[i + 1]`, with the edges written below."""
    if len(edges) != len(counts) + 1:
        raise ValueError(f"{len(counts)} bars need {len(counts) + 1} edges, not {len(edges)}")
    top, step, floor = max(counts, default=0) or 1, (width - 2 * MARGIN) / max(len(counts), 1), height - 30
    parts = []
    for at, number in enumerate(counts):
        high = number / top * (floor - 14)
        parts.append(_bar(MARGIN + at * step, floor - high, step - 2, high, BLUE))
        if number:
            parts.append(_text(MARGIN + at * step + step / 2, floor - high - 3, f"{number:,}", 8))
    every = max(1, math.ceil(len(edges) / 10))
    labels = [(MARGIN + at * step, f"{edge:,.0f}") for at, edge in enumerate(edges) if at % every == 0]
    parts += [_text(x, floor + 11, label, 9) for x, label in labels]
    parts.append(_text(width / 2, height - 4, unit, 10))
    return _svg(width, height, parts)


def log_bins(values: Sequence[float], bins: int = 16) -> tuple[list[float], list[int]]:
    """Edges that double (or finer), and how many of the values lie between them; values of 1 and more."""
    low, high = max(1.0, min(values)), max(2.0, *values)
    first, last = math.floor(math.log2(low)), math.floor(math.log2(high)) + 1
    step = max(1, math.ceil((last - first) / bins))
    powers = list(range(first, last + step, step))
    counts = [0] * (len(powers) - 1)
    for value in values:
        counts[min(int((math.log2(max(value, 1.0)) - first) // step), len(counts) - 1)] += 1
    return [2.0**power for power in powers], counts


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, size: int) -> str:
    style = f'font-size="{size}" font-family="sans-serif" fill="{GREY}" text-anchor="middle"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>'
