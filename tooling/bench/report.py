"""The benchmark's table and chart, for ``docs/performance.md``."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from html import escape

from bench.measure import Measurement

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"
QUOTA = 10_000.0
"""KMS calls a second that AWS allows by default; half of it is left to the application."""
BAR_HEIGHT = 22
WIDTH = 760
LEFT = 250
COLOURS = {"before": "#9aa4af", "limit": "#c9b458", "dekctl": "#2f6f9f"}


def table(groups: Sequence[tuple[str, Sequence[Measurement]]], seed: str, boto: str) -> str:
    """A Markdown table of every measurement, with ratios to two of them."""
    found = {m.name: m for _, measurements in groups for m in measurements}
    lines = [
        "| | rows | rows/s | rows/CPU-s | peak MB | KMS calls | times seed | times boto3 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for title, measurements in groups:
        lines.append(f"| **{title}** | | | | | | | |")
        for m in measurements:
            lines.append(
                f"| {m.name} | {m.rows:,} | {m.rate:,.0f} | {m.per_cpu_second:,.0f} "
                f"| {m.peak_mb:,.0f} | {_calls(m)} | {m.rate / found[seed].rate:,.1f} "
                f"| {m.rate / found[boto].rate:,.1f} |"
            )
    return "\n".join(lines)


def _calls(m: Measurement) -> str:
    calls = m.result.get("kms_calls")
    return f"{sum(calls.values()):,}" if calls is not None else ""


def growth(measurements: Sequence[Measurement]) -> str:
    """How time and memory grow with the table."""
    lines = [
        "| | rows | seconds | rows/s | peak MB | first line after |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for m in measurements:
        first = f"{m.first_line_seconds:.2f} s" if m.first_line_seconds is not None else ""
        lines.append(
            f"| {m.name} | {m.rows:,} | {m.seconds:,.1f} | {m.rate:,.0f} | {m.peak_mb:,.0f} "
            f"| {first} |"
        )
    return "\n".join(lines)


def on_paper(v2: float, v3: float) -> str:
    """Hours for large tables at the measured rates (rows a second, one process)."""
    shared = min(v2, QUOTA / 2)
    lines = [
        f"| rows | V2 at {v2:,.0f} rows/s | V2 at half the default quota | V2 costs "
        f"| V3 at {v3:,.0f} rows/s | V3 costs |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for power in range(4, 10):
        rows = 10**power
        lines.append(
            f"| 10^{power} | {_time(rows / v2)} | {_time(rows / shared)} | {_cents(rows * 3e-6)} "
            f"| {_time(rows / v3)} | {_cents(math.ceil(rows / 10_000) * 3e-6)} |"
        )
    return "\n".join(lines)


def _cents(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars >= 0.01 else "under 1 cent"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def machine(latency: float | None) -> str:
    """What the figures were measured on; ``latency`` of KMS in seconds, None where it is unused."""
    load = os.getloadavg()[0]
    kms = f"; the stand-in answers after {latency * 1000:g} ms over TLS" if latency else ""
    servers = "PostgreSQL and the KMS stand-in" if latency else "the database"
    return (
        f"{os.cpu_count()} processors ({platform.machine()}), shared by client, {servers}; Python "
        f"{platform.python_version()}{kms}; load before the run {load:.1f}."
    )


def chart(bars: Sequence[tuple[str, float, str]], title: str) -> str:
    """An SVG of horizontal bars on a logarithmic scale: name, rows a second, kind."""
    most = max(rate for _, rate, _ in bars)
    least = min(rate for _, rate, _ in bars) / 2
    height = 60 + len(bars) * (BAR_HEIGHT + 8)
    scale = (WIDTH - LEFT - 90) / math.log(most / least)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="15" fill="#222222">{escape(title)}</text>',
    ]
    for i, (name, rate, kind) in enumerate(bars):
        y = 46 + i * (BAR_HEIGHT + 8)
        width = max(2.0, scale * math.log(rate / least))
        parts += [
            f'<text x="{LEFT - 10}" y="{y + 16}" text-anchor="end" fill="#222222">'
            f"{escape(name)}</text>",
            f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" '
            f'fill="{COLOURS[kind]}"/>',
            f'<text x="{LEFT + width + 8:.1f}" y="{y + 16}" fill="#222222">{rate:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def lines(series: dict[str, list[tuple[float, float]]], *, most: float, title: str) -> str:
    """An SVG of lines over seconds, up to ``most``; each has its (second, value) pairs."""
    height, left, colours = 300, 60, ("#2f6f9f", "#c9b458", "#b03a2e")
    end = max(at for points in series.values() for at, _ in points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 60}" '
        f'font-family="sans-serif" font-size="13" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height + 60}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="15" fill="#222222">{escape(title)}</text>',
    ]
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = height - part * (height - 50)
        parts.append(
            f'<path d="M{left} {y:.0f}H{WIDTH - 20}" stroke="#dddddd"/><text x="{left - 8}" '
            f'y="{y + 5:.0f}" text-anchor="end" fill="#222222">{part * most:,.0f}</text>'
        )
    for i, ((name, points), colour) in enumerate(zip(series.items(), colours, strict=False)):
        path = " ".join(
            f"{left + at / end * (WIDTH - left - 20):.1f},"
            f"{height - min(1.0, value / most) * (height - 50):.1f}"
            for at, value in points
        )
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{left + i * 150}" y="{height + 45}" fill="{colour}">{escape(name)}</text>',
        ]
    parts.append(
        f'<text x="{WIDTH - 20}" y="{height + 20}" text-anchor="end" fill="#222222">'
        f"{end:,.0f} s</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


def put_between_marks(document: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """Replace what stands between the two marks of a document.

    Raises:
        ValueError: a mark is missing.
    """
    head, found, rest = document.partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"the document has no {begin} … {end}")
    return f"{head}{begin}\n{text}\n{end}{tail}"
