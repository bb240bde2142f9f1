"""A service as the registry of an image's address: reached on the host's loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.engine.api.values import ServiceState
from ci.engine.refusal import Refusal

if TYPE_CHECKING:
    from ci.engine.api.context import Context
    from ci.engine.images.endpoint import Endpoint

__all__ = ["place_of"]


async def place_of(ctx: Context, address: str, service_id: str | None) -> Endpoint | None:
    """Where the registry of ``address`` is, once the service is healthy; None without a service.

    It is asked at the address's port where it exposes that one, else at the first that it exposes.

    Raises:
        Refusal: it exposes none.
        CiError: it failed, or the address names no image.
    """
    if not service_id:
        return None
    from ci.engine.images.endpoint import Endpoint  # noqa: PLC0415 - seldom needed
    from ci.engine.images.reference import Reference  # noqa: PLC0415

    service = ctx.get(service_id, ServiceState)
    registry = Reference.parse(address).registry
    ports = [port.port for port in service.ports if port.protocol == "TCP"]
    if not ports:
        raise Refusal("registry service", got="no ports exposed", expected="the registry's port")
    named = registry.rpartition(":")[2]
    port = int(named) if named.isdigit() and int(named) in ports else ports[0]
    tunnel = f"registry {service.digest} {port}"
    await ctx.tunnels.open(tunnel, service.spec, ((port, 0),))
    ((_, frontend),) = ctx.tunnels.taken(tunnel)
    return Endpoint(f"127.0.0.1:{frontend}", scheme="http", name=registry)
