"""What COPY, ADD and bind mounts take of a tree: by path, pattern or with folders.

Blocks; the solver calls it in threads.
https://docs.docker.com/reference/dockerfile/#copy
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ci.engine.dockerfile.fault import nearest
from ci.engine.trees.digest import TreeHasher
from ci.engine.trees.merged import Entry, MergedTree, NoSuchPath, normalize
from ci.engine.trees.patterns import glob_expression, select
from ci.engine.vertices.vertex import CopySource, FileRef, Patterns

__all__ = ["Match", "inside", "literal", "matches", "taken_digest"]

_WILD = re.compile(r"(?<!\\)(?:\\\\)*[*?\[]")
_STARS = re.compile(r"\*+")


@dataclass(frozen=True, slots=True)
class Match:
    """Something that a source names."""

    #: What it is called where it goes into a directory.
    name: str
    #: What is there, a link at the end followed.
    entry: Entry


def matches(tree: MergedTree, source: CopySource) -> list[Match]:
    """What the source names, in byte order. A pattern may name nothing.

    Raises:
        NoSuchPath: a path that is no pattern is not there.
    """
    if isinstance(source.source, FileRef):
        entry = tree.require(source.source.path, "file")
        return [Match(posixpath.basename(source.source.path), entry)]
    base = normalize(source.source.path)
    path = normalize(source.path)
    if not _WILD.search(path):
        found = literal(tree, base, path)
        _require_below(tree, found, source)
        return found
    return list(_wild(tree, base, path))


def literal(tree: MergedTree, base: str, path: str) -> list[Match]:
    """What is at a path below ``base``; the root of an empty tree is nothing.

    Raises:
        NoSuchPath: nothing is; the hint names what is called nearly so.
    """
    place = normalize(base + path)
    entry = tree.lookup(place)
    if entry is not None:
        return [Match(posixpath.basename(path), entry)]
    if place == "/":
        return []
    folder = tree.lookup(posixpath.dirname(place))
    beside = tree.children(folder) if folder is not None and folder.is_directory else []
    names = [posixpath.basename(one.path) for one in beside]
    raise NoSuchPath(
        f"path {path[1:]!r}", got="no such file or directory", expected="a file or directory",
        hint=nearest(posixpath.basename(path), names),
    )  # fmt: skip


def _require_below(tree: MergedTree, found: list[Match], source: CopySource) -> None:
    """With ``--parents`` a path that is no pattern must be there, too."""
    if source.below and not _WILD.search(source.below):
        for match in found:
            literal(tree, match.entry.path, normalize(source.below))


def _wild(tree: MergedTree, base: str, path: str) -> Iterator[Match]:
    parts = path[1:].split("/")
    first = next(place for place, part in enumerate(parts) if _WILD.search(part))
    rules = [
        re.compile(glob_expression(_STARS.sub("*", part)), re.DOTALL) for part in parts[first:]
    ]
    for above in literal(tree, base, "/" + "/".join(parts[:first])):
        yield from _descend(tree, above.entry, rules)


def _descend(tree: MergedTree, folder: Entry, rules: list[re.Pattern[str]]) -> Iterator[Match]:
    if not folder.is_directory:
        return
    for child in tree.children(folder):
        name = posixpath.basename(child.path)
        if not rules[0].fullmatch(name):
            continue
        if len(rules) > 1:
            yield from _descend(tree, child, rules[1:])
            continue
        entry = tree.lookup(child.path)
        if entry is not None:
            yield Match(name, entry)


def inside(tree: MergedTree, folder: Entry, source: CopySource) -> Iterator[tuple[str, Entry]]:
    """(path relative to it, entry) of what counts in a directory, parents first."""
    include = (source.below,) if source.below else ()
    return select(tree, folder, Patterns(include=include, exclude=source.exclude))


def taken_digest(
    tree: MergedTree, found: list[Match], source: CopySource, digest_of: Callable[[Entry], str]
) -> str:
    """Hex BLAKE3 of all that is taken: names, permissions, owners, content."""
    hasher = TreeHasher(digest_of)
    for match in found:
        hasher.add(match.name, match.entry)
        if match.entry.is_directory:
            hasher.add_all(inside(tree, match.entry, source))
    return hasher.hexdigest()
