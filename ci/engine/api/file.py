"""Fields of File."""

from __future__ import annotations

import posixpath
from hashlib import sha256

from ci.engine.api import env_file, json_value
from ci.engine.api.context import Context
from ci.engine.api.directory_changes import search
from ci.engine.api.host import absolute
from ci.engine.api.listing import stat_of
from ci.engine.api.values import EnvFile, JSONValue, Stat
from ci.engine.refusal import Refusal
from ci.engine.vertices.edits import Chown, Timestamps
from ci.engine.vertices.vertex import Copy, FileRef, NewFile, Owner, Scratch

__all__ = [
    "as_env_file",
    "as_json",
    "chown",
    "contents",
    "digest",
    "export",
    "name",
    "search",
    "size",
    "stat",
    "sync",
    "with_name",
    "with_replaced",
    "with_timestamps",
]


def name(file: FileRef, _: Context) -> str:
    """Its name, without the folder."""
    return posixpath.basename(file.path)


async def contents(
    file: FileRef,
    ctx: Context,
    *,
    offset_lines: int | None = None,
    limit_lines: int | None = None,
) -> str:
    """Its text, or those lines of it."""
    text = (await ctx.solver.read(file)).decode("utf-8", "replace")
    if not offset_lines and limit_lines is None:
        return text
    start = offset_lines or 0
    if start < 0 or (limit_lines is not None and limit_lines < 0):
        raise Refusal("lines of a file", got="a negative number", expected="zero or more")
    lines = text.splitlines(keepends=True)[start:]
    return "".join(lines if limit_lines is None else lines[:limit_lines])


async def size(file: FileRef, ctx: Context) -> int:
    """In bytes."""
    return (await stat_of(ctx, file, follow=True)).size


async def stat(file: FileRef, ctx: Context) -> Stat:
    """What it is."""
    return await stat_of(ctx, file, follow=True)


async def digest(file: FileRef, ctx: Context, *, exclude_metadata: bool) -> str:
    """Of its content, and its mode and owner too unless they are excluded."""
    if exclude_metadata:
        return "sha256:" + sha256(await ctx.solver.read(file)).hexdigest()
    return "blake3:" + await ctx.solver.content_digest(file)


async def sync(file: FileRef, ctx: Context) -> str:
    """The file's ID, once it has been evaluated."""
    await stat_of(ctx, file, follow=True)
    return ctx.objects.id(file)


async def export(file: FileRef, ctx: Context, *, path: str, allow_parent_dir_path: bool) -> str:
    """Write it to the host; the path it has there."""
    place = absolute(ctx, path)
    return str(await ctx.solver.export_file(file, place, allow_parent_dir=allow_parent_dir_path))


async def as_env_file(
    file: FileRef,
    ctx: Context,
    *,
    expand: bool | None = None,  # noqa: ARG001 - references are always replaced
) -> EnvFile:
    """The variables that it holds."""
    return env_file.parsed((await ctx.solver.read(file)).decode("utf-8", "replace"))


async def as_json(file: FileRef, ctx: Context) -> JSONValue:
    """The JSON value that it holds."""
    text = (await ctx.solver.read(file)).decode("utf-8", "replace")
    json_value.check(text, f"file {name(file, ctx)!r}")
    return JSONValue(text=text.strip())


def chown(file: FileRef, _: Context, *, owner: str) -> FileRef:
    """It belongs to ``user[:group]``."""
    made = Chown(tree=file.tree, path=file.path, owner=Owner(spec=owner))
    return FileRef(tree=made, path=file.path)


def with_timestamps(file: FileRef, _: Context, *, timestamp: int) -> FileRef:
    """It was last changed at this time, in seconds since the epoch."""
    made = Timestamps(tree=file.tree, path=file.path, seconds=timestamp)
    return FileRef(tree=made, path=file.path)


def with_name(file: FileRef, _: Context, *, name: str) -> FileRef:
    """The same file under another name."""
    if "/" in name or name in ("", ".", ".."):
        raise Refusal("file name", got=repr(name), expected="a name without a folder")
    return FileRef(tree=Copy(tree=Scratch(), path=f"/{name}", source=file), path=f"/{name}")


async def with_replaced(
    file: FileRef,
    ctx: Context,
    *,
    search: str,
    replacement: str,
    all: bool,  # noqa: A002 - the argument's name
    first_from: int | None = None,
) -> FileRef:
    """The file with text replaced: once, or everywhere.

    Raises:
        Refusal: the text is not in it, or is there more than once and none was chosen.
    """
    data = await ctx.solver.read(file)
    found = await stat_of(ctx, file, follow=True)
    changed = _replaced(
        data, search.encode(), replacement.encode(), everywhere=all, line=first_from
    )
    path = f"/{posixpath.basename(file.path)}"
    made = NewFile(tree=Scratch(), path=path, contents=changed, permissions=found.permissions)
    return FileRef(tree=made, path=path)


def _replaced(
    data: bytes, search: bytes, replacement: bytes, *, everywhere: bool, line: int | None
) -> bytes:
    """The bytes with the text replaced; ``line`` (from 1) is where the search begins."""
    if not search:
        raise Refusal("withReplaced", got="an empty search", expected="the text to replace")
    start = 0
    for _ in range(min((line or 1) - 1, data.count(b"\n") + 1)):
        start = data.find(b"\n", start) + 1 or len(data)
    count = data.count(search, start)
    if count == 0:
        raise Refusal("withReplaced", got="no such text in the file")
    if count > 1 and not everywhere and line is None:
        raise Refusal(
            "withReplaced", got=f"the text {count} times", expected="once, or all, or firstFrom"
        )
    return data[:start] + data[start:].replace(search, replacement, -1 if everywhere else 1)
