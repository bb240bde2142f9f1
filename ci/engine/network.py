"""Network: the private network of a session, so that two sessions can use the same ports.

A process that lives in it (``netns.py``) makes sockets there and passes them out: with these the
engine dials services, listens for them, and serves a proxy through which programs inside reach
the outside. The namespace itself is kept by descriptors that sandboxes join.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import SocketStream

from ci.engine.egress import Egress
from ci.engine.execution import Namespaces
from ci.errors import CiError

__all__ = ["HostNetwork", "Network", "NetworkUnavailable", "PrivateNetwork", "private_network"]

_HELPER = Path(__file__).with_name("netns.py")
_READY_SECONDS = 10.0


class NetworkUnavailable(CiError):
    """A private network cannot be made on this machine."""


class Network:
    """Where services listen and execs that bind them run: the host's own, unless private."""

    #: For sandboxes to join; None is the host's network.
    namespaces: Namespaces | None = None
    #: URL of the way out, for ``http_proxy``; empty where none is needed.
    proxy: str = ""

    @property
    def is_private(self) -> bool:
        """No other session can take its ports."""
        return self.namespaces is not None

    async def dialer(self) -> socket.socket:
        """An unconnected TCP socket in it."""
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    async def listener(self, port: int) -> socket.socket:
        """A socket that listens at 127.0.0.1 in it.

        Raises:
            OSError: the port is taken.
        """
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(("127.0.0.1", port))
            made.listen(128)
        except OSError:
            made.close()
            raise
        return made

    async def connect(self, port: int, host: str = "127.0.0.1") -> SocketStream:
        """A connection to a port in it.

        Raises:
            OSError: nothing listens there.
        """
        raw = await self.dialer()
        raw.settimeout(0)
        try:
            await _connect(raw, (host, port))
            return await SocketStream.from_socket(raw)
        except BaseException:
            raw.close()
            raise

    async def answers(self, port: int, host: str = "127.0.0.1") -> bool:
        """Something listens at the port."""
        try:
            stream = await self.connect(port, host)
        except OSError:
            return False
        await stream.aclose()
        return True


class HostNetwork(Network):
    """The network of the machine, shared with everything on it."""


class PrivateNetwork(Network):
    """A network namespace with a loopback of its own; see ``private_network``."""

    def __init__(self, control: socket.socket, namespaces: Namespaces) -> None:
        self._control = control
        self._turn = anyio.Lock()
        self.namespaces = namespaces

    async def dialer(self) -> socket.socket:
        """An unconnected TCP socket in it."""
        return await self._ask(b"s")

    async def listener(self, port: int) -> socket.socket:
        """A socket that listens at 127.0.0.1 in it.

        Raises:
            OSError: the port is taken.
        """
        return await self._ask(b"l%d" % port)

    async def _ask(self, request: bytes) -> socket.socket:
        """Have the helper make a socket. Not cut short: an answer belongs to its request."""
        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._control.send(request)
                made = await _receive(self._control)
        return made


@asynccontextmanager
async def private_network(user_namespace: int | None = None) -> AsyncIterator[PrivateNetwork]:
    """A private network, for as long as the context lasts; ``user_namespace`` will own it.

    Raises:
        NetworkUnavailable: the machine does not let us.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    async with AsyncExitStack() as stack:
        stack.callback(ours.close)
        inherited = [theirs.fileno(), *([] if user_namespace is None else [user_namespace])]
        with theirs:
            helper = await anyio.open_process(
                [sys.executable, "-I", "-S", str(_HELPER), *map(str, inherited)],
                stdin=None,
                stdout=None,
                stderr=None,
                pass_fds=inherited,
                start_new_session=True,
            )
        stack.push_async_callback(_end, helper, ours)
        ours.settimeout(0)
        try:
            with anyio.fail_after(_READY_SECONDS):
                listener = await _receive(ours)
        except (OSError, TimeoutError) as error:
            raise NetworkUnavailable(
                "private network for services",
                got=str(error) or "no answer",
                hint="`ci doctor` says what this machine lacks",
            ) from None
        namespaces = _open_namespaces(helper.pid, stack)
        network = PrivateNetwork(ours, namespaces)
        network.proxy = await stack.enter_async_context(Egress().serving(listener))
        yield network


def _open_namespaces(pid: int, stack: AsyncExitStack) -> Namespaces:
    """Descriptors of the helper's namespaces; the user's only where it is not ours."""

    def keep(kind: str) -> int:
        fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        return fd

    own = os.stat("/proc/self/ns/user").st_ino != os.stat(f"/proc/{pid}/ns/user").st_ino
    return Namespaces(net=keep("net"), user=keep("user") if own else None)


async def _end(helper: anyio.abc.Process, control: socket.socket) -> None:
    """Let the helper end: it does so when its control socket is closed."""
    control.close()
    with anyio.CancelScope(shield=True):
        with anyio.move_on_after(2):
            await helper.wait()
        if helper.returncode is None:
            helper.kill()
            await helper.wait()
        await helper.aclose()


async def _receive(control: socket.socket) -> socket.socket:
    """The socket that the helper made, or its error.

    Raises:
        OSError: it could not.
    """
    await anyio.wait_readable(control)
    message, fds, _flags, _address = socket.recv_fds(control, 4096, 1)
    if fds:
        return socket.socket(fileno=fds[0])
    raise OSError(message[1:].decode() if message else "the network's helper process has ended")


async def _connect(raw: socket.socket, address: tuple[str, int]) -> None:
    """Connect a socket that does not block."""
    try:
        raw.connect(address)
    except BlockingIOError:
        await anyio.wait_writable(raw)
        if code := raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code)) from None
