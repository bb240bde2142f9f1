"""Fields of Host: the caller's machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ci.engine.api.context import Context
from ci.engine.api.values import HostState, Socket
from ci.engine.vertex import DirectoryRef, FileRef, HostDirectory, HostFile, Patterns, SecretRef

__all__ = ["directory", "file", "find_up", "set_secret_file", "unix_socket"]


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
    """A folder of the host, less what is filtered out."""
    patterns = Patterns(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore)
    tree = HostDirectory(
        path=str(absolute(ctx, path)), patterns=patterns, nonce=ctx.nonce() if no_cache else ""
    )
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


def unix_socket(_: HostState, ctx: Context, *, path: str) -> Socket:
    """A unix socket of the host."""
    return Socket(host_path=str(absolute(ctx, path)))


def absolute(ctx: Context, path: str) -> Path:
    """A host path, from the working directory."""
    return Path(os.path.normpath(ctx.workdir / os.path.expanduser(path)))
