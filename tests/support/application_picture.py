"""The picture of an application's move: where its keys came from, and how long requests took.

A column for each step: above, the share of reads by source; below, the median and the slowest
request on a logarithmic scale.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from html import escape

from support.files_load import Step

SOURCES = {
    "old version": ("plaintext, by the old version", "#9aa4af"),
    "plaintext": ("plaintext, by the reader", "#c9b458"),
    "kms": ("KMS", "#2f6f9f"),
    "cache": ("memory", "#7fb069"),
    "stale": ("memory, beyond its age while KMS is away", "#c8553d"),
}
"""By the name in ``RowKeys.stats()``; V3 rows are not part of the picture."""
COLUMN, LEFT, TOP, SHARE, GAP, LATENCY, NAMES = 24, 70, 82, 150, 26, 110, 190
FASTEST, SLOWEST = 0.001, 10.0
"""Seconds at the bottom and the top of the latencies."""


def picture(title: str, steps: Mapping[str, Step]) -> str:
    """Draw an SVG."""
    width = LEFT + COLUMN * len(steps) + 20
    low = TOP + SHARE + GAP
    height = low + LATENCY + NAMES
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(16, 24, title, size=15),
        *_legend(),
        _text(LEFT - 8, TOP + 10, "100 %", end=True),
        _text(LEFT - 8, TOP + SHARE, "0", end=True),
    ]
    for seconds, name in ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s")):
        y = _height(low, seconds)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{width - 20}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 8, y + 4, name, end=True))
    for i, (name, step) in enumerate(steps.items()):
        x = LEFT + COLUMN * i
        y = float(TOP + SHARE)
        total = sum(step.reads[source] for source in SOURCES)
        for source, (_, colour) in SOURCES.items():
            part = SHARE * step.reads[source] / total if total else 0.0
            y -= part
            if part:
                parts.append(_bar(x, y, part, colour))
        top, bottom = _height(low, statistics.median(step.latencies)), low + LATENCY
        parts.append(_bar(x, top, bottom - top, "#8fa8bf"))
        y = _height(low, max(step.latencies))
        parts.append(f'<circle cx="{x + COLUMN / 2 - 1}" cy="{y:.1f}" r="3" fill="#444444"/>')
        parts.append(_text(x + 14, bottom + 12, name, end=True, turned=True))
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> list[str]:
    parts, x = [], LEFT
    for text, colour in SOURCES.values():
        parts += [_bar(x, 40, 12, colour, 12), _text(x + 17, 50, text)]
        x += 34 + 6 * len(text)
    parts.append(_text(LEFT, 70, "Above: where the keys of reads came from. Below: the median of "
                       "all requests (bar) and the slowest one (dot)."))  # fmt: skip
    return parts


def _height(low: float, seconds: float) -> float:
    part = math.log(max(seconds, FASTEST) / FASTEST) / math.log(SLOWEST / FASTEST)
    return low + LATENCY * (1 - min(1.0, part))


def _bar(x: float, y: float, height: float, colour: str, width: float = COLUMN - 3) -> str:
    return f'<rect x="{x}" y="{y:.1f}" width="{width}" height="{height:.1f}" fill="{colour}"/>'


def _text(
    x: float, y: float, text: str, *, size: int = 12, end: bool = False, turned: bool = False
) -> str:
    anchor = ' text-anchor="end"' if end else ""
    turn = f' transform="rotate(-50 {x} {y})"' if turned else ""
    return (
        f'<text x="{x}" y="{y:.1f}" font-size="{size}" fill="#222222"{anchor}{turn}>'
        f"{escape(text)}</text>"
    )
