"""Which addresses a server listens on, as the operating system tells it."""

from __future__ import annotations

import contextlib
import ipaddress
import subprocess
import sys
from pathlib import Path

from sandbox.process import SandboxError

PROC = Path("/proc")
LISTEN = "0A"  # the state's code in /proc/net/tcp


def listening_addresses(session: int) -> list[str]:
    """Where the processes of a session accept TCP connections, as ``ADDRESS:PORT``.

    Args:
        session: process id of the session's leader, which every ServerProcess is.

    Raises:
        SandboxError: the operating system does not tell.
    """
    return _from_proc(session) if sys.platform == "linux" else _from_lsof(session)


def is_loopback(listener: str) -> bool:
    """Whether only this machine reaches an ``ADDRESS:PORT``."""
    host = listener.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # lsof writes * for all addresses
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def _from_proc(session: int) -> list[str]:
    inodes = _socket_inodes(session)
    found = []
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                found.append(f"{_decode(address)}:{int(port, 16)}")
    return sorted(found)


def _socket_inodes(session: int) -> set[str]:
    inodes = set()
    for process in PROC.glob("[0-9]*"):
        try:
            # The name, in parentheses, may hold anything; state, parent, group, session follow it.
            stat = (process / "stat").read_text().rpartition(")")[2].split()
            if int(stat[3]) != session:
                continue
            descriptors = list((process / "fd").iterdir())
        except OSError:
            continue  # it ended meanwhile
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # closed meanwhile
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    return inodes


def _decode(text: str) -> str:
    """An address of /proc/net/tcp: 32-bit words in hexadecimal, in the machine's byte order."""
    words = (text[start : start + 8] for start in range(0, len(text), 8))
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    address = ipaddress.ip_address(packed)
    return f"[{address}]" if address.version == 6 else str(address)


def _from_lsof(session: int) -> list[str]:
    # The leader of a session leads its process group too, by which lsof selects.
    command = ["lsof", "-a", "-nP", "-iTCP", "-sTCP:LISTEN", "-Fn", "-g", str(session)]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        raise SandboxError("lsof is missing: cannot tell where the server listens") from None
    return sorted({line[1:] for line in output.splitlines() if line.startswith("n")})
