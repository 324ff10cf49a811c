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


def table(
    caption: str,
    head: list[str],
    rows: list[list[str]],
    numbers: set[int] | None = None,
    ids: set[int] | None = None,
    times: set[int] | None = None,
) -> Element:
    """A table of texts; on a narrow page each row becomes a card whose lines bear the heads.

    Args:
        caption: what it shows.
        head: the heads.
        rows: the texts.
        numbers: the columns that are aligned to the right.
        ids: the columns of identifiers; these alone may be broken anywhere, as they are no words.
        times: the columns that are never broken.
    """
    kinds = {"number": numbers or set(), "id": ids or set(), "time": times or set()}

    def kind(column: int) -> dict[str, str]:
        names = [name for name, columns in kinds.items() if column in columns]
        return {"klass": " ".join(names)} if names else {}

    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", text, **kind(i)) for i, text in enumerate(head)))),
        tag(
            "tbody",
            *(
                tag(
                    "tr",
                    *(tag("td", text, data_head=head[i], **kind(i)) for i, text in enumerate(row)),
                )
                for row in rows
            ),
        ),
    )


def document(root: Element) -> str:
    """The text of a page."""
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"
