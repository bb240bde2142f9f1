"""Vertices: immutable descriptions of file trees and execs, merkle-hashed as they are built.

The GraphQL layer (``api/``) builds them, the solver evaluates them. Nothing here does I/O.

``digest`` identifies the *recipe*: two vertices of the same recipe are the same object to the
solver, which runs them once. The *cache key*, which also takes in the content of what came from
outside, is the solver's business (``keys.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from typing import ClassVar

from blake3 import blake3

from ci.engine.vertices.health import DEFAULT_TIMING, HealthTiming

__all__ = [
    "BindMount",
    "Built",
    "CacheMount",
    "Copy",
    "CopySource",
    "Diff",
    "DirectoryMount",
    "DirectoryRef",
    "DockerCopy",
    "Exec",
    "ExecMountOutput",
    "ExecRootOutput",
    "Expect",
    "FileMount",
    "FileRef",
    "Filter",
    "HostDirectory",
    "HostFile",
    "Http",
    "ImageRoot",
    "Mount",
    "NewDirectory",
    "NewFile",
    "Owner",
    "Patterns",
    "Scratch",
    "SecretMount",
    "SecretRef",
    "ServiceSpec",
    "Sharing",
    "SocketMount",
    "Symlink",
    "Tarball",
    "TmpfsMount",
    "Tree",
    "Vertex",
    "Without",
    "encode",
    "fingerprint",
]  # fmt: skip


def encode(value: object) -> bytes:
    """Unambiguous bytes of a field: type tag, length, content."""
    if isinstance(value, Vertex):
        body = value.digest.encode()
    elif isinstance(value, tuple):
        body = b"".join(encode(item) for item in value)
    elif isinstance(value, bytes):
        body = value
    else:
        body = str(value).encode("utf-8", "surrogateescape")
    tag = type(value).__name__.encode()
    return b"%d:%s%d:%s" % (len(tag), tag, len(body), body)


def fingerprint(*parts: object) -> str:
    """Hex BLAKE3 of values, unambiguously put together."""
    return blake3(encode(tuple(parts))).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Vertex:
    """Base: identity is the digest, which children contribute to by theirs (no deep recursion)."""

    def __post_init__(self) -> None:
        self.digest  # noqa: B018 - computed now, while the children's are at hand

    #: The field that holds what it is built on, where that is its own chain.
    base_name: ClassVar[str] = ""

    @property
    def base(self) -> Tree | Exec | None:
        """What it is built on, where that is its own chain."""
        return getattr(self, self.base_name) if self.base_name else None

    def inputs(self) -> dict[str, object]:
        """All fields that are compared, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.compare}

    @cached_property
    def digest(self) -> str:
        """Hex BLAKE3 of the type's name and its inputs."""
        parts = [type(self).__name__.encode(), *map(encode, self.inputs().values())]
        return blake3(b"\0".join(parts)).hexdigest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vertex) and other.digest == self.digest


class Tree(Vertex):
    """A vertex whose value is a file tree (a container's root, a directory, a lone file)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Built(Tree):
    """A tree that is made of another one of the same chain."""

    base_name: ClassVar[str] = "tree"

    tree: Tree


# -- references: a place inside a tree ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class DirectoryRef(Vertex):
    """The directory at ``path`` (absolute) of a tree."""

    tree: Tree
    path: str = "/"


@dataclass(frozen=True, kw_only=True, eq=False)
class FileRef(Vertex):
    """The file at ``path`` (absolute) of a tree."""

    tree: Tree
    path: str


# -- where trees come from --------------------------------------------------------------------


class Scratch(Tree):
    """The empty tree."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Patterns(Vertex):
    """Which entries count: include, exclude (dockerignore syntax), and .gitignore files."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gitignore: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageRoot(Tree):
    """The root file system of an image that was resolved: layer snapshots are in the store."""

    #: Manifest digest ``sha256:...`` (or the digest of a bootstrap build), which keys it.
    image_digest: str
    #: What the user wrote, for messages.
    reference: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class HostDirectory(Tree):
    """A folder of the host, read once a session and keyed by content."""

    path: str
    patterns: Patterns = field(default_factory=Patterns)
    #: Distinguishes reads that must not be shared (``noCache``).
    nonce: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class HostFile(Tree):
    """A file of the host; stands in its tree under its own name."""

    path: str
    nonce: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Http(Tree):
    """A download; stands in its tree as ``/name``."""

    url: str
    name: str
    permissions: int = 0o600
    checksum: str = ""
    auth_header: SecretRef | None = None
    #: Serves it; started before it is asked.
    service: ServiceSpec | None = None


# -- what is done to trees ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Owner(Vertex):
    """``user[:group]`` as given; names are looked up in the tree's own /etc/passwd and group."""

    spec: str


@dataclass(frozen=True, kw_only=True, eq=False)
class NewFile(Built):
    """``tree`` with a file of these contents at ``path``; parents are made."""

    path: str
    contents: bytes
    permissions: int = 0o644
    owner: Owner | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class NewDirectory(Built):
    """``tree`` with a directory at ``path``; parents are made."""

    path: str
    permissions: int = 0o755
    owner: Owner | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Symlink(Built):
    """``tree`` with a symbolic link to ``target``, as it is written, at ``path``."""

    path: str
    target: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Copy(Built):
    """``tree`` with ``source`` at ``path``: a directory's entries are merged in, a file is put."""

    path: str
    source: DirectoryRef | FileRef
    patterns: Patterns = field(default_factory=Patterns)
    owner: Owner | None = None
    permissions: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class CopySource(Vertex):
    """What a DockerCopy takes of one tree."""

    #: Where ``path`` starts; or the one file to take.
    source: DirectoryRef | FileRef
    #: A file, a directory, or a pattern as Go's filepath.Match takes it.
    path: str = "/"
    #: What does not count, relative to what ``path`` matches (dockerignore syntax).
    exclude: tuple[str, ...] = ()
    #: Take what of ``path`` matches this, with the folders on the way (``--parents``).
    below: str = ""
    #: Extract what is an archive.
    unpack: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class DockerCopy(Built):
    """``tree`` after COPY or ADD of a Dockerfile; without sources, the destination's folders."""

    #: Absolute; a slash at its end says that it is a directory.
    destination: str
    sources: tuple[CopySource, ...] = ()
    owner: Owner | None = None
    #: As ``--chmod`` takes it; empty keeps permissions.
    mode: str = ""
    #: Where the instruction stands, for messages.
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Without(Built):
    """``tree`` less these paths; a path may be a glob pattern; what is not there is no error."""

    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Filter(Tree):
    """The entries of a directory that match, as a tree of its own."""

    source: DirectoryRef
    patterns: Patterns


@dataclass(frozen=True, kw_only=True, eq=False)
class Diff(Tree):
    """What ``upper`` adds to or changes of ``lower``, as a tree of its own."""

    lower: DirectoryRef
    upper: DirectoryRef


@dataclass(frozen=True, kw_only=True, eq=False)
class Tarball(Tree):
    """An OCI archive, as the file ``/container.tar``: layers of ``root``, config as JSON text."""

    #: One for each platform; ``config`` is the OCI image config's JSON, canonical.
    roots: tuple[Tree, ...]
    configs: tuple[str, ...]
    #: Of all layers; empty leaves those that came with an image as they are.
    compression: str = ""
    media_types: str = "oci"
    #: (name, value) in the manifest of each platform; empty for none at all.
    annotations: tuple[tuple[tuple[str, str], ...], ...] = ()


# -- execs --------------------------------------------------------------------------------------


class Sharing(StrEnum):
    """How execs that run at once use a cache volume."""

    SHARED = "SHARED"
    PRIVATE = "PRIVATE"
    LOCKED = "LOCKED"


class Expect(StrEnum):
    """Which exit codes an exec may end with: see dagger's ReturnType."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    ANY = "ANY"


@dataclass(frozen=True, kw_only=True, eq=False)
class SecretRef(Vertex):
    """A secret by name or URI. The value is in the session's secret table, never here."""

    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Mount(Vertex):
    """Something at ``path`` (absolute, clean) over the root file system."""

    path: str


@dataclass(frozen=True, kw_only=True, eq=False)
class DirectoryMount(Mount):
    """Writes persist along the chain, as ``ExecMountOutput``."""

    source: DirectoryRef
    owner: Owner | None = None
    read_only: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class FileMount(Mount):
    """Writes persist along the chain, as ``ExecMountOutput`` (the file is its only entry)."""

    source: FileRef
    owner: Owner | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BindMount(Mount):
    """A directory or file, whichever it turns out to be; what is written to it is dropped."""

    source: DirectoryRef
    read_only: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class CacheMount(Mount):
    """A cache volume; its content is no input of the cache key."""

    #: Identity of the volume, which takes in the user's key, sharing, owner and source.
    volume: str
    sharing: Sharing = Sharing.SHARED
    source: DirectoryRef | None = None
    owner: Owner | None = None
    #: Of the volume when it is made.
    permissions: int | None = None
    read_only: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class TmpfsMount(Mount):
    """An empty file system in memory."""

    size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SecretMount(Mount):
    """A secret as a file on a tmpfs."""

    secret: SecretRef
    owner: Owner | None = None
    mode: int = 0o400


@dataclass(frozen=True, kw_only=True, eq=False)
class SocketMount(Mount):
    """A unix socket of the host; with its own owner, or another."""

    host_path: str
    owner: Owner | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ServiceSpec(Vertex):
    """A long-running exec that others reach by name; the same definition runs once a session."""

    exec: Exec
    #: (port, protocol, is health-checked)
    ports: tuple[tuple[int, str, bool], ...] = ()
    hostname: str = ""
    #: Docker health check: argv, empty for none.
    healthcheck: tuple[str, ...] = ()
    health_timing: HealthTiming = DEFAULT_TIMING


@dataclass(frozen=True, kw_only=True, eq=False)
class Exec(Vertex):
    """One command in a sandbox. Its value is an exit code, two output streams and file trees."""

    base_name: ClassVar[str] = "root"

    root: Tree
    args: tuple[str, ...]
    #: Sorted by name.
    env: tuple[tuple[str, str], ...] = ()
    secret_env: tuple[tuple[str, SecretRef], ...] = ()
    workdir: str = "/"
    user: str = ""
    mounts: tuple[Mount, ...] = ()
    #: (alias, service)
    services: tuple[tuple[str, ServiceSpec], ...] = ()
    stdin: str = ""
    redirect_stdin: str = ""
    redirect_stdout: str = ""
    redirect_stderr: str = ""
    expect: Expect = Expect.SUCCESS
    insecure_root_capabilities: bool = False
    no_init: bool = False
    #: It reaches no network, not even services.
    offline: bool = False
    platform: str = ""
    #: Values that the command sees but that are no input of any key.
    volatile_env: tuple[tuple[str, str], ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExecRootOutput(Tree):
    """The root file system after an exec."""

    base_name: ClassVar[str] = "exec"

    exec: Exec


@dataclass(frozen=True, kw_only=True, eq=False)
class ExecMountOutput(Tree):
    """What is at a directory or file mount after an exec."""

    base_name: ClassVar[str] = "exec"

    exec: Exec
    path: str
