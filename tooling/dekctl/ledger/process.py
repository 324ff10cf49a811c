"""Which process is behind a run: its machine, and when it started."""

from __future__ import annotations

import os
from pathlib import Path


def this_machine() -> str:
    """Identifies this machine's process ids: by its boot and its PID namespace; empty if unknown.

    Containers may share a host name, and even a process id, without seeing each other's processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return ""
    return f"{boot[:18]}/{namespace.removeprefix('pid:').strip('[]')}"


def process_started(pid: int) -> str | None:
    """When a process of this host started, in the host's own unit; None if it is gone.

    Linux reports it in ``/proc/PID/stat``, field 22 (proc(5)). Elsewhere the result is "alive".
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
