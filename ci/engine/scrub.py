"""Scrubber: replaces secrets in a stream of bytes, wherever the stream is cut into pieces. Pure."""

from __future__ import annotations

import base64
import re
from bisect import bisect_left
from collections.abc import Iterable

__all__ = ["MASK", "Scrubber", "forms"]

MASK = b"***"

#: A line or an encoding shorter than this is too common to tell anything, or to be hidden.
_SHORTEST_DERIVED = 6


def forms(secret: bytes) -> set[bytes]:
    """The spellings in which a secret is looked for.

    The value, the value without white space around it, each of its lines where there are several,
    and its base64 forms (standard and URL-safe, at each of the three alignments).
    """
    stripped = secret.strip()
    if not stripped:
        return {secret} if secret else set()
    lines = [line.strip() for line in stripped.splitlines()]
    derived = set(lines) if len(lines) > 1 else set()
    for value in {secret, stripped}:
        derived |= _base64(value)
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
        found.add(encoded[first:last].translate(bytes.maketrans(b"+/", b"-_")))
    found.add(base64.b64encode(value))
    found.add(base64.urlsafe_b64encode(value))
    return found


class Scrubber:
    """Masks secrets in one stream: the longest of those that begin first.

    What could be the beginning of a secret is held back until more is known; ``finish`` gives the
    rest. The pieces' concatenation does not depend on how the stream was cut.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        found: set[bytes] = set()
        for secret in secrets:
            found |= forms(secret)
        self._sorted = sorted(found)
        self._longest = max(map(len, found), default=0)
        by_length = sorted(found, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, by_length)))
        starts = b"".join(re.escape(bytes([byte])) for byte in sorted({form[0] for form in found}))
        self._start = re.compile(b"[" + starts + b"]") if found else None
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """What of the stream up to here can be told by now."""
        if self._start is None:
            return piece
        data = self._held + piece
        safe = self._undecided(data, 0)
        told: list[bytes] = []
        position = 0
        while (match := self._pattern.search(data, position)) and match.start() < safe:
            told += (data[position : match.start()], MASK)
            position = match.end()
            if position > safe:
                safe = self._undecided(data, position)
        told.append(data[position:safe])
        self._held = data[safe:]
        return b"".join(told)

    def finish(self) -> bytes:
        """The rest; the stream has ended."""
        rest, self._held = self._held, b""
        return self._pattern.sub(MASK, rest) if self._start else rest

    def scrub(self, whole: bytes) -> bytes:
        """A whole text at once."""
        return self._pattern.sub(MASK, whole) if self._start else whole

    def _undecided(self, data: bytes, position: int) -> int:
        """The first place from which on the data could be the beginning of a secret."""
        assert self._start is not None  # noqa: S101 - its callers looked
        place = max(position, len(data) - self._longest + 1)
        while match := self._start.search(data, place):
            place = match.start()
            tail = data[place:]
            nearest = bisect_left(self._sorted, tail)
            # A form that the tail begins sorts right at or after the tail; skip the tail itself.
            if nearest < len(self._sorted) and self._sorted[nearest] == tail:
                nearest += 1
            if nearest < len(self._sorted) and self._sorted[nearest].startswith(tail):
                return place
            place += 1
        return len(data)
