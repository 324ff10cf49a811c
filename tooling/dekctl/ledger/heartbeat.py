"""Whether a run is alive: its heartbeat, and the process behind it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from dekctl.errors import DatabaseError, DekctlError

if TYPE_CHECKING:
    from dekctl.ledger.ledger import Ledger, Run

HEARTBEAT_SECONDS = 3.0


class Heartbeat:
    """Renews a run's heartbeat from a thread of its own while the ``with`` block lasts.

    ``lost`` is set to the error when the ledger says that the run is dead or cannot be reached;
    the engine looks at it between pages.
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
                continue  # the engine meets the same database and says so better
            except DekctlError as error:
                self.lost = error
                return


def this_machine() -> str:
    """What tells this machine's process numbers from others': its boot, and its PID namespace.

    Containers may share a host's name, and even a number, without seeing each other's processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return ""
    return f"{boot[:18]}/{namespace.removeprefix('pid:').strip('[]')}"


def process_started(pid: int) -> str | None:
    """When a process of this host started, in the host's own units; None where it is gone.

    Linux tells in ``/proc/PID/stat``, field 22 (proc(5)). Elsewhere only being alive is known.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
