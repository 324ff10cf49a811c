"""The report's charts, as SVG without text: text is HTML beside them, so that it never shrinks.

Colours come from the page's style, by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from dekctl.report.html import tag

WIDTH, HEIGHT = 1000, 240


def stack(title: str, entries: Sequence[tuple[str, int, str]]) -> Element:
    """One bar divided into parts, and a legend with each part's value and share."""
    total = sum(value for _, value, _ in entries) or 1
    parts: list[Element] = [tag("title", title)]
    x = 0.0
    for label, value, kind in entries:
        width = WIDTH * value / total
        if value:
            piece = tag("rect", x=f"{x:.1f}", y=0, width=f"{width:.1f}", height=10, klass=kind)
            piece.append(tag("title", f"{label}: {value:,}"))
            parts.append(piece)
        x += width
    legend = [
        tag(
            "li",
            _swatch(kind),
            tag("span", f"{label}: {value:,} ({value / total:.1%})"),
        )
        for label, value, kind in entries
    ]
    return tag("figure", _svg(title, 10, parts, "bar"), tag("ul", *legend, klass="legend"))


def steps(
    title: str, lines: Sequence[tuple[str, str, Sequence[tuple[float, int]]]], begin: str, end: str
) -> Element:
    """Lines over time, each a name, a class and points (time from 0 to 1, rows), as stairs.

    ``begin`` and ``end`` are the times at the left and at the right.
    """
    most = max([rows for _, _, points in lines for _, rows in points], default=0) or 1
    drawn: list[Element] = [tag("title", title)]
    for share in (0.0, 0.5, 1.0):
        y = f"{HEIGHT * share:.1f}"
        drawn.append(tag("line", x1=0, y1=y, x2=WIDTH, y2=y, klass="grid"))
    for _, kind, points in lines:
        path, rows = [f"M0 {HEIGHT}"], 0
        for at, rows in points:
            path.append(f"H{WIDTH * at:.1f} V{HEIGHT * (1 - rows / most):.1f}")
        path.append(f"H{WIDTH}")
        drawn.append(tag("path", d=" ".join(path), klass=f"line {kind}"))
    legend = [
        tag("li", _swatch(kind), tag("span", f"{name}: {points[-1][1] if points else 0:,} rows"))
        for name, kind, points in lines
    ]
    return tag(
        "figure",
        tag("p", f"{most:,} rows", klass="axis"),
        _svg(title, HEIGHT, drawn, "plot"),
        tag("p", tag("span", begin), tag("span", end), klass="axis ends"),
        tag("ul", *legend, klass="legend"),
    )


def _swatch(kind: str) -> Element:
    return _svg("", 10, [tag("rect", x=0, y=0, width=WIDTH, height=10, klass=kind)], "swatch")


def _svg(title: str, height: int, parts: Sequence[Element], klass: str) -> Element:
    hidden = {"role": "img", "aria_label": title} if title else {"aria_hidden": "true"}
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        preserveAspectRatio="none",
        klass=klass,
        **hidden,
    )
