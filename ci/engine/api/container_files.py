"""Fields of Container: files, directories and mounts."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace

from ci.engine.api.context import Context
from ci.engine.api.context import owner as owner_of
from ci.engine.api.listing import is_there, stat_of
from ci.engine.api.values import CacheVolume, Socket, Stat
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import (
    CacheMount,
    Copy,
    DirectoryMount,
    DirectoryRef,
    FileMount,
    FileRef,
    NewFile,
    Patterns,
    Scratch,
    SecretMount,
    SecretRef,
    Sharing,
    SocketMount,
    Symlink,
    TmpfsMount,
    Without,
)

__all__ = [
    "directory",
    "exists",
    "file",
    "mounts",
    "rootfs",
    "stat",
    "with_directory",
    "with_file",
    "with_files",
    "with_mounted_cache",
    "with_mounted_directory",
    "with_mounted_file",
    "with_mounted_secret",
    "with_mounted_temp",
    "with_new_file",
    "with_rootfs",
    "with_symlink",
    "with_unix_socket",
    "without_directory",
    "without_file",
    "without_files",
    "without_mount",
    "without_unix_socket",
]


def _place(container: ContainerState, path: str, *, expand: bool) -> str:
    """An absolute path in the container."""
    return container.resolve(container.expand(path) if expand else path)


# -- reading -------------------------------------------------------------------------------------


def directory(container: ContainerState, _: Context, *, path: str, expand: bool) -> DirectoryRef:
    """A directory of the container, or of what is mounted there."""
    _mount, tree, place = container.locate(_place(container, path, expand=expand))
    return DirectoryRef(tree=tree, path=place)


def file(container: ContainerState, _: Context, *, path: str, expand: bool) -> FileRef:
    """A file of the container, or of what is mounted there."""
    _mount, tree, place = container.locate(_place(container, path, expand=expand))
    return FileRef(tree=tree, path=place)


async def exists(
    container: ContainerState,
    ctx: Context,
    *,
    path: str,
    expand: bool,
    do_not_follow_symlinks: bool,
    expected_type: str | None = None,
) -> bool:
    """Something is at the path, and of that type."""
    _mount, tree, place = container.locate(_place(container, path, expand=expand))
    return await is_there(
        ctx,
        FileRef(tree=tree, path=place),
        expected_type=expected_type,
        follow=not do_not_follow_symlinks,
    )


async def stat(
    container: ContainerState, ctx: Context, *, path: str, do_not_follow_symlinks: bool
) -> Stat:
    """What is at the path."""
    _mount, tree, place = container.locate(container.resolve(path))
    return await stat_of(ctx, FileRef(tree=tree, path=place), follow=not do_not_follow_symlinks)


def rootfs(container: ContainerState, _: Context) -> DirectoryRef:
    """The root file system, without what is mounted."""
    return DirectoryRef(tree=container.root)


def mounts(container: ContainerState, _: Context) -> list[str]:
    """Where something is mounted."""
    return [mount.path for mount in container.mounts]


# -- writing -------------------------------------------------------------------------------------


def with_rootfs(container: ContainerState, ctx: Context, *, directory: str) -> ContainerState:
    """The root file system replaced."""
    ref = ctx.get(directory, DirectoryRef)
    if ref.path == "/":
        return replace(container, root=ref.tree)
    return replace(container, root=Copy(tree=Scratch(), path="/", source=ref))


def with_directory(
    container: ContainerState,
    ctx: Context,
    *,
    path: str,
    source: str,
    exclude: Sequence[str],
    include: Sequence[str],
    gitignore: bool,
    owner: str,
    expand: bool,
    permissions: int | None = None,
) -> ContainerState:
    """A directory's entries copied in."""
    ref = ctx.get(source, DirectoryRef)
    patterns = Patterns(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore)
    by = owner_of(container.expand(owner) if expand else owner)
    return container.change(
        _place(container, path, expand=expand),
        lambda tree, place: Copy(
            tree=tree,
            path=place,
            source=ref,
            patterns=patterns,
            owner=by,
            permissions=permissions,
        ),
    )


def with_file(
    container: ContainerState,
    ctx: Context,
    *,
    path: str,
    source: str,
    owner: str,
    expand: bool,
    permissions: int | None = None,
) -> ContainerState:
    """A file copied in; a path that ends with a slash is the folder it goes to."""
    ref = ctx.get(source, FileRef)
    given = container.expand(path) if expand else path
    if given.endswith("/"):
        given = posixpath.join(given, posixpath.basename(ref.path))
    by = owner_of(container.expand(owner) if expand else owner)
    return container.change(
        container.resolve(given),
        lambda tree, place: Copy(
            tree=tree, path=place, source=ref, owner=by, permissions=permissions
        ),
    )


def with_files(
    container: ContainerState,
    ctx: Context,
    *,
    path: str,
    sources: Sequence[str],
    owner: str,
    expand: bool,
    permissions: int | None = None,
) -> ContainerState:
    """Files copied into a folder, under their own names."""
    for source in sources:
        container = with_file(
            container,
            ctx,
            path=path.rstrip("/") + "/",
            source=source,
            owner=owner,
            expand=expand,
            permissions=permissions,
        )
    return container


def with_new_file(
    container: ContainerState,
    _: Context,
    *,
    path: str,
    contents: str,
    permissions: int,
    owner: str,
    expand: bool,
) -> ContainerState:
    """A file of these contents."""
    by = owner_of(container.expand(owner) if expand else owner)
    return container.change(
        _place(container, path, expand=expand),
        lambda tree, place: NewFile(
            tree=tree,
            path=place,
            contents=contents.encode(),
            permissions=permissions,
            owner=by,
        ),
    )


def with_symlink(
    container: ContainerState, _: Context, *, target: str, link_name: str, expand: bool
) -> ContainerState:
    """A symbolic link, which need not lead anywhere."""
    leads_to = container.expand(target) if expand else target
    return container.change(
        _place(container, link_name, expand=expand),
        lambda tree, place: Symlink(tree=tree, path=place, target=leads_to),
    )


def without_directory(
    container: ContainerState, _: Context, *, path: str, expand: bool
) -> ContainerState:
    """The directory gone."""
    return container.change(
        _place(container, path, expand=expand),
        lambda tree, place: Without(tree=tree, paths=(place,)),
    )


def without_file(
    container: ContainerState, _: Context, *, path: str, expand: bool
) -> ContainerState:
    """The file gone."""
    return container.change(
        _place(container, path, expand=expand),
        lambda tree, place: Without(tree=tree, paths=(place,)),
    )


def without_files(
    container: ContainerState, ctx: Context, *, paths: Sequence[str], expand: bool
) -> ContainerState:
    """The files gone."""
    for path in paths:
        container = without_file(container, ctx, path=path, expand=expand)
    return container


# -- mounting ------------------------------------------------------------------------------------


def with_mounted_directory(
    container: ContainerState,
    ctx: Context,
    *,
    path: str,
    source: str,
    owner: str,
    read_only: bool,
    expand: bool,
) -> ContainerState:
    """A directory mounted; what execs write to it is not in the root file system."""
    return container.with_mount(
        DirectoryMount(
            path=_place(container, path, expand=expand),
            source=ctx.get(source, DirectoryRef),
            owner=owner_of(container.expand(owner) if expand else owner),
            read_only=read_only,
        )
    )


def with_mounted_file(
    container: ContainerState, ctx: Context, *, path: str, source: str, owner: str, expand: bool
) -> ContainerState:
    """A file mounted."""
    return container.with_mount(
        FileMount(
            path=_place(container, path, expand=expand),
            source=ctx.get(source, FileRef),
            owner=owner_of(container.expand(owner) if expand else owner),
        )
    )


def with_mounted_cache(
    container: ContainerState,
    ctx: Context,
    *,
    path: str,
    cache: str,
    sharing: str,
    owner: str,
    expand: bool,
    source: str | None = None,
) -> ContainerState:
    """A cache volume mounted; sharing, owner and source are of its identity."""
    volume = ctx.get(cache, CacheVolume)
    if sharing != Sharing.SHARED:
        volume = replace(volume, sharing=Sharing(sharing))
    if owner:
        volume = replace(volume, owner=container.expand(owner) if expand else owner)
    if source:
        volume = replace(volume, source=ctx.get(source, DirectoryRef))
    return container.with_mount(
        CacheMount(
            path=_place(container, path, expand=expand),
            volume=volume.digest,
            sharing=volume.sharing,
            source=volume.source,
            owner=owner_of(volume.owner),
        )
    )


def with_mounted_temp(
    container: ContainerState, _: Context, *, path: str, expand: bool, size: int | None = None
) -> ContainerState:
    """An empty file system in memory, of at most ``size`` bytes."""
    return container.with_mount(
        TmpfsMount(path=_place(container, path, expand=expand), size_bytes=size)
    )


def with_mounted_secret(
    container: ContainerState,
    ctx: Context,
    *,
    path: str,
    source: str,
    owner: str,
    mode: int,
    expand: bool,
) -> ContainerState:
    """A secret as a file, for execs only."""
    return container.with_secret_mount(
        SecretMount(
            path=_place(container, path, expand=expand),
            secret=ctx.get(source, SecretRef),
            owner=owner_of(container.expand(owner) if expand else owner),
            mode=mode,
        )
    )


def without_mount(
    container: ContainerState, _: Context, *, path: str, expand: bool
) -> ContainerState:
    """What is mounted there, unmounted."""
    return container.without_mount(_place(container, path, expand=expand))


def with_unix_socket(
    container: ContainerState,
    ctx: Context,
    *,
    path: str,
    source: str,
    owner: str,
    expand: bool,
) -> ContainerState:
    """A unix socket of the host mounted."""
    return container.with_socket(
        SocketMount(
            path=_place(container, path, expand=expand),
            host_path=ctx.get(source, Socket).host_path,
            owner=owner_of(container.expand(owner) if expand else owner),
        )
    )


def without_unix_socket(
    container: ContainerState, _: Context, *, path: str, expand: bool
) -> ContainerState:
    """The unix socket unmounted."""
    place = _place(container, path, expand=expand)
    kept = tuple(mount for mount in container.sockets if mount.path != place)
    return replace(container, sockets=kept)
