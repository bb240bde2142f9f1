"""Sizes as people write them, in powers of 1,024: ``512M``, ``1.5 GiB``."""

from __future__ import annotations

import re

__all__ = ["EXAMPLE", "parse", "readable"]

#: For messages that say what is expected.
EXAMPLE = "a size, as 512M or 2GiB"

_UNITS = " kmgtp"
_SIZE = re.compile(rf"(\d{{1,19}}(?:\.\d{{1,6}})?)\s*([{_UNITS.strip()}]?)(?:i?b)?", re.IGNORECASE)


def parse(text: str) -> int:
    """Bytes of a size: a number, whole or not, and maybe a unit from K to P.

    Raises:
        ValueError: it is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    number, unit = found[1], _UNITS.index(found[2].lower() or " ")
    return int(float(number) * 1024**unit) if "." in number else int(number) * 1024**unit


def readable(size: int) -> str:
    """Bytes as people write them: ``512 MiB``."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{size / (1 << power):.4g} {unit}"
    return f"{size} bytes"
