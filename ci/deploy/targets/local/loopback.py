"""HTTP on this machine only: plain, past any proxy that the environment names."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx

__all__ = ["client", "get", "version_of"]

#: In seconds: what takes longer to say that it is ready is not.
_TIMEOUT = 5.0
#: Never used, as nothing here speaks TLS; a client's own costs 50 ms, for reading certificates.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client(socket: Path | None = None) -> httpx.AsyncClient:
    """A client, over a unix socket if one is given."""
    transport = httpx.AsyncHTTPTransport(uds=str(socket) if socket else None, verify=_NO_TLS)
    return httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", timeout=_TIMEOUT, trust_env=False
    )


async def get(url: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """One answer, over a connection of its own; httpx.HTTPError where there is none."""
    async with client() as opened:
        return await opened.get(url, headers=headers)


def version_of(response: httpx.Response) -> str:
    """The ``version`` in a JSON answer; empty where there is none."""
    try:
        body = response.json()
    except ValueError:
        return ""
    return str(body.get("version", "")) if isinstance(body, dict) else ""
