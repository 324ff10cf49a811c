"""An application at work: it uploads files and reads old ones while the KEK is rolled."""

from __future__ import annotations

import random
import threading
from typing import Any

import sqlalchemy as sa

from dekctl.reader import RowKeys
from support.app import Application
from support.waiting import eventually


class LiveApp:
    """Issues and reads data keys in a thread of its own while the ``with`` block lasts."""

    def __init__(self, app: Application, keys: RowKeys) -> None:
        self.app = app
        self.keys = keys
        self.table = app.now()
        self.reads = 0
        self.issued: dict[int, bytes] = {}
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)

    def __enter__(self) -> LiveApp:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for_reads(self, more: int) -> None:
        """Wait until it has read so many files more."""
        goal = self.reads + more
        assert eventually(lambda: self.reads >= goal), f"it stands still: {self.failures[:3]}"

    def _work(self) -> None:
        engine = sa.create_engine(self.app.database.url, hide_parameters=True)
        number = 1_000_000
        try:
            while not self._stop.is_set():
                number += 1
                try:
                    self._upload(engine, number)
                    self._read(engine)
                except Exception as error:
                    # Whatever it is, a user of the application would have seen it.
                    self.failures.append(f"{type(error).__name__}: {error}")
                self._stop.wait(0.4)  # leaves the processor to the others
        finally:
            engine.dispose()

    def _upload(self, engine: sa.Engine, number: int) -> None:
        row: dict[str, Any] = {"id": number, "filename": str(number), "ciphertext": b""}
        dek = self.keys.issue(row)
        with engine.begin() as connection:
            connection.execute(self.table.insert().values(row))
        self.issued[number] = dek

    def _read(self, engine: sa.Engine) -> None:
        old = [pk[0] for pk in self.app.deks]
        number = random.choice([*old, *list(self.issued)[-50:]])  # noqa: S311 - no secret
        with engine.connect() as connection:
            query = sa.select(self.table).where(self.table.c.id == number)
            row = dict(connection.execute(query).mappings().one())
        expected = self.issued.get(number) or self.app.deks[(number,)]
        if self.keys.read(row) != expected:
            self.failures.append(f"file {number} opened to another key")
        self.reads += 1
