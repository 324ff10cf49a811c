"""The seed's migration script: the ORM, one KMS call a row, one commit at the end."""

from __future__ import annotations

import json
import os
import sys
import time

import boto3
from sqlalchemy import LargeBinary, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The seed's models."""


class EncryptedFile(Base):
    """The seed's table."""

    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)
    encryption_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    wrapped_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    wrapped_key_version: Mapped[str | None] = mapped_column(String(10))
    kek_id: Mapped[str | None] = mapped_column(String(255))


def main() -> None:
    """Wrap every row as the seed does."""
    kek = os.environ["BENCH_KEK"]
    kms = boto3.client("kms")
    engine = create_engine(os.environ["BENCH_DATABASE_URL"])
    started = time.monotonic()
    with Session(engine) as session:
        files = session.scalars(
            select(EncryptedFile).where(EncryptedFile.encryption_key.is_not(None))
        ).all()
        for file in files:
            answer = kms.encrypt(KeyId=kek, Plaintext=file.encryption_key or b"")
            file.wrapped_key = answer["CiphertextBlob"]
            file.wrapped_key_version = "V1"
            file.kek_id = kek
            session.add(file)
        session.commit()
    result = {"seconds": time.monotonic() - started, "kms_calls": {"Encrypt": len(files)}}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
