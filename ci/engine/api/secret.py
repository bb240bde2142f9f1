"""Fields of Secret."""

from __future__ import annotations

from ci.engine.api.context import Context
from ci.engine.vertices.vertex import SecretRef

__all__ = ["name", "plaintext", "uri"]


def name(secret: SecretRef, ctx: Context) -> str:
    """The name that the user gave it, or its URI."""
    return ctx.secrets.label(secret)


def uri(secret: SecretRef, ctx: Context) -> str:
    """Where it is read from; empty for one that was set."""
    return ctx.secrets.uri(secret)


async def plaintext(secret: SecretRef, ctx: Context) -> str:
    """Its value."""
    return (await ctx.secrets.value(secret)).decode("utf-8", "replace")
