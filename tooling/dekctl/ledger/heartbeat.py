"""The heartbeat by which others see that a run is alive."""

from __future__ import annotations

import threading

from dekctl.errors import DatabaseError, DekctlError
from dekctl.ledger.ledger import Ledger
from dekctl.ledger.run import Run

HEARTBEAT_SECONDS = 3.0


class Heartbeat:
    """Renews a run's heartbeat in its own thread while the ``with`` block lasts.

    ``lost`` is the error when another process has marked the run as abandoned; the engine checks it
    between batches.
    """

    def __init__(self, ledger: Ledger, run: Run) -> None:
        self.lost: DekctlError | None = None
        self._ledger = ledger
        self._run = run
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="dekctl-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                self._ledger.beat(self._run)
            except DatabaseError:
                continue  # the engine will meet the same error and report it
            except DekctlError as error:
                self.lost = error
                return
