"""From the text of a Dockerfile to its logical lines: directives, comments, heredocs.

Pure. https://docs.docker.com/reference/dockerfile/#format
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ci.engine.dockerfile.expansion import BadSubstitution, Expander
from ci.engine.dockerfile.fault import DockerfileError

__all__ = ["Heredoc", "Line", "Source", "heredoc_of", "read"]

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"\d*<<(-?)\s*([^<]+)", re.DOTALL)
#: Instructions whose lines may be followed by documents.
_WITH_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})
#: Only a line feed ends a row: ``splitlines`` knows more marks.
_ROW = re.compile(r"[^\n]*\n|[^\n]+")
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Heredoc:
    """A document that follows a line. Its content is as written."""

    name: str
    #: Its variables are replaced: no part of its name was quoted.
    expand: bool = True
    #: ``<<-``: leading tabs count for nothing.
    chomp: bool = False
    content: str = ""

    @property
    def text(self) -> str:
        """The content, without leading tabs where it says so."""
        return _LEADING_TABS.sub("", self.content) if self.chomp else self.content


@dataclass(frozen=True, kw_only=True)
class Line:
    """One instruction as it is written, put together from all its lines."""

    number: int
    keyword: str
    #: All after the keyword, without space around it.
    rest: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Dockerfile's logical lines."""

    #: The name by which messages call it.
    file: str
    escape: str
    lines: tuple[Line, ...]


def read(text: str, file: str) -> Source:
    """The logical lines of a Dockerfile.

    Raises:
        DockerfileError: it is no text, a directive is wrong, a heredoc does not end, or there is no
            instruction.
    """
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DockerfileError(file, line, "", got="a NUL character", expected="text")
    return _Reader(text, file).read()


def heredoc_of(word: str) -> Heredoc | None:
    """The document that a word such as ``<<EOF`` names; None where it names none.

    Raises:
        BadSubstitution: its name is not closed.
    """
    match = _HEREDOC.fullmatch(word)
    if match is None:
        return None
    plain = Expander({}, keep_unset=True).words(match[2])
    quoted = Expander({}, keep_unset=True, raw_quotes=True).words(match[2])
    if len(plain) != 1 or len(quoted) != 1:
        return None
    return Heredoc(
        name=plain[0], chomp=match[1] == "-", expand=_quotes(plain[0]) == _quotes(quoted[0])
    )


def _quotes(word: str) -> int:
    return word.count("'") + word.count('"')


class _Reader:
    """Reads one text, from top to bottom."""

    def __init__(self, text: str, file: str) -> None:
        self._rows: list[str] = _ROW.findall(text.removeprefix("\ufeff"))
        self._at = 0
        self._file = file
        self._escape = "\\"
        self._seen: set[str] = set()
        self._may_be_directive = True

    def read(self) -> Source:
        lines = tuple(self._lines())
        if not lines:
            raise DockerfileError(
                self._file, 0, "", got="no instruction", expected="FROM and what follows it"
            )
        return Source(file=self._file, escape=self._escape, lines=lines)

    def _lines(self) -> Iterator[Line]:
        while self._at < len(self._rows):
            row = self._next().lstrip()
            if row.startswith("#"):
                self._directive(row)
                continue
            self._may_be_directive = False
            number = self._at
            body = self._continued(row)
            if body.strip():
                yield self._line(number, body.strip())

    def _next(self) -> str:
        row = self._rows[self._at]
        self._at += 1
        return row.rstrip("\r\n")

    def _directive(self, row: str) -> None:
        """Take in ``# escape=`` and the like, which stand above all else."""
        match = _DIRECTIVE.fullmatch(row) if self._may_be_directive else None
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            self._may_be_directive = False
            return
        if name in self._seen:
            raise self._error(f"directive {name}", got="a second one", expected="one at most")
        self._seen.add(name)
        if name == "escape":
            if match[2] not in ("\\", "`"):
                raise self._error("directive escape", got=repr(match[2]), expected="\\ or `")
            self._escape = match[2]

    def _continued(self, row: str) -> str:
        """The row, and those that it goes on in. Comments and empty rows between them are none."""
        parts: list[str] = []
        body, goes_on = self._cut(row)
        parts.append(body)
        while goes_on and self._at < len(self._rows):
            row = self._next()
            if not row.strip() or row.lstrip().startswith("#"):
                continue
            body, goes_on = self._cut(row)
            parts.append(body)
        return "".join(parts)

    def _cut(self, row: str) -> tuple[str, bool]:
        """The row without its continuation mark, and whether it had one."""
        bare = row.rstrip(" \t")
        if bare.endswith(self._escape) and bare[-2:-1] != self._escape:
            return bare[:-1], True
        return row, False

    def _line(self, number: int, body: str) -> Line:
        keyword, rest = _split(body)
        keyword = keyword.upper()
        holder = keyword
        if keyword == "ONBUILD":
            holder = _split(rest)[0].upper()
        heredocs: tuple[Heredoc, ...] = ()
        if holder in _WITH_HEREDOCS and "<<" in rest:
            heredocs = tuple(self._document(number, one) for one in self._named(number, rest))
        return Line(number=number, keyword=keyword, rest=rest, heredocs=heredocs)

    def _named(self, number: int, rest: str) -> list[Heredoc]:
        """The documents that a line names."""
        expander = Expander({}, keep_unset=True, raw_quotes=True, raw_escapes=True)
        try:
            words = expander.words(rest)
        except BadSubstitution:
            return []  # a shell may make sense of it
        try:
            return [found for word in words if (found := heredoc_of(word)) is not None]
        except BadSubstitution as error:
            raise DockerfileError(self._file, number, "heredoc", got=str(error)) from None

    def _document(self, number: int, heredoc: Heredoc) -> Heredoc:
        rows: list[str] = []
        while self._at < len(self._rows):
            row = self._rows[self._at]
            self._at += 1
            end = row.rstrip("\r\n")
            if (end.lstrip("\t") if heredoc.chomp else end) == heredoc.name:
                return Heredoc(
                    name=heredoc.name,
                    expand=heredoc.expand,
                    chomp=heredoc.chomp,
                    content="".join(rows),
                )
            rows.append(row)
        raise DockerfileError(
            self._file, number, f"heredoc {heredoc.name}",
            got="the end of the file", expected=f"a line that is {heredoc.name}",
        )  # fmt: skip

    def _error(self, what: str, *, got: str, expected: str) -> DockerfileError:
        return DockerfileError(self._file, self._at, what, got=got, expected=expected)


def _split(body: str) -> tuple[str, str]:
    """The first word, and what follows it."""
    first, *rest = body.split(None, 1) or [""]
    return first, rest[0].strip() if rest else ""
