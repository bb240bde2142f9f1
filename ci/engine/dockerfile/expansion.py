"""Variables in words: ``$NAME``, ``${NAME:-default}`` and the like, quotes and escapes.

Pure, and linear or nearly so in the length of what it is given.
https://docs.docker.com/reference/dockerfile/#environment-replacement
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["BadSubstitution", "Expander"]

#: Substitutions within substitutions beyond this are nobody's intention.
_MAX_DEPTH = 50
#: Characters of a value that patterns are matched against.
_MAX_VALUE = 4096
_SPECIAL = frozenset("@*#?-$!0")


class BadSubstitution(ValueError):
    """A word's quotes or substitutions are not as a shell would have them."""


class Expander:
    """Replaces variables by their values in ``scope``.

    Args:
        scope: Values by name.
        escape: What makes the next character plain.
        raw_quotes: Leave quotes where they are.
        raw_escapes: Leave escapes where they are.
        quotes: Quotes mean something.
        keep_unset: Leave variables that have no value as they are written.
    """

    def __init__(
        self,
        scope: Mapping[str, str],
        *,
        escape: str = "\\",
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        quotes: bool = True,
        keep_unset: bool = False,
    ) -> None:
        self.scope = scope
        self.escape = escape
        self.raw_quotes = raw_quotes
        self.raw_escapes = raw_escapes
        self.quotes = quotes
        self.keep_unset = keep_unset

    def word(self, text: str) -> str:
        """The text, with its variables replaced and its quotes gone.

        Raises:
            BadSubstitution: a quote or brace is not closed, or a variable must be set.
        """
        if not any(mark in text for mark in ("$", "'", '"', self.escape)):
            return text
        return _Scan(self, text).run("", raw_escapes=self.raw_escapes)

    def words(self, text: str) -> list[str]:
        """The same, split at spaces that are not quoted; a plain variable's value is split too."""
        scan = _Scan(self, text)
        scan.run("", raw_escapes=self.raw_escapes)
        return scan.words.all()


class _Words:
    """Collects words."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._open: list[str] = []

    def add(self, text: str, *, plain: bool) -> None:
        """Take more of the text; spaces in what is plain end a word."""
        if not plain:
            self._open.append(text)
            return
        for char in text:
            if char.isspace():
                self._close()
            else:
                self._open.append(char)

    def _close(self) -> None:
        word = "".join(self._open)
        if word:
            self._done.append(word)
        self._open = []

    def all(self) -> list[str]:
        """All words so far."""
        self._close()
        return self._done


class _Scan:
    """One pass over one text."""

    def __init__(self, rules: Expander, text: str) -> None:
        self._rules = rules
        self._text = text
        self._at = 0
        self._depth = 0
        self.words = _Words()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._text[self._at : self._at + 1]
        self._at += 1
        return char

    def run(self, stop: str, *, raw_escapes: bool) -> str:
        """The text up to ``stop`` (to the end where that is empty), replaced."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise BadSubstitution(f"more than {_MAX_DEPTH} substitutions within each other")
        out: list[str] = []
        outermost = self._depth == 1
        while char := self._peek():
            if char == stop:
                self._at += 1
                self._depth -= 1
                return "".join(out)
            plain = char == "$"
            if char == "$":
                piece = self._dollar()
            elif char == "'" and self._rules.quotes:
                piece = self._single()
            elif char == '"' and self._rules.quotes:
                piece = self._double(raw_escapes=raw_escapes)
            elif char == self._rules.escape:
                piece = self._escaped(raw_escapes=raw_escapes)
            else:
                piece, plain = self._take(), True
            out.append(piece)
            if outermost:
                self.words.add(piece, plain=plain)
        if stop:
            raise BadSubstitution(f"no closing {stop}")
        self._depth -= 1
        return "".join(out)

    def _escaped(self, *, raw_escapes: bool) -> str:
        kept = self._take() if raw_escapes else ""
        if not raw_escapes:
            self._at += 1
        return kept + self._take()

    def _single(self) -> str:
        start = self._at
        end = self._text.find("'", start + 1)
        if end < 0:
            raise BadSubstitution("no closing single quote")
        self._at = end + 1
        return (
            self._text[start : end + 1] if self._rules.raw_quotes else self._text[start + 1 : end]
        )

    def _double(self, *, raw_escapes: bool) -> str:
        quote = '"' if self._rules.raw_quotes else ""
        self._at += 1
        out = [quote]
        while char := self._peek():
            if char == '"':
                self._at += 1
                out.append(quote)
                return "".join(out)
            if char == "$":
                out.append(self._dollar())
                continue
            self._at += 1
            if char == self._rules.escape:
                following = self._peek()
                if raw_escapes:
                    out.append(char)
                if not following:
                    continue
                if following in ('"', "$", self._rules.escape):
                    char = self._take()
                elif raw_escapes:
                    continue
            out.append(char)
        raise BadSubstitution("no closing double quote")

    # -- variables -----------------------------------------------------------------------------

    def _dollar(self) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._rules.scope.get(name)
            if value is None:
                return f"${name}" if self._rules.keep_unset else ""
            return value
        start = self._at
        self._at += 1
        value = self._braced()
        if value is None:
            return "$" + self._text[start : self._at]
        return value

    def _braced(self) -> str | None:
        """The value of ``${...}``; None where it is to stay as it is written."""
        if self._peek() in ("{", "}", ":"):
            raise BadSubstitution("a bad substitution: ${" + self._peek())
        name = self._name()
        mark = self._take()
        if not mark:
            raise BadSubstitution("no closing }")
        value = self._rules.scope.get(name)
        kept = value is None and self._rules.keep_unset
        if mark == "}":
            return None if kept else (value or "")
        if mark == "/":
            replaced = self._replaced(value or "")
            return None if kept else replaced
        empty_counts = mark == ":"
        if empty_counts:
            mark = self._take()
        if mark not in ("-", "+", "?", "#", "%") or not mark:
            raise BadSubstitution(f"the modifier {mark!r} of {name}")
        word = self.run("}", raw_escapes=mark in ("#", "%"))
        return None if kept else _modified(name, value, mark, word, empty_counts=empty_counts)

    def _replaced(self, value: str) -> str:
        """``${NAME/pattern/new}``, or all of them with ``//``."""
        everywhere = self._peek() == "/"
        if everywhere:
            self._at += 1
        pattern = _tokens(self.run("/", raw_escapes=True))
        new = self.run("}", raw_escapes=True)
        return _substitute(pattern, _matchable(value), new, everywhere=everywhere)

    def _name(self) -> str:
        first = self._peek()
        start = self._at
        if first.isdigit():
            while self._peek().isdigit():
                self._at += 1
        elif first in _SPECIAL and first:
            self._at += 1
        else:
            while (char := self._peek()) and (char.isalpha() or char.isdigit() or char == "_"):
                self._at += 1
        return self._text[start : self._at]


def _modified(name: str, value: str | None, mark: str, word: str, *, empty_counts: bool) -> str:
    """What ``${NAME-word}`` and its kin stand for."""
    missing = value is None or (empty_counts and not value)
    if mark == "-":
        return word if missing else (value or "")
    if mark == "+":
        return "" if missing else word
    if mark == "?":
        if missing:
            state = "unset" if value is None else "empty"
            raise BadSubstitution(f"{name}: {word or f'is not allowed to be {state}'}")
        return value or ""
    greedy = word.startswith(mark)
    text = _matchable(value or "")
    tokens = _tokens(word[greedy:])
    if mark == "#":
        ends = _ends(tokens, text, 0)
        return text[(max(ends) if greedy else min(ends)) :] if ends else text
    backwards = text[::-1]
    ends = _ends(tokens[::-1], backwards, 0)
    return backwards[(max(ends) if greedy else min(ends)) :][::-1] if ends else text


# -- shell patterns ------------------------------------------------------------------------------

#: A plain character, or these.
_ANY = ("?",)
_MANY = ("*",)
_Token = str | tuple[str]


def _matchable(value: str) -> str:
    if len(value) > _MAX_VALUE:
        raise BadSubstitution(f"a value of {len(value)} characters in a pattern's substitution")
    return value


def _tokens(pattern: str) -> list[_Token]:
    """A pattern of ``*`` and ``?``; a backslash makes either plain."""
    found: list[_Token] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\" and at < len(pattern):
            char = pattern[at]
            at += 1
            if char not in "*?\\}/":
                raise BadSubstitution(f"the escape \\{char} in a pattern")
            found.append(char)
        elif char == "*":
            if not found or found[-1] != _MANY:
                found.append(_MANY)
        else:
            found.append(_ANY if char == "?" else char)
    return found


def _ends(tokens: Sequence[_Token], text: str, start: int) -> set[int]:
    """Where matches that start at ``start`` may end."""
    places = {start}
    for token in tokens:
        if token == _MANY:
            places = set(range(min(places), len(text) + 1))
        elif token == _ANY:
            places = {place + 1 for place in places if place < len(text)}
        else:
            places = {place + 1 for place in places if text[place : place + 1] == token}
        if not places:
            break
    return places


def _substitute(pattern: Sequence[_Token], text: str, new: str, *, everywhere: bool) -> str:
    out: list[str] = []
    at = 0
    while at <= len(text):
        ends = _ends(pattern, text, at)
        end = max(ends) if ends else -1
        if end < 0 or (end == at and at == len(text) and out):
            out.append(text[at : at + 1])
            at += 1
            continue
        out.append(new)
        if end == at:
            out.append(text[at : at + 1])
            end += 1
        at = end
        if not everywhere:
            return "".join(out) + text[at:]
    return "".join(out)
