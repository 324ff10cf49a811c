"""The files service before dekctl: every row holds its data key as it is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import FastAPI, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


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


def create_app() -> FastAPI:
    engine = create_async_engine(os.environ["DATABASE_URL"], hide_parameters=True)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/files")
    async def names() -> dict[int, str]:
        async with AsyncSession(engine) as session:
            found = await session.execute(sa.select(File.id, File.filename).order_by(File.id))
            return {row.id: row.filename for row in found}

    @app.post("/files/{filename}")
    async def upload(filename: str, request: Request) -> dict[str, int]:
        dek = os.urandom(32)
        file = File(filename=filename, encryption_key=dek)
        file.ciphertext = encrypt(dek, await request.body())
        async with AsyncSession(engine) as session, session.begin():
            session.add(file)
            await session.flush()
            return {"id": file.id}

    @app.get("/files/{number}")
    async def download(number: int) -> Response:
        async with AsyncSession(engine) as session:
            file = await session.get_one(File, number)
        return Response(decrypt(file.encryption_key, file.ciphertext))

    @app.put("/files/{number}")
    async def replace(number: int, request: Request) -> dict[str, int]:
        content = await request.body()
        async with AsyncSession(engine) as session, session.begin():
            file = await session.get_one(File, number, with_for_update=True)
            file.encryption_key = os.urandom(32)
            file.ciphertext = encrypt(file.encryption_key, content)
        return {"id": number}

    return app
