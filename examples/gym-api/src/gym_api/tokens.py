"""API tokens: 256 random bits, of which only the SHA-256 is ever stored.

A token is random and long, so a fast hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "gym_"


def new_token() -> str:
    """A token that no one has yet; shown once, to the member it is for."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).digest()


def from_header(header: str | None) -> str | None:
    """The token in an Authorization header, where it has one of ours."""
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token.startswith(PREFIX) else None
