"""The files service before dekctl: every row holds its data key as it is."""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flask import Flask, request
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class File(Base):
    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)
    filename: Mapped[str] = mapped_column(sa.String(100))
    ciphertext: Mapped[bytes]
    encryption_key: Mapped[bytes]


def encrypt(dek: bytes, content: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(dek).encrypt(nonce, content, None)


def decrypt(dek: bytes, ciphertext: bytes) -> bytes:
    return AESGCM(dek).decrypt(ciphertext[:12], ciphertext[12:], None)


def create_app() -> Flask:
    app = Flask(__name__)
    engine = sa.create_engine(os.environ["DATABASE_URL"], hide_parameters=True)
    app.extensions["engine"] = engine

    @app.get("/files")
    def names() -> list[dict[str, Any]]:
        with Session(engine) as session:
            found = session.execute(sa.select(File.id, File.filename).order_by(File.id))
            return [{"id": row.id, "filename": row.filename} for row in found]

    @app.post("/files/<filename>")
    def upload(filename: str) -> dict[str, int]:
        dek = os.urandom(32)
        file = File(filename=filename, encryption_key=dek)
        file.ciphertext = encrypt(dek, request.get_data())
        with Session(engine) as session, session.begin():
            session.add(file)
            session.flush()
            return {"id": file.id}

    @app.get("/files/<int:number>")
    def download(number: int) -> bytes:
        with Session(engine) as session:
            file = session.get_one(File, number)
        return decrypt(file.encryption_key, file.ciphertext)

    @app.put("/files/<int:number>")
    def replace(number: int) -> dict[str, int]:
        with Session(engine) as session, session.begin():
            file = session.get_one(File, number, with_for_update=True)
            file.encryption_key = os.urandom(32)
            file.ciphertext = encrypt(file.encryption_key, request.get_data())
        return {"id": number}

    return app
