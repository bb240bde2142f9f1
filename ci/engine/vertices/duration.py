"""Durations as Go writes them: ``300ms``, ``1m30s``."""

from __future__ import annotations

import re

from ci.engine.refusal import Refusal

__all__ = ["seconds"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def seconds(text: str) -> float:
    """The duration in seconds.

    Raises:
        Refusal: it is none.
    """
    stripped = text.strip()
    parts = _PART.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise Refusal("duration", got=repr(text), expected="a number with a unit, such as 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
