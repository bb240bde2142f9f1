"""The small values that the API names beside containers, directories and files."""

from __future__ import annotations

from dataclasses import dataclass

from ci.engine.vertices.container import ExposedPort
from ci.engine.vertices.vertex import DirectoryRef, ServiceSpec, Sharing, Vertex

__all__ = [
    "Address",
    "CacheVolume",
    "Changeset",
    "DiffStat",
    "EnvFile",
    "EnvVariable",
    "Error",
    "ErrorValue",
    "HostState",
    "JSONValue",
    "Label",
    "SearchResult",
    "SearchSubmatch",
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Changeset(Vertex):
    """What differs between two directories."""

    before: DirectoryRef
    after: DirectoryRef


@dataclass(frozen=True, kw_only=True, eq=False)
class DiffStat(Vertex):
    """How a path changed: lines added and removed."""

    path: str
    #: A name of DiffStatKind.
    kind: str
    added_lines: int = 0
    removed_lines: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchSubmatch(Vertex):
    """A place that matched, from the start of the lines. In bytes."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult(Vertex):
    """Lines of a file in which something matched."""

    file_path: str
    line_number: int = 0
    #: Of the first line, in bytes.
    absolute_offset: int = 0
    matched_lines: str = ""
    submatches: tuple[SearchSubmatch, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class EnvFile(Vertex):
    """Variables as a ``.env`` file has them, in its order, values as they are written."""

    lines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class JSONValue(Vertex):
    """A value, as JSON text."""

    text: str = "null"


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorValue(Vertex):
    """A named value of an error; the value is JSON text."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Error(Vertex):
    """An error as a value."""

    message: str
    values: tuple[ErrorValue, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Address(Vertex):
    """Where something is to be loaded from."""

    value: str
