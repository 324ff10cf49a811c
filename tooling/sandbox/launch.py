"""Becomes the server: run as a script by :mod:`sandbox.process`, never imported.

It leaves root, asks Linux to end this process when the owner dies, and executes the server in its
own place. A fresh interpreter does this because code between fork and exec is not safe in a process
that has threads.

Arguments: owner's pid, signal number on the owner's death, uid, gid (-1 keeps them), the command.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by the command."""
    owner, death_signal, uid, gid = (int(value) for value in sys.argv[1:5])
    command = sys.argv[5:]
    os.umask(0o077)
    if uid >= 0:
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, because a change of user clears it. It survives the exec.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != owner:
        sys.exit("the owner of this server died before the server started")
    try:
        os.execvp(command[0], command)  # noqa: S606  (a list, no shell)
    except OSError as error:
        sys.exit(f"cannot execute {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
