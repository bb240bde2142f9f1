"""``--chmod``: octal, or symbolic as chmod(1) takes it. Pure."""

from __future__ import annotations

import re

__all__ = ["apply", "is_valid"]

_OCTAL = re.compile(r"0*[0-7]{1,4}")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def is_valid(spec: str) -> bool:
    """Whether it is one that ``apply`` takes."""
    return bool(_OCTAL.fullmatch(spec)) or all(_CLAUSE.fullmatch(one) for one in spec.split(","))


def apply(spec: str, mode: int, *, directory: bool) -> int:
    """Permission bits after ``spec`` is applied to ``mode``."""
    if _OCTAL.fullmatch(spec):
        return int(spec, 8)
    for clause in spec.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ValueError(spec)
        for action in _ACTION.finditer(match[2]):
            mode = _change(mode, match[1] or "a", action[1], action[2], directory=directory)
    return mode


def _change(mode: int, who: str, sign: str, what: str, *, directory: bool) -> int:
    people = "ugo" if "a" in who else who
    executable = directory or bool(mode & 0o111)
    bits = 0
    for person in people:
        bits |= _wanted(mode, what, executable=executable) << _SHIFT[person]
    if what not in _SHIFT:
        bits |= _special(people, what, sticky="a" in who or "o" in who)
    if sign == "+":
        return mode | bits
    if sign == "-":
        return mode & ~bits
    return (mode & ~_cleared(people, directory=directory)) | bits


def _wanted(mode: int, what: str, *, executable: bool) -> int:
    """The three bits that letters name, or those that another has."""
    if what and what in _SHIFT:
        return (mode >> _SHIFT[what]) & 7
    bits = 1 if "X" in what and executable else 0
    for letter in what:
        bits |= _BITS.get(letter, 0)
    return bits


def _cleared(people: str, *, directory: bool) -> int:
    """What ``=`` takes away first; directories keep their set-ID bits, as with chmod(1)."""
    bits = 0o1000 if "o" in people else 0
    for person in people:
        bits |= 7 << _SHIFT[person]
    if not directory:
        bits |= (0o4000 if "u" in people else 0) | (0o2000 if "g" in people else 0)
    return bits


def _special(people: str, what: str, *, sticky: bool) -> int:
    """Set-user-ID, set-group-ID and sticky bits."""
    bits = 0
    if "s" in what:
        bits |= (0o4000 if "u" in people else 0) | (0o2000 if "g" in people else 0)
    if "t" in what and sticky:
        bits |= 0o1000
    return bits
