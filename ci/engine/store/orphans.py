"""Orphans: what a killed engine was about to start, and waits for it for ever.

bubblewrap's child dies with it, but not before it has asked the kernel for that: one whose parents
are killed in its first instant stays. It bears the name of who started it in its environment.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress

__all__ = ["OWNER", "end_orphans"]

#: The variable that names the owner; bubblewrap clears it before it runs anything.
OWNER = "TOWPATH_OWNER"


def end_orphans(place: str, living: Callable[[], Collection[str]]) -> None:
    """Kill what is of an owner ``PLACE:NAME`` whose name is not among the living."""
    found: dict[int, str] = {}
    try:
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError):
                    _look_at(name, f"{OWNER}={place}:".encode(), found)
        alive = living()  # asked after: an owner is known before it starts anything
        for fd, owner in found.items():
            if owner not in alive:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
    finally:
        for fd in found:
            os.close(fd)


def _look_at(pid: str, mark: bytes, found: dict[int, str]) -> None:
    with open(f"/proc/{pid}/environ", "rb") as file:
        if mark not in file.read():
            return
    fd = os.pidfd_open(int(pid))
    found[fd] = ""
    with open(f"/proc/{pid}/environ", "rb") as file:  # again: it is the one that is held now
        for variable in file.read().split(b"\0"):
            if variable.startswith(mark):
                found[fd] = os.fsdecode(variable.removeprefix(mark))
                return
    found.pop(fd)
    os.close(fd)
