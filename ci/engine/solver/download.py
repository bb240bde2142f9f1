"""Downloads: one file by HTTP, asked for again only where the server says that it changed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from ci.clock import Clock, SystemClock
from ci.engine.images.failures import retry_after
from ci.engine.images.trust import trust
from ci.engine.store.records import Record
from ci.engine.store.store import Store
from ci.errors import CiError

__all__ = ["LIMIT", "Download", "DownloadError"]

#: Bytes of one file.
LIMIT = 16 << 30

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60.0
_ATTEMPTS = 4
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 60.0
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


class DownloadError(CiError):
    """A file could not be downloaded, or is not the one that was expected."""


class _Again(DownloadError):
    """It may be had if asked again after so many seconds."""

    def __init__(self, url: str, got: str, delay: float | None = None) -> None:
        super().__init__(f"download {url}", got=got)
        self.delay = delay


@dataclass(frozen=True, kw_only=True)
class Download:
    """What to download.

    Args:
        url: Where it is; a user and password in it are shown nowhere.
        checksum: Of the content, ``sha256:...``; empty takes any.
        authorization: The header's value, or empty.
        scope: Tells whose answer it is, where it may differ by credentials.
        port: Of the host's loopback, where the URL's host is reached by that instead.
        limit: Of the file, in bytes.
        clock: Waits between attempts.
    """

    url: str = field(repr=False)
    checksum: str = ""
    authorization: str = field(default="", repr=False)
    scope: str = ""
    port: int = 0
    limit: int = LIMIT
    clock: Clock = field(default_factory=SystemClock)

    async def into(self, store: Store) -> tuple[Path, str]:
        """A file in the store with the content, and its digest (``sha256:...``).

        Raises:
            DownloadError: the server does not answer with the file, or it has another checksum.
        """
        if self.checksum and not _SHA256.fullmatch(self.checksum):
            raise DownloadError(
                f"download {self._shown}", got=f"the checksum {self.checksum!r}",
                expected="sha256: and 64 hex digits",
            )  # fmt: skip
        if self.checksum and (known := store.blob(self.checksum)) is not None:
            return known, self.checksum
        key = f"{self.url}\0{self.scope}" if self.scope else self.url
        record = store.get("http", key)
        if record is not None and store.blob(record["blobs"][0]) is None:
            record = None
        target = store.temporary() / "download"
        with store.guard():
            fresh = await self._patiently(record, target)
        made = fresh or record
        assert made is not None  # noqa: S101 - only what is known can be unchanged
        digest = str(made["blobs"][0])
        if self.checksum and digest != self.checksum:
            raise DownloadError(f"download {self._shown}", got=digest, expected=self.checksum)
        path = store.blob(digest) or store.add_blob(target, digest)
        if fresh is not None:
            store.put("http", key, fresh)
        return path, digest

    @property
    def _shown(self) -> str:
        """The URL without credentials: a user, a query."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    async def _patiently(self, record: Record | None, target: Path) -> Record | None:
        """Ask until there is an answer, or as often as is sensible."""
        delay = _FIRST_DELAY
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._fetch(record, target)
            except _Again as again:
                wait = delay if again.delay is None else again.delay
                if attempt == _ATTEMPTS or wait > _LONGEST_DELAY:
                    raise DownloadError(again.subject, got=again.got) from again
                await self.clock.sleep(wait)
                delay *= 2
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                said = str(error).replace(self.url, self._shown) or type(error).__name__
                raise DownloadError(f"download {self._shown}", got=said) from None
        raise AssertionError  # the last attempt returns or raises

    async def _fetch(self, record: Record | None, target: Path) -> Record | None:
        """What is known of what was written to ``target``; None where nothing changed."""
        try:
            async with (
                self._client() as client,
                client.stream("GET", self.url, headers=self._headers(record)) as response,
            ):
                if response.status_code == httpx.codes.NOT_MODIFIED and record is not None:
                    return None
                if response.status_code != httpx.codes.OK:
                    raise self._refused(response)
                digest = await self._write(response, target)
                validators = {
                    name: response.headers[name]
                    for name in ("etag", "last-modified")
                    if name in response.headers
                }
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            raise _Again(self._shown, str(error) or type(error).__name__) from None
        return {"blobs": [digest], **validators}

    def _client(self) -> httpx.AsyncClient:
        if not self.port:
            return httpx.AsyncClient(
                follow_redirects=True, timeout=_TIMEOUT_SECONDS, verify=trust()
            )
        return httpx.AsyncClient(
            follow_redirects=True,
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
            transport=_Via(httpx.URL(self.url), self.port),
        )

    def _headers(self, record: Record | None) -> dict[str, str]:
        headers = {"User-Agent": "towpath", "Accept-Encoding": "identity"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        if record is not None and "etag" in record:
            headers["If-None-Match"] = record["etag"]
        if record is not None and "last-modified" in record:
            headers["If-Modified-Since"] = record["last-modified"]
        return headers

    def _refused(self, response: httpx.Response) -> DownloadError:
        status = f"status {response.status_code}"
        if response.status_code in _PASSING:
            delay = retry_after(response, -1.0)
            return _Again(self._shown, status, delay if delay >= 0 else None)
        hint = "give authHeader" if response.status_code in (401, 403) else ""
        return DownloadError(f"download {self._shown}", got=status, hint=hint)

    async def _write(self, response: httpx.Response, target: Path) -> str:
        """Write the content as it comes, and give its digest."""
        hasher, size = hashlib.sha256(), int(response.headers.get("content-length") or 0)
        with open(target, "wb") as file:  # noqa: ASYNC230 - chunks are small
            self._bound(size)
            async for chunk in response.aiter_raw(_CHUNK):
                hasher.update(chunk)
                file.write(chunk)
                self._bound(file.tell())
        return f"sha256:{hasher.hexdigest()}"

    def _bound(self, size: int) -> None:
        if size > self.limit:
            raise DownloadError(
                f"download {self._shown}",
                got="a larger file",
                expected=f"at most {self.limit} bytes",
            )


class _Via(httpx.AsyncHTTPTransport):
    """Reaches one host by a port of the loopback."""

    def __init__(self, url: httpx.URL, port: int) -> None:
        super().__init__(verify=trust())
        self._host = url.host, url.port
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request there; it names the host as it was."""
        if (request.url.host, request.url.port) == self._host:
            request.extensions = {**request.extensions, "sni_hostname": request.url.host}
            request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await super().handle_async_request(request)
