"""One service: what it is called, how it failed, and what reaches it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import anyio

from ci.engine.services.network import Network, Place
from ci.engine.vertices.execution import Attachment, Running
from ci.engine.vertices.vertex import ServiceSpec
from ci.errors import CiError

__all__ = [
    "HostServiceSpec",
    "Service",
    "ServiceFailed",
    "attachment",
    "checked_ports",
    "hostname",
    "label",
]

_TAIL_BYTES = 8_192


@dataclass(frozen=True, kw_only=True, eq=False)
class HostServiceSpec(ServiceSpec):
    """A service that runs nothing: connections go on to ports that the host reaches."""

    host: str = "localhost"
    #: (port at ``host``, port in the session's network)
    forwards: tuple[tuple[int, int], ...] = ()


class ServiceFailed(CiError):
    """A service ended, or never became healthy; holds the tail of its log."""

    exit_code = 1

    def __init__(self, name: str, what: str, log: str, *, hint: str = "") -> None:
        tail = log.encode()[-_TAIL_BYTES:].decode("utf-8", "ignore").strip()
        self.log = tail
        end = f"\nthe end of its log:\n{tail}" if tail else "; it has logged nothing"
        super().__init__(f"{name} {what}{end}", hint=hint)


def hostname(spec: ServiceSpec) -> str:
    """The name that a service has for all: what the user gave, or one made of its definition."""
    if spec.hostname:
        return spec.hostname
    digest = bytes.fromhex(spec.digest)[:10]
    return base64.b32encode(digest).decode().rstrip("=").lower()


def label(spec: ServiceSpec) -> str:
    """What messages call it."""
    return spec.hostname or f"{' '.join(spec.exec.args)[:60]!r}"


@dataclass(eq=False)
class Service:
    """One that is starting, runs, or has ended."""

    spec: ServiceSpec
    #: Set when it is healthy, or failed to be.
    settled: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)
    running: Running | None = None
    failure: CiError | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    kill: bool = False
    #: By which it is reached.
    address: str = ""

    def log(self) -> str:
        """What it has written so far."""
        return self.running.log() if self.running else ""


def checked_ports(spec: ServiceSpec) -> list[int]:
    """TCP ports that a dial tells the health of."""
    return [port for port, protocol, checked in spec.ports if checked and protocol == "TCP"]


def attachment(network: Network, place: Place, bound: list[tuple[str, Service]]) -> Attachment:
    """What an exec at a place gets that binds these services, all of which have an address."""
    hosts = [(service.address, alias) for alias, service in bound]
    hosts += [(service.address, hostname(service.spec)) for _, service in bound]

    async def broken() -> CiError:
        return await _first_ended(bound)

    return Attachment(
        hosts=tuple(dict.fromkeys(hosts)),
        resolver=network.resolver,
        namespaces=place.namespaces,
        env=_way_out(network, [name for _, name in hosts]),
        broken=broken,
    )


def _way_out(network: Network, names: list[str]) -> tuple[tuple[str, str], ...]:
    """Proxy variables for programs in the network."""
    if not network.proxy:
        return ()
    near = ",".join(["localhost", "127.0.0.1", "::1", *dict.fromkeys(names)])
    pairs = [("http_proxy", network.proxy), ("https_proxy", network.proxy), ("no_proxy", near)]
    return (*pairs, *((name.upper(), value) for name, value in pairs))


async def _first_ended(bound: list[tuple[str, Service]]) -> CiError:
    """Wait until one of them has ended; the error that tells it."""
    first: list[tuple[str, Service]] = []

    async def watch(alias: str, service: Service) -> None:
        await service.ended.wait()
        first.append((alias, service))
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for alias, service in bound:
            tasks.start_soon(watch, alias, service)
    alias, service = first[0]
    code = service.running.exit_code if service.running else None
    return ServiceFailed(f"bound service {alias!r}", f"exited (code {code})", service.log())
