"""One descriptor that keeps others open: bubblewrap keeps no more than one for a sandbox."""

from __future__ import annotations

import socket
from collections.abc import Sequence

__all__ = ["bundle"]


def bundle(descriptors: Sequence[int]) -> int:
    """A descriptor; what those refer to stays open until the last copy of it is closed.

    They are messages that nobody takes out of a socket. Source: unix(7), SCM_RIGHTS.
    """
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        for descriptor in descriptors:
            socket.send_fds(sender, [b"\0"], [descriptor])
        return receiver.detach()
