"""The small values that the API names beside containers, directories and files."""

from __future__ import annotations

from dataclasses import dataclass

from ci.engine.container import ExposedPort
from ci.engine.vertex import DirectoryRef, ServiceSpec, Sharing, Vertex

__all__ = [
    "CacheVolume",
    "EnvVariable",
    "HostState",
    "Label",
    "ServiceState",
    "Socket",
    "Stat",
    "TunnelState",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class EnvVariable(Vertex):
    """One variable of a container's environment."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Label(Vertex):
    """One label of a container."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True, eq=False)
class CacheVolume(Vertex):
    """A cache volume: all of this is its identity."""

    key: str
    source: DirectoryRef | None = None
    sharing: Sharing = Sharing.SHARED
    owner: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Socket(Vertex):
    """A unix socket of the host."""

    host_path: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Stat(Vertex):
    """What a path is. Size in bytes."""

    name: str
    size: int
    permissions: int
    #: A name of FileType.
    file_type: str


@dataclass(frozen=True, kw_only=True, eq=False)
class HostState(Vertex):
    """The caller's machine."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ServiceState(Vertex):
    """A service as the API shows it: its definition, and all ports that are listed."""

    spec: ServiceSpec
    ports: tuple[ExposedPort, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class TunnelState(Vertex):
    """A service that serves another one on the host's loopback."""

    target: ServiceState
    #: (backend, frontend); a frontend of 0 is any free port.
    forwards: tuple[tuple[int, int], ...]
