"""The report's charts, as SVG. Colours come from the page's style, by class."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from dekctl.report.html import tag

WIDTH = 760
LABELS = 250
BAR = 20
STEP = 30
CHARACTER = 6.6
"""Approximate width of a label's character."""


def bars(title: str, entries: Sequence[tuple[str, int, str]], unit: str = "") -> Element:
    """Horizontal bars: label, value and class. Labels that are too long are cut."""
    most = max([value for _, value, _ in entries], default=0) or 1
    space = WIDTH - LABELS - 130
    parts: list[Element] = [tag("title", title)]
    for i, (label, value, kind) in enumerate(entries):
        y = i * STEP + 4
        width = max(1.0 if value else 0.0, space * value / most)
        parts += [
            tag("text", _cut(label), x=LABELS - 10, y=y + 15, text_anchor="end"),
            tag("rect", x=LABELS, y=y, width=f"{width:.1f}", height=BAR, klass=kind),
            tag("text", f"{value:,}{unit}", x=f"{LABELS + width + 8:.1f}", y=y + 15),
        ]
    return _svg(title, len(entries) * STEP + 8, parts)


def stack(title: str, entries: Sequence[tuple[str, int, str]]) -> Element:
    """One bar divided into parts, with a legend of each part's value and share."""
    total = sum(value for _, value, _ in entries) or 1
    parts: list[Element] = [tag("title", title)]
    x = 0.0
    for label, value, kind in entries:
        width = WIDTH * value / total
        if value:
            piece = tag("rect", x=f"{x:.1f}", y=0, width=f"{width:.1f}", height=28, klass=kind)
            piece.append(tag("title", f"{label}: {value:,}"))
            parts.append(piece)
        x += width
    for i, (label, value, kind) in enumerate(entries):
        left, y = (i % 2) * WIDTH // 2, 44 + (i // 2) * 22
        parts += [
            tag("rect", x=left, y=y, width=12, height=12, klass=kind),
            tag("text", f"{label}: {value:,} ({value / total:.1%})", x=left + 20, y=y + 11),
        ]
    return _svg(title, 44 + (len(entries) + 1) // 2 * 22, parts)


def _svg(title: str, height: int, parts: Sequence[Element]) -> Element:
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_label=title,
    )


def _cut(label: str) -> str:
    room = int((LABELS - 10) / CHARACTER)
    return label if len(label) <= room else "…" + label[-room + 1 :]
