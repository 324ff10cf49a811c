"""Builds HTML and SVG as a tree, so that the serializer escapes every text.

The standard library's ElementTree is enough for one page; a template engine would be another
dependency for everyone who wraps a key.
"""

from __future__ import annotations

from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

from dekctl.wording import printable

Part: TypeAlias = "Element | str | None"


def tag(name: str, /, *parts: Part, **attributes: object) -> Element:
    """Make an element. ``klass`` is the attribute ``class``; ``_`` in a name is written ``-``."""
    made = Element(
        name,
        {
            ("class" if key == "klass" else key.rstrip("_").replace("_", "-")): str(value)
            for key, value in attributes.items()
        },
    )
    for part in parts:
        append(made, part)
    return made


def append(parent: Element, part: Part) -> None:
    """Append an element or a text to a parent."""
    if part is None:
        return
    if isinstance(part, Element):
        parent.append(part)
        return
    part = printable(part, lines=True)
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + part
    else:
        parent.text = (parent.text or "") + part


def table(caption: str, head: list[str], rows: list[list[str]], numbers: set[int]) -> Element:
    """A table of texts; ``numbers`` are the right-aligned columns."""

    def cells(name: str, texts: list[str]) -> list[Element]:
        return [
            tag(name, text, **({"klass": "number"} if i in numbers else {}))
            for i, text in enumerate(texts)
        ]

    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *cells("th", head))),
        tag("tbody", *(tag("tr", *cells("td", row)) for row in rows)),
    )


def document(root: Element) -> str:
    """The text of a page."""
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"
