"""What the wrapped keys of a table are bound to: its context name, and how its primary key reads.

A wrapped key can only be decrypted while both stay as they were. The ledger keeps them, and before
each command they are compared with the table as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dekctl.db.shape import TableShape


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the primary key, and the form in which its values become text.

    Columns of one form read the same: an INTEGER may become a BIGINT. ``labels`` are those of an
    enumeration; more may be added.
    """

    name: str
    form: str
    labels: tuple[str, ...] = ()

    def reads_like(self, other: KeyColumn) -> bool:
        """Whether values that were read as ``other`` still read the same."""
        return self.form == other.form and set(other.labels) <= set(self.labels)

    def __str__(self) -> str:
        labels = f" ({', '.join(self.labels)})" if self.labels else ""
        return f"{self.name} {self.form}{labels}"


@dataclass(frozen=True, slots=True)
class Binding:
    """What the rows of a table are bound to; ``table`` is the table's name, for people."""

    table: str
    context_name: str
    key: tuple[KeyColumn, ...]

    @classmethod
    def of(cls, table: TableShape) -> Binding:
        """The binding of a table as it is configured and described now."""
        config = table.config
        key = tuple(_key_column(name, table.columns[name].type) for name in config.primary_key)
        return cls(config.name, config.context_name, key)

    @classmethod
    def parse(cls, saved: Any) -> Binding | None:
        """A binding as :meth:`as_json` wrote it; None for anything else."""
        try:
            key = tuple(
                KeyColumn(str(c["name"]), str(c["form"]), tuple(map(str, c.get("labels", ()))))
                for c in saved["key"]
            )
            return cls(str(saved["table"]), str(saved["context_name"]), key)
        except (AttributeError, KeyError, TypeError):
            return None

    def as_json(self) -> dict[str, Any]:
        """The form in which the ledger keeps it."""
        key: list[Mapping[str, Any]] = [
            {"name": c.name, "form": c.form, **({"labels": list(c.labels)} if c.labels else {})}
            for c in self.key
        ]
        return {"table": self.table, "context_name": self.context_name, "key": key}

    def key_reads_like(self, other: Binding) -> bool:
        """Whether every primary key still has the text that it had under ``other``."""
        return len(self.key) == len(other.key) and all(
            now.reads_like(then) for now, then in zip(self.key, other.key, strict=True)
        )

    def shown_key(self) -> str:
        """The primary key, for people."""
        return ", ".join(map(str, self.key))


def _key_column(name: str, kind: sa.types.TypeEngine[Any]) -> KeyColumn:
    labels: Sequence[str] = kind.enums if isinstance(kind, sa.Enum) else ()
    return KeyColumn(name, _form(kind), tuple(labels))


def _form(kind: sa.types.TypeEngine[Any]) -> str:
    """How :func:`dekctl.kms.context.key_part_text` writes values of this type."""
    inner = getattr(kind, "data_type", None)
    if isinstance(inner, sa.types.TypeEngine):  # a domain reads as what it is made of
        return _form(inner)
    length = getattr(kind, "length", None)
    zone = " with time zone" if getattr(kind, "timezone", False) else ""
    match kind:
        case sa.Integer() | sa.Numeric():
            return "number"  # 1 and 1.00 read the same
        case sa.Enum():
            return "enum"
        case sa.Uuid():
            return "uuid"
        case sa.CHAR() | sa.BINARY():  # some databases pad them
            return f"{'char' if isinstance(kind, sa.CHAR) else 'binary'}({length or 1})"
        case sa.String():
            return "text"
        case sa.types._Binary():
            return "binary"
        case sa.DateTime():
            return f"timestamp{zone}"
        case sa.Date():
            return "date"
        case sa.Time():
            return f"time{zone}"
        case _:
            return type(kind).__name__.lower()
