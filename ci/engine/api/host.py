"""Fields of Host: the caller's machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ci.engine.api.context import Context
from ci.engine.api.values import HostState, ServiceState, Socket, TunnelState
from ci.engine.images.programs import find_program
from ci.engine.refusal import Refusal, Unsupported
from ci.engine.services.service import HostServiceSpec
from ci.engine.vertices.container import ContainerState, ExposedPort
from ci.engine.vertices.vertex import (
    DirectoryRef,
    Exec,
    FileRef,
    HostDirectory,
    HostFile,
    Patterns,
    Scratch,
    SecretRef,
)

__all__ = [
    "container_image",
    "directory",
    "file",
    "find_up",
    "service",
    "set_secret_file",
    "tunnel",
    "unix_socket",
]


async def container_image(_: HostState, ctx: Context, *, name: str) -> ContainerState:
    """A container on an image of the machine's own Docker or Podman."""
    file = ctx.temporary() / "image.tar"
    await (await find_program()).save(name, file)
    return await ctx.images.load(ContainerState(platform=ctx.platform), file)


def directory(
    _: HostState,
    ctx: Context,
    *,
    path: str,
    exclude: Sequence[str],
    include: Sequence[str],
    no_cache: bool,
    gitignore: bool,
    no_git_auto_ignore: bool = False,  # noqa: ARG001 - gitignore says it already
) -> DirectoryRef:
    """A folder of the host, less what is filtered out; a link to one stands for it."""
    patterns = Patterns(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore)
    place = absolute(ctx, path)
    if place.is_symlink():
        place = place.resolve()
    tree = HostDirectory(path=str(place), patterns=patterns, nonce=ctx.nonce() if no_cache else "")
    return DirectoryRef(tree=tree)


def file(_: HostState, ctx: Context, *, path: str, no_cache: bool) -> FileRef:
    """A file of the host."""
    place = absolute(ctx, path)
    tree = HostFile(path=str(place), nonce=ctx.nonce() if no_cache else "")
    return FileRef(tree=tree, path=f"/{place.name}")


def find_up(
    _: HostState,
    ctx: Context,
    *,
    name: str,
    no_cache: bool,  # noqa: ARG001 - nothing is kept
) -> str | None:
    """Path, from the working directory, of the nearest ``name`` there or above."""
    for folder in (ctx.workdir, *ctx.workdir.parents):
        if (folder / name).exists():
            return os.path.relpath(folder / name, ctx.workdir)
    return None


def set_secret_file(_: HostState, ctx: Context, *, name: str, path: str) -> SecretRef:  # noqa: ARG001
    """A secret that is read from a file of the host."""
    return ctx.secrets.from_uri(f"file://{absolute(ctx, path)}")


def tunnel(
    _: HostState,
    ctx: Context,
    *,
    service: str,
    native: bool,
    ports: Sequence[Mapping[str, Any]],
) -> TunnelState:
    """A service that serves another one on the host: at its own ports where it is native."""
    target = ctx.get(service, ServiceState)
    forwards = forwards_of(ports, default=0)
    if native or not forwards:
        own = [port.port for port in target.ports if port.protocol == "TCP"]
        forwards += tuple((port, port if native else 0) for port in own)
    if not forwards:
        raise Refusal("no ports exposed")
    return TunnelState(target=target, forwards=forwards)


def service(
    _: HostState, _ctx: Context, *, host: str, ports: Sequence[Mapping[str, Any]]
) -> ServiceState:
    """A service that passes connections on to a port that the host reaches."""
    forwards = forwards_of(ports)
    if not forwards:
        raise Refusal("Host.service", got="no ports", expected="one at least")
    spec = HostServiceSpec(
        exec=Exec(root=Scratch(), args=("host", host, *(f"{b}:{f}" for b, f in forwards))),
        ports=tuple((frontend, "TCP", True) for _, frontend in forwards),
        host=host,
        forwards=forwards,
    )
    exposed = tuple(ExposedPort(port=frontend) for _, frontend in forwards)
    return ServiceState(spec=spec, ports=exposed)


def forwards_of(
    ports: Sequence[Mapping[str, Any]], *, default: int | None = None
) -> tuple[tuple[int, int], ...]:
    """(backend, frontend) of each; a frontend that is not given is ``default``, or the backend.

    Raises:
        Refusal: one is not TCP, or no port number.
    """
    pairs = []
    for port in ports:
        backend, frontend = port["backend"], port.get("frontend")
        if (port.get("protocol") or "TCP") != "TCP":
            raise Unsupported("PortForward(protocol: UDP)")
        if not (0 < backend < 65536 and 0 <= (frontend or 0) < 65536):
            raise Refusal("port", got=f"{frontend}:{backend}", expected="1 to 65535")
        pairs.append(
            (backend, (backend if default is None else default) if frontend is None else frontend)
        )
    return tuple(pairs)


def unix_socket(_: HostState, ctx: Context, *, path: str) -> Socket:
    """A unix socket of the host."""
    return Socket(host_path=str(absolute(ctx, path)))


def absolute(ctx: Context, path: str) -> Path:
    """A host path, from the working directory."""
    return Path(os.path.normpath(ctx.workdir / os.path.expanduser(path)))
