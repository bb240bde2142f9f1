"""The build context: the Dockerfile in it, and what .dockerignore takes out of it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import Protocol

from ci.engine.dockerfile.fault import DockerfileError, nearest
from ci.engine.trees.merged import NoSuchPath
from ci.engine.vertices.container import join
from ci.engine.vertices.vertex import DirectoryRef, FileRef, Filter, HostDirectory, Patterns, Tree

__all__ = ["Context", "Reader", "ignore_patterns", "open_context"]

_IGNORE = ".dockerignore"


@dataclass(frozen=True, kw_only=True)
class Context:
    """A build context, opened."""

    #: The Dockerfile's text.
    text: str
    #: The context less what is ignored.
    directory: DirectoryRef


class Reader(Protocol):
    """Reads the build context."""

    async def read(self, ref: FileRef) -> bytes:
        """A file's content. Raises NoSuchPath."""
        ...

    async def entries(self, ref: DirectoryRef) -> list[str]:
        """The names in a directory."""
        ...


async def open_context(reader: Reader, source: DirectoryRef, dockerfile: str) -> Context:
    """Read the Dockerfile at that path of the context, and what is to be ignored.

    Of a folder of the host no more is read now than these files.

    Raises:
        DockerfileError: there is no such file.
    """
    names = (dockerfile, f"{dockerfile}{_IGNORE}", _IGNORE)
    few = _only(source, names)
    text = await _read(reader, few, dockerfile)
    if text is None and few != source:
        text = await _read(reader, source, dockerfile)
    if text is None:
        entries = await reader.entries(source)
        raise DockerfileError(
            dockerfile, 0, "", got="no such file in the build context", expected="a Dockerfile",
            hint=nearest(posixpath.basename(dockerfile), entries),
        )  # fmt: skip
    ignored: str | None = None
    for name in names[1:]:
        ignored = await _read(reader, few, name)
        if ignored is not None:
            break
    return Context(text=text, directory=_without(source, ignore_patterns(ignored or "")))


def ignore_patterns(text: str) -> tuple[str, ...]:
    """The patterns of a .dockerignore: a line each; ``#`` begins a comment."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines() if line[:1] != "#")
    return tuple(line for line in lines if line and line not in ("!", "/"))


def _only(source: DirectoryRef, names: tuple[str, ...]) -> DirectoryRef:
    """The directory with nothing but these files, where that spares reading all of it."""
    tree = source.tree
    if not isinstance(tree, HostDirectory) or tree.patterns.include:
        return source
    include = tuple(_literally(join(source.path, name)[1:]) for name in names)
    few = replace(tree, patterns=replace(tree.patterns, include=include))
    return DirectoryRef(tree=few, path=source.path)


def _literally(path: str) -> str:
    """A pattern that only this path matches."""
    return "".join(f"\\{char}" if char in "\\*?[!" else char for char in path)


async def _read(reader: Reader, source: DirectoryRef, name: str) -> str | None:
    try:
        content = await reader.read(FileRef(tree=source.tree, path=join(source.path, name)))
    except NoSuchPath:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise DockerfileError(
            name, line, "", got=f"the byte {byte:#x}, which is no UTF-8", expected="UTF-8"
        ) from None


def _without(source: DirectoryRef, exclude: tuple[str, ...]) -> DirectoryRef:
    """The directory less what is ignored; of a folder of the host that is never read."""
    if not exclude:
        return source
    tree: Tree = source.tree
    # What takes back could take back what the caller's own patterns exclude.
    takes_back = any(pattern.startswith("!") for pattern in exclude)
    if isinstance(tree, HostDirectory) and source.path == "/":
        own = tree.patterns.exclude
        if not (own and takes_back):
            patterns = replace(tree.patterns, exclude=(*own, *exclude))
            return DirectoryRef(tree=replace(tree, patterns=patterns))
    return DirectoryRef(tree=Filter(source=source, patterns=Patterns(exclude=exclude)))
