"""Splitting the rest of a line: flags, words that keep their quotes, JSON arrays, pairs. Pure."""

from __future__ import annotations

import json
import re

__all__ = ["BadWords", "json_array", "pairs", "plain_words", "quoted_words", "take_flags"]

_SPACE = re.compile(r"[\t\v\f\r ]+")
Pairs = tuple[tuple[str, str], ...]


class BadWords(ValueError):
    """A line cannot be split as its instruction asks."""

    def __init__(self, got: str, expected: str) -> None:
        super().__init__(got)
        self.got = got
        self.expected = expected


def take_flags(rest: str) -> tuple[tuple[str, ...], str]:
    """The flags (``--name``, ``--name=value``) at the start, without quotes, and what follows."""
    flags: list[str] = []
    at = 0
    while rest.startswith("--", at):
        word, end = _flag(rest, at)
        at = end
        while at < len(rest) and rest[at].isspace():
            at += 1
        if word == "--":
            break
        flags.append(word)
    return tuple(flags), rest[at:].strip()


def _flag(rest: str, at: int) -> tuple[str, int]:
    """The flag at ``at``, and where it ends."""
    out: list[str] = []
    quote = ""
    while at < len(rest):
        char = rest[at]
        if char == "\\":
            out.append(rest[at + 1 : at + 2])
            at += 2
            continue
        if quote:
            if char == quote:
                quote = ""
            else:
                out.append(char)
        elif char in "'\"":
            quote = char
        elif char.isspace():
            break
        else:
            out.append(char)
        at += 1
    return "".join(out), min(at, len(rest))


def plain_words(rest: str) -> tuple[str, ...]:
    """Words between spaces, whatever quotes there are."""
    return tuple(_SPACE.split(rest)) if rest else ()


def json_array(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON array; None where the rest is none.

    Raises:
        BadWords: it is an array of something else.
    """
    if not rest.startswith("["):
        return None
    try:
        value = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise BadWords(f"{rest!r}", "an array of strings")
    return tuple(value)


def quoted_words(rest: str, escape: str) -> tuple[str, ...]:
    """Words between spaces that are not quoted; quotes and escapes stay for the expansion."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(rest):
        char = rest[at]
        at += 1
        if char == escape and quote != "'":
            if at < len(rest):
                word.append(char + rest[at])
            at += 1
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char.isspace():
            if word:
                words.append("".join(word))
            word = []
            continue
        elif char in "'\"":
            quote = char
        word.append(char)
    if word:
        words.append("".join(word))
    return tuple(words)


def pairs(rest: str, escape: str) -> Pairs:
    """``name=value ...``, or the old form ``name value``.

    Raises:
        BadWords: it is neither.
    """
    words = quoted_words(rest, escape)
    if words and "=" not in words[0]:
        name, *value = _SPACE.split(rest, maxsplit=1)
        if not value:
            raise BadWords(repr(rest), "name=value")
        return ((name, value[0]),)
    found = []
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or not name:
            raise BadWords(repr(word), "name=value")
        found.append((name, text))
    return tuple(found)
