"""Fields of Query."""

from __future__ import annotations

import os
import posixpath
from urllib.parse import urlsplit

from ci.engine.api.context import Context
from ci.engine.api.values import (
    Address,
    CacheVolume,
    Changeset,
    EnvFile,
    Error,
    HostState,
    JSONValue,
    ServiceState,
    Socket,
)
from ci.engine.git.repository import GitRepository
from ci.engine.git.url import GitURL
from ci.engine.images.oci import Platform
from ci.engine.refusal import Refusal
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import (
    DirectoryRef,
    FileRef,
    Http,
    NewFile,
    Scratch,
    SecretRef,
    ServiceSpec,
    Sharing,
    Vertex,
)

__all__ = [
    "address",
    "cache_volume",
    "changeset",
    "container",
    "default_platform",
    "directory",
    "env_file",
    "error",
    "file",
    "git",
    "host",
    "http",
    "json",
    "node",
    "secret",
    "set_secret",
    "version",
]


def address(_: object, _ctx: Context, *, value: str) -> Address:
    """Where something is to be loaded from."""
    if not value:
        raise Refusal("address", got="an empty one", expected="a path, a URL or a name")
    return Address(value=value)


def container(_: object, ctx: Context, *, platform: str | None = None) -> ContainerState:
    """An empty container."""
    return ContainerState(platform=str(Platform.parse(platform)) if platform else ctx.platform)


def directory(_: object, _ctx: Context) -> DirectoryRef:
    """An empty directory."""
    return DirectoryRef(tree=Scratch())


def file(_: object, _ctx: Context, *, name: str, contents: str, permissions: int) -> FileRef:
    """A file of these contents."""
    if "/" in name or name in ("", ".", ".."):
        raise Refusal("file name", got=repr(name), expected="a name without a folder")
    tree = NewFile(
        tree=Scratch(), path=f"/{name}", contents=contents.encode(), permissions=permissions
    )
    return FileRef(tree=tree, path=f"/{name}")


def cache_volume(
    _: object,
    ctx: Context,
    *,
    key: str,
    sharing: str,
    owner: str,
    source: str | None = None,
    namespace: str = "",
) -> CacheVolume:
    """A cache volume by key."""
    if not key:
        raise Refusal("cache volume", got="an empty key", expected="a name")
    return CacheVolume(
        key=f"{namespace}:{key}" if namespace else key,
        sharing=Sharing(sharing),
        owner=owner,
        source=ctx.get(source, DirectoryRef) if source else None,
    )


def secret(_: object, ctx: Context, *, uri: str, cache_key: str | None = None) -> SecretRef:
    """A secret that is read from where the URI says."""
    return ctx.secrets.from_uri(uri, cache_key or "")


def set_secret(_: object, ctx: Context, *, name: str, plaintext: str) -> SecretRef:
    """A secret of this value."""
    return ctx.secrets.set(name, plaintext)


def git(
    _: object,
    ctx: Context,
    *,
    url: str,
    keep_git_dir: bool,
    ssh_known_hosts: str,
    http_auth_username: str,
    ssh_auth_socket: str | None = None,
    http_auth_token: str | None = None,
    http_auth_header: str | None = None,
    experimental_service_host: str | None = None,
) -> GitRepository:
    """A remote repository; nothing is asked of it yet."""
    socket = ctx.get(ssh_auth_socket, Socket).host_path if ssh_auth_socket else ""
    return GitRepository(
        url=GitURL.parse(url).text,
        keep_git_dir=keep_git_dir,
        username=http_auth_username,
        token=ctx.get(http_auth_token, SecretRef) if http_auth_token else None,
        header=ctx.get(http_auth_header, SecretRef) if http_auth_header else None,
        ssh_known_hosts=ssh_known_hosts,
        ssh_auth_socket=socket or os.environ.get("SSH_AUTH_SOCK", ""),
        service=_service(ctx, experimental_service_host),
    )


def _service(ctx: Context, name: str | None) -> ServiceSpec | None:
    return ctx.get(name, ServiceState).spec if name else None


def http(
    _: object,
    ctx: Context,
    *,
    url: str,
    name: str | None = None,
    permissions: int | None = None,
    checksum: str | None = None,
    auth_header: str | None = None,
    experimental_service_host: str | None = None,
) -> FileRef:
    """A download."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Refusal("http", got=repr(url), expected="an http:// or https:// URL")
    called = name or posixpath.basename(parts.path) or "index"
    tree = Http(
        url=url,
        name=called,
        permissions=0o600 if permissions is None else permissions,
        checksum=checksum or "",
        auth_header=ctx.get(auth_header, SecretRef) if auth_header else None,
        service=_service(ctx, experimental_service_host),
    )
    return FileRef(tree=tree, path=f"/{called}")


def changeset(_: object, _ctx: Context) -> Changeset:
    """No changes."""
    empty = DirectoryRef(tree=Scratch())
    return Changeset(before=empty, after=empty)


def env_file(_: object, _ctx: Context, *, expand: bool | None = None) -> EnvFile:  # noqa: ARG001
    """No variables; references in values are always replaced."""
    return EnvFile()


def error(_: object, _ctx: Context, *, message: str) -> Error:
    """An error as a value."""
    return Error(message=message)


def json(_: object, _ctx: Context) -> JSONValue:
    """The JSON value null."""
    return JSONValue()


def host(_: object, _ctx: Context) -> HostState:
    """The caller's machine."""
    return HostState()


def node(_: object, ctx: Context, *, id: str) -> Vertex:  # noqa: A002 - the field's argument
    """The object of an ID."""
    return ctx.objects.find(id)


def default_platform(_: object, ctx: Context) -> str:
    """The platform of this machine."""
    return ctx.platform


def version(_: object, ctx: Context) -> str:
    """The version of Dagger's API that this is like."""
    return ctx.version
