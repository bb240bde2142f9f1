"""Fields of Service."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ci.engine.api.context import Context
from ci.engine.api.values import ServiceState
from ci.engine.container import ExposedPort
from ci.engine.forward import forwarding
from ci.engine.refusal import Refusal
from ci.engine.services import hostname as hostname_of

__all__ = ["endpoint", "hostname", "ports", "start", "stop", "sync", "up", "with_hostname"]

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def hostname(service: ServiceState, _: Context) -> str:
    """The name that containers which bind the service reach it by."""
    return hostname_of(service.spec)


def with_hostname(service: ServiceState, _: Context, *, hostname: str) -> ServiceState:
    """The name set."""
    if not _HOSTNAME.fullmatch(hostname):
        raise Refusal("service hostname", got=repr(hostname), expected="a host name")
    return replace(service, spec=replace(service.spec, hostname=hostname))


def ports(service: ServiceState, _: Context) -> tuple[ExposedPort, ...]:
    """Its ports."""
    return service.ports


def endpoint(service: ServiceState, _: Context, *, scheme: str, port: int | None = None) -> str:
    """``host:port``, of the first port unless one is given; with a scheme, a URL."""
    if port is None:
        if not service.ports:
            raise Refusal("no ports exposed")
        port = service.ports[0].port
    address = f"{hostname_of(service.spec)}:{port}"
    return f"{scheme}://{address}" if scheme else address


async def start(service: ServiceState, ctx: Context) -> str:
    """Its ID, once it is healthy."""
    await ctx.services.start(service.spec)
    return ctx.objects.id(service)


async def stop(service: ServiceState, ctx: Context, *, kill: bool) -> str:
    """Its ID, once it has ended."""
    await ctx.services.stop(service.spec, kill=kill)
    return ctx.objects.id(service)


async def sync(service: ServiceState, ctx: Context) -> str:
    """Its ID, once what it runs from has been evaluated."""
    await ctx.solver.snapshot(service.spec.exec.root)
    return ctx.objects.id(service)


async def up(
    service: ServiceState,
    ctx: Context,
    *,
    ports: Sequence[Mapping[str, Any]],
    random: bool,
) -> None:
    """Serve it on the host's loopback until it ends or the request is cancelled."""
    wanted = [(int(p["backend"]), int(p.get("frontend") or p["backend"])) for p in ports]
    if not wanted:
        wanted = [(port.port, port.port) for port in service.ports if port.protocol == "TCP"]
    if not wanted:
        raise Refusal("no ports exposed")
    await ctx.services.start(service.spec)
    network = await ctx.services.network()
    pairs = [(backend, 0 if random else frontend) for backend, frontend in wanted]
    async with forwarding(network, pairs):
        await ctx.services.wait_ended(service.spec)
