"""Orphans: what a killed engine was about to start, and waits for it for ever.

bubblewrap's child dies with it, but not before it has asked the kernel for that: one whose parents
are killed in its first instant stays. It bears the name of who started it in its environment.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress

__all__ = ["OWNER", "end_orphans"]

#: The variable that names the owner; bubblewrap clears it before it runs anything.
OWNER = "TOWPATH_OWNER"


def end_orphans(owners: Collection[str]) -> None:
    """Kill whatever these owners, who are dead, left."""
    marks = {f"{OWNER}={owner}".encode() for owner in owners}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                fd = os.pidfd_open(int(name))
                try:
                    with open(f"/proc/{name}/environ", "rb") as file:
                        if not marks.isdisjoint(file.read().split(b"\0")):
                            signal.pidfd_send_signal(fd, signal.SIGKILL)
                finally:
                    os.close(fd)
