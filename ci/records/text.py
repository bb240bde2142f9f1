"""How a report writes quantities, times and other people's text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

__all__ = [
    "age",
    "clean",
    "command_line",
    "duration",
    "moment",
    "short_digest",
    "size",
    "web_address",
]

#: Terminal control sequences (ECMA-48): colours, cursor moves, titles.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BIDIRECTIONAL = re.compile(r"[\u202a-\u202e\u2066-\u2069]")


def duration(seconds: float) -> str:
    """``340 ms``, ``3.2 s``, ``42 s``, ``1 min 12 s``, ``2 h 5 min``; three digits at most."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def size(count: int) -> str:
    """Bytes, in decimal units as registries show them."""
    if count < 1000:
        return f"{count} B"
    number = float(count)
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.5 or unit == "GB":
            break
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"


def moment(at: datetime) -> str:
    """``24 Nov 2026, 02:15:09 UTC``."""
    utc = at.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M:%S} UTC"


def command_line(args: Sequence[str]) -> str:
    """A command in one line; a shell script by the comment that heads it."""
    match list(args):
        case ["sh", "-c", script, *_] if script.startswith("# "):
            return script.removeprefix("# ").partition("\n")[0]
    return " ".join(" ".join(args).split())


def age(span: timedelta) -> str:
    """``12 days old``, ``5 hours old``; less than an hour is ``fresh``."""
    hours = int(span.total_seconds() // 3600)
    if hours < 1:
        return "fresh"
    if hours < 48:
        return f"{hours} hour{'s' * (hours != 1)} old"
    return f"{hours // 24} days old"


def short_digest(digest: str) -> str:
    """``sha256:3f9a01c2d4e5``: twelve digits, as registries show them."""
    algorithm, separator, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}" if separator else digest[:12]


def clean(text: str) -> str:
    """Text of a tool, less what a terminal would act on or what would turn the line around."""
    text = _SEQUENCE.sub("", text.replace("\r\n", "\n"))
    text = "\n".join(line.rpartition("\r")[2] or line for line in text.split("\n"))
    return _BIDIRECTIONAL.sub("\ufffd", _CONTROL.sub("", text))


def web_address(url: str) -> str:
    """The address where a browser may be sent there, else nothing."""
    return url if re.match(r"https?://[^\s]+\Z", url) else ""
