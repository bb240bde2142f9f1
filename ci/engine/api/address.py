"""Fields of Address: something loaded from where a text says."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from ci.engine.api import git as git_fields
from ci.engine.api import git_ref as git_ref_fields
from ci.engine.api import host, query
from ci.engine.api.container_config import from_
from ci.engine.api.context import Context
from ci.engine.api.directory import directory as directory_in
from ci.engine.api.directory import file as file_in
from ci.engine.api.values import Address, HostState, ServiceState, Socket
from ci.engine.git.repository import GitRef, GitRepository
from ci.engine.git.url import GitURL
from ci.engine.refusal import Refusal
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import DirectoryRef, FileRef, SecretRef

__all__ = [
    "container",
    "directory",
    "file",
    "git_ref",
    "git_repository",
    "secret",
    "service",
    "socket",
    "value",
]

_HOST = HostState()
_SECRET_KINDS = ("env", "file", "cmd")


def value(address: Address, _: Context) -> str:
    """The text."""
    return address.value


async def container(address: Address, ctx: Context) -> ContainerState:
    """A container on the image of that name."""
    return await from_(query.container(None, ctx), ctx, address=address.value)


async def directory(
    address: Address,
    ctx: Context,
    *,
    exclude: Sequence[str],
    include: Sequence[str],
    gitignore: bool,
    no_cache: bool,
) -> DirectoryRef:
    """A folder of the host, or of a git repository (``URL#REF:FOLDER``)."""
    if _is_git(address):
        return directory_in(await _tree(address, ctx), ctx, path=_url(address).folder)
    return host.directory(
        _HOST,
        ctx,
        path=_path(address),
        exclude=exclude,
        include=include,
        no_cache=no_cache,
        gitignore=gitignore,
    )


async def file(
    address: Address,
    ctx: Context,
    *,
    exclude: Sequence[str],  # noqa: ARG001 - of one file there is nothing to leave out
    include: Sequence[str],  # noqa: ARG001
    gitignore: bool,  # noqa: ARG001
    no_cache: bool,
) -> FileRef:
    """A file of the host, or of a git repository (``URL#REF:PATH``)."""
    if not _is_git(address):
        return host.file(_HOST, ctx, path=_path(address), no_cache=no_cache)
    path = _url(address).folder
    if not path:
        raise Refusal("address", got=repr(address.value), expected="a path: URL#REF:PATH")
    return file_in(await _tree(address, ctx), ctx, path=path)


def git_repository(address: Address, ctx: Context) -> GitRepository:
    """The repository at a URL, or in a folder of the host."""
    if not _is_git(address):
        folder = host.directory(
            _HOST, ctx, path=_path(address), exclude=(), include=(), no_cache=False, gitignore=False
        )
        return GitRepository(directory=folder)
    return query.git(
        None,
        ctx,
        url=address.value,
        keep_git_dir=True,
        ssh_known_hosts="",
        http_auth_username="",
    )


async def git_ref(address: Address, ctx: Context) -> GitRef:
    """What the fragment of a URL names, or what is checked out where it names nothing."""
    name = _url(address).ref if _is_git(address) else ""
    return await git_fields.ref(git_repository(address, ctx), ctx, name=name or "HEAD")


def secret(address: Address, ctx: Context) -> SecretRef:
    """A secret by URI; ``env:NAME`` is ``env://NAME``."""
    kind, _, rest = address.value.partition(":")
    short = kind in _SECRET_KINDS and not rest.startswith("//")
    return ctx.secrets.from_uri(f"{kind}://{rest}" if short else address.value)


def service(address: Address, ctx: Context) -> ServiceState:
    """What listens at ``tcp://HOST:PORT``, as the host reaches it."""
    parts = urlsplit(address.value)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "tcp" or not parts.hostname or not port:
        raise Refusal("service address", got=repr(address.value), expected="tcp://HOST:PORT")
    return host.service(_HOST, ctx, host=parts.hostname, ports=[{"backend": port}])


def socket(address: Address, ctx: Context) -> Socket:
    """A unix socket of the host."""
    return host.unix_socket(_HOST, ctx, path=address.value.removeprefix("unix://"))


def _is_git(address: Address) -> bool:
    """It is the URL of a remote repository."""
    text = address.value
    return ("://" in text and not text.startswith("file://")) or text.startswith("git@")


def _url(address: Address) -> GitURL:
    return GitURL.parse(address.value)


def _path(address: Address) -> str:
    return address.value.removeprefix("file://")


async def _tree(address: Address, ctx: Context) -> DirectoryRef:
    at = await git_ref(address, ctx)
    return await git_ref_fields.tree(at, ctx, discard_git_dir=False, depth=1, include_tags=False)
