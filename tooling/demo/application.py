"""A small application that keeps encrypted files, as the seed describes it.

Before the migration each row holds its raw DEK. After it, the application reads with
:class:`dekctl.reader.RowKeys` and never sees where the key was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dekctl.errors import KMSError
from dekctl.reader import RowKeys

_NONCE_BYTES = 12


class Base(DeclarativeBase):
    """The application's models."""


class LegacyFile(Base):
    """The table as it is before the migration."""

    __tablename__ = "encrypted_files"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200), index=True)
    encryption_key: Mapped[bytes] = mapped_column(
        sa.LargeBinary().with_variant(sa.VARBINARY(32), "mysql"), nullable=False
    )
    ciphertext: Mapped[bytes] = mapped_column(
        sa.LargeBinary().with_variant(sa.VARBINARY(4096), "mysql"), nullable=False
    )
    sha256: Mapped[str] = mapped_column(sa.String(64), nullable=False)


def create_legacy_files(engine: sa.Engine, count: int) -> None:
    """Make the table and ``count`` files: a raw DEK in the row, real AES-256-GCM ciphertext."""
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for number in range(count):
            content = f"file {number}: ".encode() + os.urandom(200)
            key, nonce = AESGCM.generate_key(256), os.urandom(_NONCE_BYTES)
            session.add(
                LegacyFile(
                    name=f"file-{number}.bin",
                    encryption_key=key,
                    ciphertext=nonce + AESGCM(key).encrypt(nonce, content, None),
                    sha256=hashlib.sha256(content).hexdigest(),
                )
            )


def read_every_file(engine: sa.Engine, keys: RowKeys) -> int:
    """Decrypt every file with the key that ``keys`` gives, and check its content.

    Returns how many files were read. The table is reflected, so this works at every stage.

    Raises:
        AssertionError: a file's content is not what was stored.
        KMSError: a key could not be unwrapped.
    """
    count = 0
    for row in _rows(engine):
        stored = row["ciphertext"]
        nonce, sealed = stored[:_NONCE_BYTES], stored[_NONCE_BYTES:]
        try:
            content = AESGCM(keys.read(row)).decrypt(nonce, sealed, None)
        except KMSError as error:
            raise type(error)(f"file {row['id']}: {error.message}", hint=error.hint) from None
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise AssertionError(f"file {row['id']} does not decrypt to what was stored")
        count += 1
    return count


def _rows(engine: sa.Engine) -> Iterator[dict[str, Any]]:
    table = sa.Table("encrypted_files", sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        for row in connection.execute(sa.select(table).order_by(table.c.id)).mappings():
            yield dict(row)
