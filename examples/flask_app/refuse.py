"""The files service after the migration: ``plaintext = "refuse"``, no plaintext in the model."""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flask import Flask, request
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dekctl.config import load_config
from dekctl.errors import DatabaseError, DekctlError, KMSUnavailableError
from dekctl.reader import KeyCache, RowKeys, WrappedKeyColumns


class Base(DeclarativeBase):
    pass


class File(WrappedKeyColumns, Base):
    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)
    filename: Mapped[str] = mapped_column(sa.String(100))
    ciphertext: Mapped[bytes]


def encrypt(dek: bytes, content: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(dek).encrypt(nonce, content, None)


def decrypt(dek: bytes, ciphertext: bytes) -> bytes:
    return AESGCM(dek).decrypt(ciphertext[:12], ciphertext[12:], None)


def create_app() -> Flask:
    app = Flask(__name__)
    engine = sa.create_engine(os.environ["DATABASE_URL"], hide_parameters=True)
    cache = KeyCache(max_age=60, max_entries=10_000, stale_if_unavailable=600)
    keys = RowKeys.from_config(load_config(), engine=engine, cache=cache)
    keys.check(File)
    app.extensions |= {"engine": engine, "keys": keys}

    @app.errorhandler(KMSUnavailableError)
    @app.errorhandler(DatabaseError)
    def try_again(_: DekctlError) -> tuple[dict[str, str], int, dict[str, str]]:
        return {"error": "try again"}, 503, {"Retry-After": "5"}

    @app.get("/ready")
    def ready() -> dict[str, float]:
        return {"seconds": keys.ping()}

    @app.get("/files")
    def names() -> list[dict[str, Any]]:
        with Session(engine) as session:
            found = session.execute(sa.select(File.id, File.filename).order_by(File.id))
            return [{"id": row.id, "filename": row.filename} for row in found]

    @app.post("/files/<filename>")
    def upload(filename: str) -> dict[str, int]:
        file = File(filename=filename, ciphertext=b"")
        with Session(engine) as session, session.begin():
            session.add(file)
            session.flush()  # the key is bound to the primary key
            file.ciphertext = encrypt(keys.issue(file), request.get_data())
            return {"id": file.id}

    @app.get("/files/<int:number>")
    def download(number: int) -> bytes:
        with Session(engine) as session:
            file = session.get_one(File, number)
        # The connection is back in the pool: nobody waits for it if KMS is slow.
        return decrypt(keys.read(file), file.ciphertext)

    @app.put("/files/<int:number>")
    def replace(number: int) -> dict[str, int]:
        with Session(engine) as session, session.begin():
            file = session.get_one(File, number, with_for_update=True)
            file.ciphertext = encrypt(keys.issue(file, replace=True), request.get_data())
        return {"id": number}

    return app
