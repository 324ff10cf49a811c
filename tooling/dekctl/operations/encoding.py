"""Looks at some plaintexts before the first write: are they in the configured encoding?

A wrong setting need not fail. The base64 or hex text of a 128-bit key has the length of a raw key
of 192 or 256 bits, and would be wrapped as that.
"""

from __future__ import annotations

from collections import Counter

from dekctl.config import Encoding
from dekctl.db.key_text import form_of
from dekctl.db.plaintext import encoding_hint, key_reader
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError, RowRejectedError

SAMPLE_ROWS = 1000
TOLERATED = 0.25
"""Where at most this part is in another form, those rows are damaged and no setting is wrong."""


def refuse_other_encoding(table: DekTable) -> None:
    """Refuse a table whose plaintexts are in another encoding than the configured one.

    Raises:
        RefusedError: more than a quarter of the first 1,000 rows are.
        DatabaseError: the database refused or cannot be reached.
    """
    if not table.has("plaintext"):
        return
    config, as_text = table.config, table.plaintext_is_text
    read = key_reader(config.plaintext_encoding, config.dek_bytes, as_text=as_text)
    others: Counter[Encoding] = Counter()
    stored = table.first_plaintexts(SAMPLE_ROWS)
    for plaintext in stored:
        try:
            read(plaintext)
        except RowRejectedError:
            form = form_of(plaintext, config.dek_bytes)
            if form is not None and form != config.plaintext_encoding:
                others[form] += 1
    for other, rows in others.most_common(1):
        if rows > TOLERATED * len(stored):
            raise RefusedError(
                f"plaintexts of {config.name} look like {other}, but plaintext_encoding is "
                f'"{config.plaintext_encoding}": {rows:,} of the first {len(stored):,}',
                hint=encoding_hint(other, config.plaintext_encoding),
            )
