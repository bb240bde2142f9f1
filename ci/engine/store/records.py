r"""Records as bytes: a JSON object under the digest of its text, so that damage shows.

```
<32 hex digits of the BLAKE3 of the rest>\n
{"layers":["12"], ...}
```
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blake3 import blake3

__all__ = ["Record", "decode", "encode", "read_record"]

#: A JSON object. Under the key ``layers`` (at any depth) it names the layers that it keeps alive,
#: under ``blobs`` the blobs.
Record = dict[str, Any]

_DIGITS = 32


def encode(value: Record) -> bytes:
    """A record's bytes."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return _digest(body) + b"\n" + body


def decode(text: bytes) -> Record | None:
    """The record of these bytes; None where a bit of them is not as it was written."""
    if text[:1] == b"{":  # written before records had a digest; no hex digit is one bit away
        body = text
    elif text[_DIGITS : _DIGITS + 1] != b"\n" or _digest(text[_DIGITS + 1 :]) != text[:_DIGITS]:
        return None
    else:
        body = text[_DIGITS + 1 :]
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_record(path: Path) -> Record | None:
    """A record's value, or None when it is gone or damaged. Does not count as use."""
    try:
        return decode(path.read_bytes())
    except OSError:
        return None


def _digest(body: bytes) -> bytes:
    return blake3(body).hexdigest(_DIGITS // 2).encode()
