"""Searching the text of files, as ripgrep does it, with Python's regular expressions.

Offsets are in bytes. Files that hold a NUL byte, and lines that are no UTF-8, are passed over.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ci.engine.trees.merged import Entry, MergedTree
from ci.engine.trees.patterns import glob_expression, select
from ci.engine.vertices.vertex import Patterns
from ci.errors import CiError

__all__ = ["Match", "Search", "SearchError", "Submatch"]


class SearchError(CiError):
    """There is nothing to search by, or not there."""


@dataclass(frozen=True, kw_only=True)
class Submatch:
    """One place that matched, from the start of the match's first line. In bytes."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Match:
    """The whole lines in which something matched; of a whole file, where only names are wanted."""

    path: str
    #: Of the first line, from 1.
    line: int = 0
    #: Of the first line in the file, in bytes.
    offset: int = 0
    lines: str = ""
    submatches: tuple[Submatch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to look for, and where.

    Raises:
        SearchError: the pattern is no regular expression.
    """

    pattern: str
    literal: bool = False
    multiline: bool = False
    dotall: bool = False
    insensitive: bool = False
    skip_ignored: bool = False
    skip_hidden: bool = False
    files_only: bool = False
    #: Of results, in all; None for no limit.
    limit: int | None = None
    paths: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.expression()

    def expression(self) -> re.Pattern[str]:
        """The pattern; ``^`` and ``$`` match at each line."""
        flags = re.MULTILINE
        flags |= re.IGNORECASE if self.insensitive else 0
        flags |= re.DOTALL if self.dotall and self.multiline else 0
        try:
            return re.compile(re.escape(self.pattern) if self.literal else self.pattern, flags)
        except (re.error, RecursionError, OverflowError) as error:
            raise SearchError(
                "search pattern", got=f"{self.pattern!r} ({error})",
                expected="a regular expression", hint="literal takes the pattern as it is",
            ) from None  # fmt: skip

    def directory(self, tree: MergedTree, root: Entry | None) -> list[Match]:
        """Results below a directory, by path.

        Raises:
            SearchError: a path that was named is not there.
        """
        return self._limited(self._files(tree, root))

    def file(self, entry: Entry, name: str) -> list[Match]:
        """Results in one file."""
        return self._limited([(name, entry)])

    # -- which files ---------------------------------------------------------------------------

    def _files(self, tree: MergedTree, root: Entry | None) -> Iterator[tuple[str, Entry]]:
        if root is None:
            return
        wanted = [path.strip("/").removeprefix("./") for path in self.paths]
        wanted = [path for path in wanted if path not in ("", ".")]
        for path in wanted:
            base = "" if root.path == "/" else root.path
            if tree.lookup(f"{base}/{path}") is None:
                raise SearchError(f"search path {path!r}", got="no such file or directory")
        globs = _Globs(self.globs)
        for path, entry in select(tree, root, Patterns(gitignore=self.skip_ignored)):
            if entry.kind != "file" or not globs.take(path):
                continue
            if self.skip_hidden and any(part.startswith(".") for part in path.split("/")):
                continue
            if not self.paths or len(wanted) < len(self.paths) or _below(path, wanted):
                yield path, entry

    # -- what in them --------------------------------------------------------------------------

    def _limited(self, files: Iterable[tuple[str, Entry]]) -> list[Match]:
        found: list[Match] = []
        expression = self.expression()
        for path, entry in files:
            for match in self._matches(expression, path, Path(entry.host).read_bytes()):
                if self.limit is not None and len(found) >= self.limit:
                    return found
                found.append(match)
        return found

    def _matches(self, expression: re.Pattern[str], path: str, data: bytes) -> Iterator[Match]:
        """Results in a file's content."""
        if b"\0" in data:
            return
        for match in self._in_text(expression, path, data):
            if self.files_only:
                yield Match(path=path)
                return
            yield match

    def _in_text(self, expression: re.Pattern[str], path: str, data: bytes) -> Iterator[Match]:
        if self.multiline:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                return
            yield from _across_lines(expression, path, text)
            return
        offset = 0
        for number, raw in enumerate(io.BytesIO(data), 1):
            try:
                line = raw.decode()
            except UnicodeDecodeError:
                line = None
            if line is not None and (subs := _submatches(expression, line.removesuffix("\n"))):
                yield Match(path=path, line=number, offset=offset, lines=line, submatches=subs)
            offset += len(raw)


class _Globs:
    """Which paths are named by globs: a later one wins, ``!`` takes back."""

    def __init__(self, globs: tuple[str, ...]) -> None:
        self._rules = [
            (glob.startswith("!"), re.compile(_anywhere(glob.removeprefix("!")), re.DOTALL))
            for glob in globs
        ]
        self._default = all(negated for negated, _ in self._rules)

    def take(self, path: str) -> bool:
        """Whether the path counts."""
        for negated, expression in reversed(self._rules):
            if expression.fullmatch(path):
                return not negated
        return self._default


def _anywhere(glob: str) -> str:
    """A glob as in .gitignore: without a slash it is about names, at any depth."""
    inside = glob.rstrip("/")
    prefix = "" if "/" in inside else "(?:.*/)?"
    return prefix + glob_expression(inside.lstrip("/")) + "(?:/.*)?"


def _below(path: str, wanted: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in wanted)


def _submatches(expression: re.Pattern[str], text: str) -> tuple[Submatch, ...]:
    return tuple(_submatch(found, text) for found in expression.finditer(text))


def _submatch(found: re.Match[str], text: str, start: int = 0) -> Submatch:
    """A match, counted from the character ``start`` of the text."""
    first = len(text[start : found.start()].encode())
    return Submatch(text=found[0], start=first, end=first + len(found[0].encode()))


def _across_lines(expression: re.Pattern[str], path: str, text: str) -> Iterator[Match]:
    """Results that may take several lines; those that share a line are one."""
    starts = [0, *(place.end() for place in re.finditer("\n", text))]
    groups: list[tuple[int, int, list[re.Match[str]]]] = []
    for found in expression.finditer(text):
        first = bisect_right(starts, found.start()) - 1
        last = bisect_right(starts, max(found.start(), found.end() - 1)) - 1
        if groups and groups[-1][1] >= first:
            start, end, matches = groups[-1]
            groups[-1] = (start, max(end, last), [*matches, found])
        else:
            groups.append((first, last, [found]))
    for first, last, matches in groups:
        start = starts[first]
        end = starts[last + 1] if last + 1 < len(starts) else len(text)
        if start == len(text):
            continue
        yield Match(
            path=path,
            line=first + 1,
            offset=len(text[:start].encode()),
            lines=text[start:end],
            submatches=tuple(_submatch(found, text, start) for found in matches),
        )
