"""Downloads: one file by HTTP, asked for again only where the server says that it changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx

from ci.engine.store import Store
from ci.errors import CiError

__all__ = ["DownloadError", "download"]

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60.0


class DownloadError(CiError):
    """A file could not be downloaded, or is not the one that was expected."""


async def download(
    store: Store, url: str, *, checksum: str = "", authorization: str = ""
) -> tuple[Path, str]:
    """A file in the store with the content of ``url``, and its digest (``sha256:...``).

    Raises:
        DownloadError: the server does not answer with the file, or it has another checksum.
    """
    if checksum and (known := store.blob(checksum)) is not None:
        return known, checksum
    record = store.get("http", url) if not authorization else None
    headers = {"Authorization": authorization} if authorization else {}
    if record is not None and store.blob(record["blobs"][0]) is not None:
        headers["If-None-Match"] = record["etag"]
    target = store.temporary() / "download"
    try:
        with store.guard():
            digest, etag = await _fetch(url, headers, target)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(f"download {url}", got=str(error) or type(error).__name__) from error
    if digest is None:
        digest = str(record["blobs"][0]) if record is not None else ""
    if checksum and digest != checksum:
        raise DownloadError(f"download {url}", got=digest, expected=checksum)
    path = store.blob(digest) or store.add_blob(target, digest)
    if etag and not authorization:
        store.put("http", url, {"blobs": [digest], "etag": etag})
    return path, digest


async def _fetch(url: str, headers: dict[str, str], target: Path) -> tuple[str | None, str]:
    """Digest and ETag of what was written to ``target``; no digest where nothing changed."""
    hasher = hashlib.sha256()
    async with (
        httpx.AsyncClient(follow_redirects=True, timeout=_TIMEOUT_SECONDS) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return None, ""
        if response.status_code != httpx.codes.OK:
            raise DownloadError(f"download {url}", got=f"status {response.status_code}")
        with open(target, "wb") as file:  # noqa: ASYNC230 - chunks are small
            async for chunk in response.aiter_bytes(_CHUNK):
                hasher.update(chunk)
                file.write(chunk)
        etag = response.headers.get("etag", "")
    return "sha256:" + hasher.hexdigest(), etag
