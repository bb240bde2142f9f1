"""Scrubber: replaces secrets in a stream of bytes, wherever the stream is cut into pieces. Pure.

Of a stream no more is held back than the longest spelling that is looked for, which is bounded, and
each byte is looked at a bounded number of times. A longer secret is looked for by overlapping
windows, so that a part of it is hidden too.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from urllib.parse import quote_from_bytes, quote_plus

__all__ = ["MASK", "SHORTEST", "Scrubber", "forms"]

MASK = b"***"

#: What is shorter is no secret that masking could keep, and hiding it would destroy the output.
SHORTEST = 3
#: A line or an encoding shorter than this is too common to tell anything, or to be hidden.
_SHORTEST_DERIVED = 6
#: How long a spelling may be, and how far apart the windows of a longer one begin.
_WINDOW, _STEP = 256, 128
#: Columns at which programs break base64: coreutils and MIME; PEM.
_BASE64_COLUMNS = (76, 64)


def forms(secret: bytes) -> set[bytes]:
    """The spellings in which a secret is looked for.

    The value, the value without white space around it, each of its lines where there are several;
    as base64 (standard and URL-safe, at each of the three alignments, whole and broken into
    lines), as in a URL, and as in JSON. None where it is shorter than ``SHORTEST``.
    """
    stripped = secret.strip()
    if len(stripped) < SHORTEST:
        return set()
    lines = [line.strip() for line in stripped.splitlines()]
    derived = set(lines) if len(lines) > 1 else set()
    for value in {secret, stripped}:
        derived |= _base64(value) | _in_url(value) | _in_json(value)
    return {secret, stripped} | {form for form in derived if len(form) >= _SHORTEST_DERIVED}


def _base64(value: bytes) -> set[bytes]:
    """What of base64 output tells of ``value``, whatever stands before and after it."""
    found = set()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + value)
        # Characters that also hold bits of the neighbours are not known.
        first = (before * 8 + 5) // 6
        last = (before + len(value)) * 8 // 6
        found.add(encoded[first:last])
    whole = base64.b64encode(value)
    found.add(whole)
    for columns in _BASE64_COLUMNS:
        found |= {whole[at : at + columns] for at in range(0, len(whole), columns)}
    return found | {each.translate(bytes.maketrans(b"+/", b"-_")) for each in found}


def _in_url(value: bytes) -> set[bytes]:
    """Percent-encoded: all that is reserved, or less a path's slashes, or as a form's field."""
    texts = {quote_from_bytes(value, ""), quote_from_bytes(value, "/"), quote_plus(value)}
    texts |= {re.sub("%..", lambda code: code[0].lower(), text) for text in texts}
    return {text.encode() for text in texts}


def _in_json(value: bytes) -> set[bytes]:
    """As what stands between the quotes of a JSON string."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return set()
    escaped = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    escaped |= {each.replace("/", "\\/") for each in escaped}
    return {each.encode("utf-8", "replace") for each in escaped}


def _windows(form: bytes) -> set[bytes]:
    """The form, or parts that overlap and cover it where it is long."""
    if len(form) <= _WINDOW:
        return {form}
    starts = [*range(0, len(form) - _WINDOW, _STEP), len(form) - _WINDOW]
    return {form[start : start + _WINDOW] for start in starts}


class _Spellings:
    """All that is looked for, ready to be."""

    def __init__(self, secrets: frozenset[bytes]) -> None:
        found = {part for secret in secrets for form in forms(secret) for part in _windows(form)}
        self.longest = max(map(len, found), default=0)
        self.pattern = re.compile(_alternatives(sorted(found))) if found else None
        #: What could become one with more bytes.
        self.beginnings = {form[:end] for form in found for end in range(1, len(form))}
        #: By how much one may overlap the next: where to look on after one was found.
        self.overlap = max(
            (
                length
                for form in found
                for length in range(1, len(form))
                if form[-length:] in self.beginnings or form[-length:] in found
            ),
            default=0,
        )

    def undecided(self, data: bytes) -> int:
        """The first place from which on the data could be the beginning of a spelling."""
        for place in range(max(0, len(data) - self.longest + 1), len(data)):
            if data[place:] in self.beginnings:
                return place
        return len(data)


#: Every exec has two streams with the same secrets.
_spellings = lru_cache(maxsize=16)(_Spellings)


def _alternatives(rests: list[bytes]) -> bytes:
    """A pattern of any of these, which are sorted, the longest first.

    What they begin with in common stands once, so that a place is decided in one go.
    """
    nonempty = [rest for rest in rests if rest]
    branches: list[bytes] = []
    for _, group in groupby(nonempty, key=lambda rest: rest[0]):
        together = list(group)
        common = _common(together[0], together[-1])
        below = _alternatives([rest[len(common) :] for rest in together])
        branches.append(re.escape(common) + below)
    if not branches:
        return b""
    optional = b"?" if len(nonempty) < len(rests) else b""
    joined = b"|".join(branches)
    return b"(?:" + joined + b")" + optional if len(branches) > 1 or optional else joined


def _common(one: bytes, other: bytes) -> bytes:
    """What both begin with."""
    length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return one[: min(len(one), len(other)) if length is None else length]


class Scrubber:
    """Masks secrets in one stream; secrets that overlap each other are under one mask.

    What could be the beginning of a secret is held back until more is known; ``finish`` gives the
    rest. The pieces' concatenation does not depend on how the stream was cut, but by ``overdue``.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._spellings = _spellings(frozenset(secrets))
        self._held = b""
        #: Bytes of what is held that are told already, by a mask or as they are.
        self._covered = 0
        self._as_they_are = False

    def feed(self, piece: bytes) -> bytes:
        """What of the stream up to here can be told by now."""
        if self._spellings.pattern is None:
            return piece
        data = self._held + piece
        return self._tell(data, self._spellings.undecided(data))

    @property
    def holds(self) -> bool:
        """Something is held back that nothing stands for yet."""
        return len(self._held) > self._covered

    def overdue(self) -> bytes:
        """What is held back, for who cannot wait; should it become a secret, the rest is masked."""
        held = self._held
        told = self._tell(held, len(held))
        self._held, self._covered, self._as_they_are = held, len(held), True
        return told

    def finish(self) -> bytes:
        """The rest; the stream has ended."""
        return self._tell(self._held, len(self._held))

    def scrub(self, whole: bytes) -> bytes:
        """A whole text at once."""
        return Scrubber.feed(self, whole) + self.finish()

    def _tell(self, data: bytes, until: int) -> bytes:
        """The data masked, up to that place; the rest is held."""
        pattern, overlap = self._spellings.pattern, self._spellings.overlap
        told: list[bytes] = []
        position, done, seen = 0, self._covered, self._as_they_are
        while pattern and (match := pattern.search(data, position)) and match.start() < until:
            start, end = match.span()
            if start >= done:
                told += (data[done:start], MASK)
                seen = False
            elif seen and end > done:
                told.append(MASK)
                seen = False
            done = max(done, end)
            position = max(start + 1, end - overlap)
        if done < until:
            told.append(data[done:until])
        self._held, self._covered = data[until:], max(0, done - until)
        self._as_they_are = seen and self._covered > 0
        return b"".join(told)
