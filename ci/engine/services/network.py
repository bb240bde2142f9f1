"""Network: the private network of a session, so that two sessions can use the same ports.

A process that lives in it (``netns.py``) makes sockets there and passes them out: with these the
engine dials services, listens for them, and serves a proxy through which programs inside reach
the outside; a gateway (``gateway.py``), where there is one, serves all else that they speak. Where
the kernel has bridges, each service and each exec has a namespace of its own
on it (a ``Place``), so that two services can use the same port too; elsewhere all are in one.
Namespaces are kept by descriptors that sandboxes join.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import anyio
import structlog
from anyio.abc import SocketStream

from ci.engine.services.child import let_end
from ci.engine.services.egress import Egress
from ci.engine.services.gateway import RESOLVER, ROUTER, gateway
from ci.engine.vertices.execution import Namespaces
from ci.errors import CiError

__all__ = [
    "HostNetwork",
    "Network",
    "NetworkUnavailable",
    "Place",
    "PrivateNetwork",
    "private_network",
]

_log = structlog.get_logger(__name__)
_HELPER = Path(__file__).with_name("netns.py")
_READY_SECONDS = 10.0
_LOOPBACK = "127.0.0.1"
#: Of the gateway.
_INTERFACE = "tap0"
#: Addresses of a session's network: those of services, then those of execs. See ``netns.py``.
_SUBNET = (198, 18)
_SERVICES, _EXECS = 0x0100, 0x8000


class NetworkUnavailable(CiError):
    """A private network cannot be made on this machine."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one service or exec lives in a network."""

    #: By which others reach it.
    address: str = _LOOPBACK
    #: For sandboxes to join; None is the host's network.
    namespaces: Namespaces | None = None


class Network:
    """Where services listen and execs that bind them run: the host's own, unless private."""

    #: URL of the way out, for ``http_proxy``; empty where none is needed.
    proxy: str = ""
    #: Address of its name server; empty is the host's own. With it, programs need no proxy.
    resolver: str = ""
    #: No other session can take its ports.
    is_private: bool = False
    #: Each place has ports of its own; else all share one loopback.
    is_apart: bool = False

    def address(self, name: str) -> str:
        """What is the address of the service of that name, now and when it starts again."""
        del name
        return _LOOPBACK

    def place(self, name: str = "") -> AbstractAsyncContextManager[Place]:
        """A place for the service of that name, or for an exec, while the context lasts."""
        del name
        return _shared(Place())

    async def dialer(self) -> socket.socket:
        """An unconnected TCP socket in it."""
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    async def listener(self, port: int, address: str = _LOOPBACK) -> socket.socket:
        """A socket that listens at an address of it.

        Raises:
            OSError: the port is taken.
        """
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address, port))
            made.listen(128)
        except OSError:
            made.close()
            raise
        return made

    async def connect(self, port: int, host: str = _LOOPBACK) -> SocketStream:
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

    async def answers(self, port: int, host: str = _LOOPBACK) -> bool:
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

    is_private = True

    def __init__(self, control: socket.socket, namespaces: Namespaces, address: str) -> None:
        self._control = control
        self._turn = anyio.Lock()
        self._namespaces = namespaces
        self._services: dict[str, str] = {}
        self._execs = count(_EXECS)
        self._links = count()
        self.is_apart = address != _LOOPBACK

    def address(self, name: str) -> str:
        """What is the address of the service of that name, now and when it starts again."""
        if not self.is_apart:
            return _LOOPBACK
        return self._services.setdefault(name, _numbered(_SERVICES + len(self._services)))

    def place(self, name: str = "") -> AbstractAsyncContextManager[Place]:
        """A place for the service of that name, or for an exec, while the context lasts.

        Raises:
            OSError: on entering it, the kernel cannot make one more.
        """
        if not self.is_apart:
            return _shared(Place(namespaces=self._namespaces))
        return self._own_place(name)

    @asynccontextmanager
    async def _own_place(self, name: str) -> AsyncIterator[Place]:
        """The kernel takes its time to remove a link: only who gets an address again waits."""
        address = self.address(name) if name else _numbered(next(self._execs))
        link = f"tow{next(self._links)}"
        net = await self._ask(f"n {link} {address}")
        try:
            yield Place(address=address, namespaces=Namespaces(net=net, user=self._namespaces.user))
        finally:
            os.close(net)
            if name:
                await self._tell(f"d {link}")

    async def dialer(self) -> socket.socket:
        """An unconnected TCP socket in it."""
        return socket.socket(fileno=await self._ask("s"))

    async def listener(self, port: int, address: str = _LOOPBACK) -> socket.socket:
        """A socket that listens at an address of it.

        Raises:
            OSError: the port is taken.
        """
        return socket.socket(fileno=await self._ask(f"l {address} {port}"))

    async def _ask(self, request: str) -> int:
        """The descriptor that the helper makes. Not cut short: an answer is of its request."""
        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._control.send(request.encode())
                _, made = await _receive(self._control)
        return made

    async def _tell(self, request: str) -> str:
        """Have the helper do what gives nothing; why it cannot, or nothing."""
        with anyio.CancelScope(shield=True), suppress(OSError):
            async with self._turn:
                self._control.send(request.encode())
                await anyio.wait_readable(self._control)
                answer = self._control.recv(4096)
                return answer[1:].decode()
        return "the network's helper process has ended"

    async def use_gateway(self, interface: str) -> None:
        """Make that interface the way out of all places made from here on, if it can be."""
        if complaint := await self._tell(f"g {interface} {ROUTER}"):
            _log.warning("gateway.unavailable", reason=complaint)
        else:
            self.resolver = RESOLVER


@asynccontextmanager
async def _shared(place: Place) -> AsyncIterator[Place]:
    """A place that others are in too."""
    yield place


def _numbered(number: int) -> str:
    """An address of a session's network."""
    third, fourth = divmod(number % 0xFFFE, 256)
    return ".".join(map(str, (*_SUBNET, third, fourth)))


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
        stack.push_async_callback(let_end, helper)
        stack.callback(ours.close)  # which tells it to end
        ours.settimeout(0)
        try:
            with anyio.fail_after(_READY_SECONDS):
                address, descriptor = await _receive(ours)
        except (OSError, TimeoutError) as error:
            raise NetworkUnavailable(
                "private network for services",
                got=str(error) or "no answer",
                hint="`ci doctor` says what this machine lacks",
            ) from None
        listener = socket.socket(fileno=descriptor)
        network = PrivateNetwork(ours, _open_namespaces(helper.pid, stack), address)
        egress = Egress()
        proxy = await stack.enter_async_context(egress.serving(listener))
        if await stack.enter_async_context(gateway(helper.pid, _INTERFACE)):
            await network.use_gateway(_INTERFACE)
        if egress.forwards or not network.resolver:
            network.proxy = proxy
        yield network


def _open_namespaces(pid: int, stack: AsyncExitStack) -> Namespaces:
    """Descriptors of the helper's namespaces; the user's only where it is not ours."""

    def keep(kind: str) -> int:
        fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        return fd

    own = os.stat("/proc/self/ns/user").st_ino != os.stat(f"/proc/{pid}/ns/user").st_ino
    return Namespaces(net=keep("net"), user=keep("user") if own else None)


async def _receive(control: socket.socket) -> tuple[str, int]:
    """What the helper says, and the descriptor that it made, or its error.

    Raises:
        OSError: it could not.
    """
    await anyio.wait_readable(control)
    message, fds, _flags, _address = socket.recv_fds(control, 4096, 1)
    if fds:
        return message[1:].decode(), fds[0]
    raise OSError(message[1:].decode() if message else "the network's helper process has ended")


async def _connect(raw: socket.socket, address: tuple[str, int]) -> None:
    """Connect a socket that does not block."""
    try:
        raw.connect(address)
    except BlockingIOError:
        await anyio.wait_writable(raw)
        if code := raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code)) from None
