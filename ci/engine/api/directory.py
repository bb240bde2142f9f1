"""Fields of Directory."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from ci.engine.api.context import Context
from ci.engine.api.context import owner as owner_of
from ci.engine.api.host import absolute
from ci.engine.api.listing import is_there, stat_of
from ci.engine.api.values import Stat
from ci.engine.images.oci import Platform
from ci.engine.refusal import Refusal, Unsupported
from ci.engine.vertices.container import ContainerState, join
from ci.engine.vertices.vertex import (
    Copy,
    Diff,
    DirectoryRef,
    FileRef,
    Filter,
    NewDirectory,
    NewFile,
    Patterns,
    SecretRef,
    Symlink,
    Tree,
    Without,
)

__all__ = [
    "diff",
    "digest",
    "directory",
    "docker_build",
    "entries",
    "exists",
    "export",
    "file",
    "filter",
    "find_up",
    "glob",
    "name",
    "stat",
    "sync",
    "with_directory",
    "with_error",
    "with_file",
    "with_files",
    "with_new_directory",
    "with_new_file",
    "with_symlink",
    "without_directory",
    "without_file",
    "without_files",
]


def _at(source: DirectoryRef, path: str) -> str:
    """A path of the directory, in its tree; it cannot leave the directory.

    Raises:
        Refusal: it would.
    """
    below = posixpath.normpath(posixpath.join(".", path.lstrip("/")))
    if below == ".." or below.startswith("../"):
        raise Refusal("path", got=repr(path), expected="one inside the directory")
    return join(source.path, below)


def _with(source: DirectoryRef, tree: Tree) -> DirectoryRef:
    """The same directory of a changed tree."""
    return DirectoryRef(tree=tree, path=source.path)


# -- reading -------------------------------------------------------------------------------------


def name(source: DirectoryRef, _: Context) -> str:
    """Its last part; ``/`` for a whole tree."""
    return posixpath.basename(source.path) or "/"


def directory(source: DirectoryRef, _: Context, *, path: str) -> DirectoryRef:
    """A directory below."""
    return DirectoryRef(tree=source.tree, path=_at(source, path))


async def docker_build(
    source: DirectoryRef,
    ctx: Context,
    *,
    dockerfile: str,
    build_args: Sequence[Mapping[str, str]],
    target: str,
    secrets: Sequence[str],
    no_init: bool,
    platform: str | None = None,
    ssh: str | None = None,
) -> ContainerState:
    """The container that a Dockerfile of the directory describes; it is built when it is used."""
    from ci.engine.dockerfile.build import build  # noqa: PLC0415 - only where it is asked for

    if ssh:
        raise Unsupported("Directory.dockerBuild(ssh:)")
    if platform and Platform.parse(ctx.platform).rank(vars(Platform.parse(platform))) != 0:
        raise Unsupported("Directory.dockerBuild(platform:)", f"{platform} on {ctx.platform}")
    passed = [ctx.get(secret, SecretRef) for secret in secrets]
    return await build(
        ctx.solver,
        ctx.images.base,
        source,
        dockerfile=_at(DirectoryRef(tree=source.tree), dockerfile)[1:],
        platform=ctx.platform,
        build_args={pair["name"]: pair["value"] for pair in build_args},
        target=target,
        secrets={_secret_id(ctx.secrets.label(secret)): secret for secret in passed},
        no_init=no_init,
    )


def _secret_id(label: str) -> str:
    """How a Dockerfile names a secret: by its name; by the last part of its URI."""
    return posixpath.basename(label.rstrip("/")) if "://" in label else label


def file(source: DirectoryRef, _: Context, *, path: str) -> FileRef:
    """A file below."""
    return FileRef(tree=source.tree, path=_at(source, path))


async def entries(source: DirectoryRef, ctx: Context, *, path: str | None = None) -> list[str]:
    """Names there; those of directories end with a slash."""
    return await ctx.solver.entries(DirectoryRef(tree=source.tree, path=_at(source, path or ".")))


async def glob(source: DirectoryRef, ctx: Context, *, pattern: str) -> list[str]:
    """Paths that match; those of directories end with a slash."""
    return await ctx.solver.glob(source, pattern)


async def digest(source: DirectoryRef, ctx: Context) -> str:
    """Of the content: names, modes, owners, bytes."""
    return "blake3:" + await ctx.solver.content_digest(source)


async def sync(source: DirectoryRef, ctx: Context) -> str:
    """The directory's ID, once it has been evaluated."""
    await ctx.solver.entries(source)
    return ctx.objects.id(source)


async def exists(
    source: DirectoryRef,
    ctx: Context,
    *,
    path: str,
    do_not_follow_symlinks: bool,
    expected_type: str | None = None,
) -> bool:
    """Something is at the path, and of that type."""
    return await is_there(
        ctx,
        file(source, ctx, path=path),
        expected_type=expected_type,
        follow=not do_not_follow_symlinks,
    )


async def stat(
    source: DirectoryRef, ctx: Context, *, path: str, do_not_follow_symlinks: bool
) -> Stat:
    """What is at the path."""
    return await stat_of(ctx, file(source, ctx, path=path), follow=not do_not_follow_symlinks)


async def find_up(source: DirectoryRef, ctx: Context, *, name: str, start: str) -> str | None:
    """Path of the nearest ``name`` in ``start`` or above it, within the directory."""
    folder = posixpath.normpath(start.strip("/") or ".")
    while True:
        candidate = posixpath.normpath(posixpath.join(folder, name))
        if await is_there(ctx, file(source, ctx, path=candidate), follow=True):
            return candidate
        if folder in (".", ""):
            return None
        folder = posixpath.dirname(folder) or "."


async def export(source: DirectoryRef, ctx: Context, *, path: str, wipe: bool) -> str:
    """Write it to the host; the path it has there."""
    place = absolute(ctx, path)
    await ctx.solver.export_directory(source, place, wipe=wipe)
    return str(place)


# -- changing ------------------------------------------------------------------------------------


def with_new_file(
    source: DirectoryRef, _: Context, *, path: str, contents: str, permissions: int
) -> DirectoryRef:
    """A file of these contents."""
    made = NewFile(
        tree=source.tree,
        path=_at(source, path),
        contents=contents.encode(),
        permissions=permissions,
    )
    return _with(source, made)


def with_new_directory(
    source: DirectoryRef, _: Context, *, path: str, permissions: int
) -> DirectoryRef:
    """A directory; Dagger's default mode for it is 0644."""
    made = NewDirectory(tree=source.tree, path=_at(source, path), permissions=permissions)
    return _with(source, made)


def with_directory(
    target: DirectoryRef,
    ctx: Context,
    *,
    path: str,
    source: str,
    exclude: Sequence[str],
    include: Sequence[str],
    gitignore: bool,
    owner: str,
    permissions: int | None = None,
) -> DirectoryRef:
    """Another directory's entries copied in."""
    copied = Copy(
        tree=target.tree,
        path=_at(target, path),
        source=ctx.get(source, DirectoryRef),
        patterns=Patterns(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore),
        owner=owner_of(owner),
        permissions=permissions,
    )
    return _with(target, copied)


def with_file(
    target: DirectoryRef,
    ctx: Context,
    *,
    path: str,
    source: str,
    owner: str = "",
    permissions: int | None = None,
) -> DirectoryRef:
    """A file copied in; a path that ends with a slash is the folder it goes to."""
    ref = ctx.get(source, FileRef)
    given = path + posixpath.basename(ref.path) if path.endswith("/") else path
    copied = Copy(
        tree=target.tree,
        path=_at(target, given),
        source=ref,
        owner=owner_of(owner),
        permissions=permissions,
    )
    return _with(target, copied)


def with_files(
    target: DirectoryRef,
    ctx: Context,
    *,
    path: str,
    sources: Sequence[str],
    permissions: int | None = None,
) -> DirectoryRef:
    """Files copied into a folder, under their own names."""
    for source in sources:
        target = with_file(
            target, ctx, path=path.rstrip("/") + "/", source=source, permissions=permissions
        )
    return target


def with_symlink(source: DirectoryRef, _: Context, *, target: str, link_name: str) -> DirectoryRef:
    """A symbolic link, which need not lead anywhere."""
    return _with(source, Symlink(tree=source.tree, path=_at(source, link_name), target=target))


def without_directory(source: DirectoryRef, _: Context, *, path: str) -> DirectoryRef:
    """The directory gone."""
    return _with(source, Without(tree=source.tree, paths=(_at(source, path),)))


def without_file(source: DirectoryRef, _: Context, *, path: str) -> DirectoryRef:
    """The file gone."""
    return _with(source, Without(tree=source.tree, paths=(_at(source, path),)))


def without_files(source: DirectoryRef, _: Context, *, paths: Sequence[str]) -> DirectoryRef:
    """The files gone."""
    return _with(
        source, Without(tree=source.tree, paths=tuple(_at(source, path) for path in paths))
    )


def filter(  # noqa: A001 - the field's name
    source: DirectoryRef,
    _: Context,
    *,
    exclude: Sequence[str],
    include: Sequence[str],
    gitignore: bool,
) -> DirectoryRef:
    """The entries that match, as a directory of its own."""
    patterns = Patterns(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore)
    return DirectoryRef(tree=Filter(source=source, patterns=patterns))


def diff(source: DirectoryRef, ctx: Context, *, other: str) -> DirectoryRef:
    """What the other directory adds to or changes of this one."""
    return DirectoryRef(tree=Diff(lower=source, upper=ctx.get(other, DirectoryRef)))


def with_error(source: DirectoryRef, _: Context, *, err: str) -> DirectoryRef:
    """Fail with this message; an empty one changes nothing."""
    if err:
        raise Refusal(err)
    return source
