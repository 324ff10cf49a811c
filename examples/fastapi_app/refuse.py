"""The files service after the migration: ``plaintext = "refuse"``, no plaintext in the model."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dekctl.config import load_config
from dekctl.errors import DatabaseError, KMSUnavailableError
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


def create_app() -> FastAPI:
    engine = create_async_engine(os.environ["DATABASE_URL"], hide_parameters=True)
    cache = KeyCache(max_age=60, max_entries=10_000, stale_if_unavailable=600)
    keys = RowKeys.from_config(load_config(), engine=engine, cache=cache)
    keys.check(File)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        keys.close()
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.exception_handler(KMSUnavailableError)
    @app.exception_handler(DatabaseError)
    async def try_again(_request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"error": "try again"}, 503, {"Retry-After": "5"})

    @app.get("/ready")
    def ready() -> dict[str, float]:
        return {"seconds": keys.ping()}  # without "async", FastAPI calls it in a thread

    @app.get("/files")
    async def names() -> dict[int, str]:
        async with AsyncSession(engine) as session:
            found = await session.execute(sa.select(File.id, File.filename).order_by(File.id))
            return {row.id: row.filename for row in found}

    @app.post("/files/{filename}")
    async def upload(filename: str, request: Request) -> dict[str, int]:
        content = await request.body()
        file = File(filename=filename, ciphertext=b"")
        async with AsyncSession(engine) as session, session.begin():
            session.add(file)
            await session.flush()  # the key is bound to the primary key
            file.ciphertext = encrypt(await keys.aissue(file), content)
            return {"id": file.id}

    @app.get("/files/{number}")
    async def download(number: int) -> Response:
        async with AsyncSession(engine) as session:
            file = await session.get_one(File, number)
        # The connection is back in the pool: nobody waits for it if KMS is slow.
        return Response(decrypt(await keys.aread(file), file.ciphertext))

    @app.put("/files/{number}")
    async def replace(number: int, request: Request) -> dict[str, int]:
        content = await request.body()
        async with AsyncSession(engine) as session, session.begin():
            file = await session.get_one(File, number, with_for_update=True)
            file.ciphertext = encrypt(await keys.aissue(file, replace=True), content)
        return {"id": number}

    return app
