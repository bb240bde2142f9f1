"""Ports of this machine: which are free, who holds one, and reserving one for good."""

from __future__ import annotations

import os
import socket
import zlib
from pathlib import Path

from ci.errors import CiError

__all__ = ["BusyPort", "Ports", "holder", "is_free"]

#: Below the range that the kernel takes the ports of outgoing connections from.
_RANGE = range(20000, 30000)
_LISTEN = "0A"


class BusyPort(CiError):
    """Somebody else listens there."""

    def __init__(self, port: int, environment: str, holder: str) -> None:
        super().__init__(
            f"port {port} of environment {environment} is busy",
            got=f"held by {holder}" if holder else "held by a process that this user cannot see",
            expected="a free port",
            hint=f"stop that process, or set another port for {environment} in ci.toml",
        )


def is_free(port: int) -> bool:
    """Nobody listens on 127.0.0.1 or on all addresses.

    Caddy shares ports with other listeners of its user (SO_REUSEPORT), so it must be asked before.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """``command (pid N)`` of who listens on the port; empty where it cannot be known."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(descriptor.readlink()) in sockets:
                process = descriptor.parent.parent
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:  # it ended, or is another user's
            continue
    return ""


def _listening_inodes(port: int) -> list[str]:
    """By proc(5): local address, state and inode are columns 1, 3 and 9."""
    found = []
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        rows = (line.split() for line in lines)
        found += [
            r[9] for r in rows if r[3] == _LISTEN and int(r[1].rpartition(":")[2], 16) == port
        ]
    return found


class Ports:
    """Hands out ports that no other environment of this user was given.

    A reservation is a file named by the port, which holds the path of the file that needs it; it
    ends when that file is gone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reserve(self, owner: Path) -> int:
        """A free port for as long as ``owner`` exists (it may be made shortly after).

        Raises:
            CiError: there is none left.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        start = zlib.crc32(os.fsencode(owner)) % len(_RANGE)
        for offset in range(len(_RANGE)):
            port = _RANGE[(start + offset) % len(_RANGE)]
            if self._claim(port, owner):
                if is_free(port):
                    return port
                self.release(port)
        raise CiError("no free port", expected=f"one from {_RANGE.start} to {_RANGE.stop - 1}")

    def release(self, port: int) -> None:
        """Give it back."""
        (self.folder / str(port)).unlink(missing_ok=True)

    def _claim(self, port: int, owner: Path) -> bool:
        file = self.folder / str(port)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as claim:
            claim.write(str(owner))
        return True

    def sweep(self, *, before: float) -> None:
        """End the reservations, made before that time of the epoch, whose owner is gone."""
        for file in self.folder.glob("[0-9]*"):
            try:
                old = file.stat().st_mtime < before
                if old and not Path(file.read_text()).exists():
                    file.unlink(missing_ok=True)
            except OSError:
                continue
