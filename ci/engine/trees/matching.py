"""Matching the text of files, as ripgrep does it, with Python's regular expressions.

Offsets are in bytes. Files that hold a NUL byte, and lines that are no UTF-8, are passed over.

This is a program, too, with nothing but the standard library: such an expression may take longer
than anybody lives, and only a process can be stopped in it. It reads one request in JSON, and ends
by SIGXCPU after ``CPU_SECONDS`` of work, whatever became of who started it.
"""

from __future__ import annotations

import io
import json
import re
import resource
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["CPU_SECONDS", "Expression", "Match", "Submatch", "answer", "request"]

CPU_SECONDS = 60
#: Without these an expression is tried once at each place, and takes no longer than its own length.
_REPEATING = frozenset("*+?{|(")


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
class Expression:
    """What to look for in texts, and how much to tell of it."""

    pattern: str
    literal: bool = False
    multiline: bool = False
    dotall: bool = False
    insensitive: bool = False
    files_only: bool = False
    #: Of results, in all; None for no limit.
    limit: int | None = None

    @property
    def is_quick(self) -> bool:
        """It takes a time in proportion to the text."""
        return self.literal or not _REPEATING & set(self.pattern)

    def compiled(self) -> re.Pattern[str]:
        """The pattern; ``^`` and ``$`` match at each line.

        Raises:
            re.error, RecursionError, OverflowError: it is no regular expression.
        """
        flags = re.MULTILINE
        flags |= re.IGNORECASE if self.insensitive else 0
        flags |= re.DOTALL if self.dotall and self.multiline else 0
        return re.compile(re.escape(self.pattern) if self.literal else self.pattern, flags)

    def among(self, files: Iterable[tuple[str, str]]) -> list[Match]:
        """Results in files, by the path to tell and the path to read."""
        found: list[Match] = []
        pattern = self.compiled()
        for path, place in files:
            with open(place, "rb") as file:
                data = file.read()
            for match in self._matches(pattern, path, data):
                if self.limit is not None and len(found) >= self.limit:
                    return found
                found.append(match)
        return found

    def _matches(self, pattern: re.Pattern[str], path: str, data: bytes) -> Iterator[Match]:
        """Results in a file's content."""
        if b"\0" in data:
            return
        for match in self._in_text(pattern, path, data):
            if self.files_only:
                yield Match(path=path)
                return
            yield match

    def _in_text(self, pattern: re.Pattern[str], path: str, data: bytes) -> Iterator[Match]:
        if self.multiline:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                return
            yield from _across_lines(pattern, path, text)
            return
        offset = 0
        for number, raw in enumerate(io.BytesIO(data), 1):
            try:
                line = raw.decode()
            except UnicodeDecodeError:
                line = None
            if line is not None and (subs := _submatches(pattern, line.removesuffix("\n"))):
                yield Match(path=path, line=number, offset=offset, lines=line, submatches=subs)
            offset += len(raw)


def _submatches(pattern: re.Pattern[str], text: str) -> tuple[Submatch, ...]:
    return tuple(_submatch(found, text) for found in pattern.finditer(text))


def _submatch(found: re.Match[str], text: str, start: int = 0) -> Submatch:
    """A match, counted from the character ``start`` of the text."""
    first = len(text[start : found.start()].encode())
    return Submatch(text=found[0], start=first, end=first + len(found[0].encode()))


def _across_lines(pattern: re.Pattern[str], path: str, text: str) -> Iterator[Match]:
    """Results that may take several lines; those that share a line are one."""
    starts = [0, *(place.end() for place in re.finditer("\n", text))]
    groups: list[tuple[int, int, list[re.Match[str]]]] = []
    for found in pattern.finditer(text):
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


def request(expression: Expression, files: Sequence[tuple[str, str]]) -> bytes:
    """What the program reads."""
    said = {field.name: getattr(expression, field.name) for field in fields(Expression)}
    return json.dumps({"expression": said, "files": list(files)}).encode()


def answer(printed: bytes) -> list[Match]:
    """What the program prints, as it was found."""
    return [_match(**found) for found in json.loads(printed)]


def _match(*, submatches: Iterable[dict[str, Any]], **found: Any) -> Match:
    return Match(**found, submatches=tuple(Submatch(**each) for each in submatches))


def main() -> None:
    """Answer the request on standard input."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    asked = json.load(sys.stdin)
    found = Expression(**asked["expression"]).among(asked["files"])
    json.dump([asdict(match) for match in found], sys.stdout)


if __name__ == "__main__":
    main()
