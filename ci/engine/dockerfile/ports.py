"""EXPOSE: from its words to ports. Pure."""

from __future__ import annotations

import ipaddress
import re

from ci.engine.dockerfile.words import BadWords

__all__ = ["exposed"]

_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_PROTOCOLS = ("tcp", "udp", "sctp")
_EXPECTED = "port, port-port or port/protocol, such as 8000/tcp"


def exposed(word: str) -> tuple[tuple[int, str], ...]:
    """(port, protocol) of each port that one word of EXPOSE names.

    Raises:
        BadWords: it names none.
    """
    spec, _, protocol = word.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise BadWords(repr(word), "tcp, udp or sctp as protocol")
    address, host, own = _parts(spec)
    first, last = _range(own, word)
    if host:
        host_first, host_last = _range(host, word)
        if last != first and host_last - host_first != last - first:
            raise BadWords(repr(word), "ranges of the same length")
    if address:
        _check_address(address, word)
    return tuple((port, protocol) for port in range(first, last + 1))


def _parts(spec: str) -> tuple[str, str, str]:
    """Address, port on the host, port: all but the last may be empty."""
    *before, own = spec.split(":")
    host = before.pop() if before else ""
    return ":".join(before), host, own


def _range(text: str, word: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    first = int(match[1]) if match else -1
    last = int(match[2] or match[1]) if match else -1
    if not 0 <= first <= last < 65536:
        raise BadWords(repr(word), _EXPECTED)
    return first, last


def _check_address(text: str, word: str) -> None:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise BadWords(repr(word), _EXPECTED) from None
