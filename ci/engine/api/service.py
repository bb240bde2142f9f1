"""Fields of Service."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ci.engine.api.context import Context
from ci.engine.api.host import forwards_of
from ci.engine.api.values import ServiceState, TunnelState
from ci.engine.refusal import Refusal, Unsupported
from ci.engine.services.forward import forwarding
from ci.engine.services.service import hostname as hostname_of
from ci.engine.vertices.container import ExposedPort

__all__ = [
    "endpoint",
    "hostname",
    "ports",
    "start",
    "stop",
    "sync",
    "terminal",
    "up",
    "with_hostname",
]

AnyService = ServiceState | TunnelState

_SHELL = ("sh",)
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def hostname(service: AnyService, _: Context) -> str:
    """The name that containers which bind the service reach it by; the host's for a tunnel."""
    return "127.0.0.1" if isinstance(service, TunnelState) else hostname_of(service.spec)


def with_hostname(service: AnyService, _: Context, *, hostname: str) -> ServiceState:
    """The name set."""
    if not _HOSTNAME.fullmatch(hostname):
        raise Refusal("service hostname", got=repr(hostname), expected="a host name")
    if isinstance(service, TunnelState):
        raise Unsupported("Service.withHostname", "of a tunnel")
    return replace(service, spec=replace(service.spec, hostname=hostname))


def ports(service: AnyService, ctx: Context) -> tuple[ExposedPort, ...]:
    """Its ports; those of a tunnel are known once it was started."""
    if isinstance(service, TunnelState):
        taken = ctx.tunnels.taken(service.digest)
        return tuple(ExposedPort(port=frontend) for _, frontend in taken)
    return service.ports


def endpoint(service: AnyService, ctx: Context, *, scheme: str, port: int | None = None) -> str:
    """``host:port``, of the first port unless one is given; with a scheme, a URL."""
    if port is None:
        listed = ports(service, ctx)
        if not listed:
            raise Refusal("no ports exposed")
        port = listed[0].port
    address = f"{hostname(service, ctx)}:{port}"
    return f"{scheme}://{address}" if scheme else address


async def start(service: AnyService, ctx: Context) -> str:
    """Its ID, once it is healthy."""
    if isinstance(service, TunnelState):
        await ctx.tunnels.open(service.digest, service.target.spec, service.forwards)
    else:
        await ctx.services.start(service.spec)
    return ctx.objects.id(service)


async def stop(service: AnyService, ctx: Context, *, kill: bool) -> str:
    """Its ID, once it has ended."""
    if isinstance(service, TunnelState):
        await ctx.tunnels.close(service.digest)
    else:
        await ctx.services.stop(service.spec, kill=kill)
    return ctx.objects.id(service)


async def sync(service: AnyService, ctx: Context) -> str:
    """Its ID, once what it runs from has been evaluated."""
    if isinstance(service, ServiceState):
        await ctx.solver.snapshot(service.spec.exec.root)
    return ctx.objects.id(service)


async def terminal(service: AnyService, ctx: Context, *, cmd: Sequence[str]) -> AnyService:
    """The same service, once a command that was run at the terminal inside it has ended."""
    if isinstance(service, TunnelState):
        raise Unsupported("Service.terminal", "of a tunnel")
    spec = service.spec

    async def run(lent: int) -> None:
        await ctx.services.visit(spec, tuple(cmd) or _SHELL, terminal=lent)

    secrets = await ctx.solver.plain_secrets(spec.exec)
    await ctx.terminal.lend("Service.terminal", run, secrets.values())
    return service


async def up(
    service: AnyService,
    ctx: Context,
    *,
    ports: Sequence[Mapping[str, Any]],
    random: bool,
) -> None:
    """Serve it on the host's loopback until it ends or the request is cancelled."""
    if isinstance(service, TunnelState):
        raise Unsupported("Service.up", "of a tunnel: start it")
    wanted = forwards_of(ports)
    if not wanted:
        wanted = tuple((p.port, p.port) for p in service.ports if p.protocol == "TCP")
    if not wanted:
        raise Refusal("no ports exposed")
    address = await ctx.services.start(service.spec)
    network = await ctx.services.network()
    pairs = [(backend, 0 if random else frontend) for backend, frontend in wanted]
    async with forwarding(network, address, pairs):
        await ctx.services.wait_ended(service.spec)
