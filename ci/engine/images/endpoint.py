"""Where a registry's API is."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from ci.engine.images.reference import DOCKER_HUB
from ci.errors import ConfigError

__all__ = ["Endpoint", "endpoint", "is_loopback"]

_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True)
class Endpoint:
    """Where a registry's API is: a host with port, and a path before its repositories."""

    host: str
    prefix: str = ""
    scheme: str = "https"
    #: The registry's name in references and logins, where that is another than the host.
    name: str = ""

    def url(self, path: str) -> str:
        """Of a path below ``/v2/``, which begins with a repository."""
        inner = f"{self.prefix}/{path}" if self.prefix and path else path
        return f"{self.scheme}://{self.host}/v2/{inner}"

    def repository(self, name: str) -> str:
        """The repository's name as this registry knows it."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def serves(self, url: httpx.URL) -> bool:
        """Whether a URL is of this registry, and not of another host that it sends us to."""
        own = httpx.URL(self.url(""))
        return (url.scheme, url.host, url.port) == (own.scheme, own.host, own.port)


def endpoint(address: str) -> Endpoint:
    """The API at ``[scheme://]host[:port][/prefix]``. Plain HTTP is for this machine only.

    Raises:
        ConfigError: it is plain HTTP and not on this machine.
    """
    scheme, separator, rest = address.rpartition("://")
    host, _, prefix = rest.strip("/").partition("/")
    name = ""
    if host == DOCKER_HUB:
        host, name = _HUB_HOST, DOCKER_HUB
    local = is_loopback(host)
    if separator and scheme == "http" and not local:
        raise ConfigError(
            f"registry {address}", got="plain HTTP", expected="https, except on loopback"
        )
    return Endpoint(host, prefix.strip("/"), scheme or ("http" if local else "https"), name)


def is_loopback(host: str) -> bool:
    """Whether a host (with or without port) is this machine by its name."""
    name = host.rsplit(":", 1)[0] if not host.startswith("[") else host.partition("]")[0] + "]"
    return name in {"localhost", "[::1]", "::1"} or name.startswith("127.")
