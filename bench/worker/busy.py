"""How busy the engine was, from the trace that a worker leaves where EMBED_TRACE names a file."""

import json
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 220, 48, 28, 34
BINS = 60


@dataclass(frozen=True)
class Span:
    """Seconds from `begin` (monotonic clock) that the engine stepped ("step") or did not ("wait", "hold")."""

    begin: float
    kind: str
    seconds: float


def read_trace(path: Path) -> list[Span]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted((Span(one["t"], one["kind"], one["seconds"]) for one in lines), key=lambda span: span.begin)


def share(spans: list[Span]) -> float:
    """Share of the time from the first step's begin to the last one's end that the engine stepped.

    Raises ValueError where there is no step.
    """
    first, last, steps = _window(spans)
    return sum(span.seconds for span in steps) / (last - first)


def over_time(spans: list[Span], bins: int = BINS) -> list[float]:
    """The same in `bins` equal parts of that time."""
    first, last, steps = _window(spans)
    width = (last - first) / bins
    stepped = [0.0] * bins
    for span in steps:
        begin, end = span.begin - first, span.begin - first + span.seconds
        for index in range(int(begin / width), min(bins - 1, int(end / width)) + 1):
            stepped[index] += max(0.0, min(end, (index + 1) * width) - max(begin, index * width))
    return [min(1.0, one / width) for one in stepped]


def _window(spans: list[Span]) -> tuple[float, float, list[Span]]:
    steps = [span for span in spans if span.kind == "step"]
    if not steps:
        raise ValueError("the trace has no step of the engine")
    return steps[0].begin, max(span.begin + span.seconds for span in steps), steps


def plot(spans: list[Span], path: Path) -> None:
    """Draws the share over time as an SVG."""
    first, last, _ = _window(spans)
    values = over_time(spans)
    inner, tall = WIDTH - LEFT - 12, HEIGHT - TOP - BOTTOM
    step = inner / len(values)
    corners = " ".join(
        f"{LEFT + x * step:.1f},{TOP + tall * (1 - value):.1f}"
        for index, value in enumerate(values)
        for x in (index, index + 1)
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" fill="#222">Engine busy, share of each {(last - first) / len(values):.1f} s '
        f"({share(spans):.1%} of all)</text>",
    ]
    for part in (0, 0.25, 0.5, 0.75, 1):
        y = TOP + tall * (1 - part)
        lines.append(f'<path d="M{LEFT} {y:.1f}h{inner}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{part:.0%}</text>')
    for part in range(5):
        at = f"{(last - first) * part / 4:.0f} s"
        lines.append(f'<text x="{LEFT + inner * part / 4:.1f}" y="{HEIGHT - 12}" text-anchor="middle" '
                     f'fill="#555">{at}</text>')  # fmt: skip
    area = f"{LEFT},{TOP + tall} {corners} {LEFT + inner},{TOP + tall}"
    lines.append(f'<polygon points="{area}" fill="#2a78d6" fill-opacity="0.18"/>')
    lines.append(f'<polyline points="{corners}" fill="none" stroke="#2a78d6" stroke-width="1.5"/></svg>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
