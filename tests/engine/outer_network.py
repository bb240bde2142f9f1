"""``python -m tests.engine.outer_network [HELPER]``: what places of a network reach, as JSON.

HELPER is a program in place of ``netns.py``. This one plays the machine in a network namespace of
its own, whose only address beside the loopback is OUTSIDE, so that nothing real is reached and
nothing real reaches it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio

from ci.engine.services import network as network_module
from ci.engine.services.gateway import ROUTER
from ci.engine.services.network import Place, private_network

__all__ = ["join", "within"]

T = TypeVar("T")

#: For documentation: no host has it. Source: RFC 5737.
OUTSIDE = "192.0.2.1"
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_SIOCSIFADDR, _SIOCSIFFLAGS, _IFF_UP = 0x8916, 0x8914, 0x1
_libc = ctypes.CDLL(None, use_errno=True)


def within(place: Place, work: Callable[[], T]) -> T:
    """What the work gives in a thread that lives at the place."""
    results: list[T] = []

    def run() -> None:
        assert place.namespaces is not None
        join(place.namespaces.net)
        results.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def join(namespace: int) -> None:
    """Let this thread live in a namespace."""
    if _libc.setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _become_a_machine() -> None:
    flags = _CLONE_NEWNET | (0 if os.geteuid() == 0 else _CLONE_NEWUSER)
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
        address = struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(OUTSIDE))
        fcntl.ioctl(probe, _SIOCSIFADDR, struct.pack("16s16s8x", b"lo:1", address))


def _serve(address: str, text: bytes) -> int:
    """A TCP server that sends a text, and a UDP one that answers with it; the port of both."""
    tcp = socket.create_server((address, 0))
    port = int(tcp.getsockname()[1])
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, port))

    def greet() -> None:
        while True:
            connection, _ = tcp.accept()
            with connection:
                connection.sendall(text)

    def answer() -> None:
        while True:
            _, sender = udp.recvfrom(100)
            udp.sendto(text, sender)

    for each in (greet, answer):
        threading.Thread(target=each, daemon=True).start()
    return port


def _by_tcp(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), timeout=60) as asking:
            return asking.recv(100).decode()
    except OSError as error:
        return type(error).__name__


def _by_udp(address: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(60)
        asking.sendto(b"?", (address, port))
        return asking.recv(100).decode()


async def _main() -> None:
    port, near = _serve(OUTSIDE, b"outside"), _serve("127.0.0.1", b"loopback")
    async with private_network() as network, network.place() as one, network.place() as other:
        found = {
            "resolver": network.resolver,
            "proxy": network.proxy,
            "tcp": within(one, lambda: _by_tcp(OUTSIDE, port)),
            "udp": within(one, lambda: _by_udp(OUTSIDE, port)),
            "tcp of another": within(other, lambda: _by_tcp(OUTSIDE, port)),
            "tcp to the loopback": within(other, lambda: _by_tcp(ROUTER, near)),
        }
    print(json.dumps(found))  # noqa: T201 - a program


if __name__ == "__main__":
    _become_a_machine()
    if len(sys.argv) > 1:
        network_module._HELPER = Path(sys.argv[1])
    anyio.run(_main)
