"""Pushes: blobs first, then the manifests that list them, then the tag."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import anyio
import httpx

from ci.clock import Clock
from ci.engine.images.credentials import Credentials
from ci.engine.images.documents import Manifest, index_entries
from ci.engine.images.endpoint import Endpoint
from ci.engine.images.failures import AccessDenied, RegistryError, UnreachableRegistry
from ci.engine.images.layout import Layout, place_of
from ci.engine.images.oci import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from ci.engine.images.stream import CHUNK
from ci.engine.images.transport import LONGEST_DELAY, Transport

__all__ = ["Pusher", "scope_of"]

_PUSHES_AT_ONCE = 3
#: Tries of one blob that bring it no further.
_UPLOAD_ATTEMPTS = 4
_FIRST_DELAY = 0.5
#: Bytes of a piece, where a blob does not get through as a whole.
_PIECE = 16 << 20
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")


@dataclass(frozen=True)
class Pusher:
    """One push of an archive's image to a repository."""

    transport: Transport
    place: Endpoint
    repository: str
    credentials: Credentials
    layout: Layout
    #: Blob digest to a repository of the same registry that has it.
    mount_from: Mapping[str, str]
    clock: Clock

    async def push(self, top: Descriptor, tag: str) -> None:
        """Push what ``top`` describes, and give it that tag; none at all where it is empty.

        Raises:
            RegistryError: the registry cannot be reached, or refuses.
            ImageError: the archive is damaged.
        """
        manifests = [top]
        if top.media_type in INDEX_TYPES:
            index = self.layout.document(place_of(top.digest))
            manifests = [*index_entries(index, f"index {top.digest}"), top]
        blobs: dict[str, Descriptor] = {}
        for described in manifests:
            if described.media_type in MANIFEST_TYPES:
                value = self.layout.document(place_of(described.digest))
                manifest = Manifest.load(
                    value, described.media_type, f"manifest {described.digest}"
                )
                blobs |= {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
        await self._blobs(list(blobs.values()))
        for described in manifests[:-1]:
            await self._manifest(described, described.digest)
        await self._manifest(top, tag or top.digest)

    async def _blobs(self, blobs: list[Descriptor]) -> None:
        """All of them, some at a time; the first failure is raised."""
        limiter = anyio.CapacityLimiter(_PUSHES_AT_ONCE)
        failures: list[RegistryError] = []

        async def one(blob: Descriptor) -> None:
            async with limiter:
                try:
                    await self._blob(blob)
                except RegistryError as error:
                    failures.append(error)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for blob in blobs:
                group.start_soon(one, blob)
        if failures:
            raise failures[0]

    async def _blob(self, blob: Descriptor) -> None:
        url = self.place.url(f"{self.repository}/blobs/{blob.digest}")
        if (await self._request("HEAD", url, ok={200, 404})).status_code == httpx.codes.OK:
            return
        upload = _Upload(self, blob, await self._begin(blob))
        if not upload.location:
            return
        await upload.finish()

    async def _begin(self, blob: Descriptor) -> str:
        """Where to upload; empty when the registry took the blob from another repository."""
        if source := self.mount_from.get(blob.digest, ""):
            query = f"?mount={blob.digest}&from={self.place.repository(source)}"
            try:
                response = await self.begin(query, source=source)
            except AccessDenied:  # to the other repository, maybe
                pass
            else:
                return "" if response.status_code == httpx.codes.CREATED else _location(response)
        return _location(await self.begin())

    async def begin(self, query: str = "", *, source: str = "") -> httpx.Response:
        """Begin an upload."""
        url = self.place.url(f"{self.repository}/blobs/uploads/")
        return await self._request(
            "POST", url + query, ok={201, 202}, source=source, headers={"Content-Length": "0"}
        )

    async def _manifest(self, manifest: Descriptor, name: str) -> None:
        url = self.place.url(f"{self.repository}/manifests/{name}")
        headers = {"Content-Type": manifest.media_type, "Content-Length": str(manifest.size)}
        span = range(manifest.size)
        response = await self._request(
            "PUT", url, ok={201}, headers=headers, file=place_of(manifest.digest), span=span
        )
        told = response.headers.get("Docker-Content-Digest", manifest.digest)
        if told != manifest.digest:
            raise RegistryError(
                f"registry {self.place.host}, manifest {self.repository}:{name}",
                got=f"{told[:100]!r} as its digest",
                expected=manifest.digest,
            )

    async def _request(
        self,
        method: str,
        url: str,
        *,
        ok: set[int],
        headers: Mapping[str, str] | None = None,
        file: str = "",
        span: range = range(0),
        source: str = "",
        attempts: int = 5,
    ) -> httpx.Response:
        """A request; its body is that span of bytes of a file of the layout."""

        async def body() -> AsyncIterator[bytes]:
            with self.layout.files.open(file) as content:
                content.seek(span.start)
                left = len(span)
                while left and (chunk := content.read(min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk

        scope = scope_of(self.place, self.repository, "pull,push")
        if source:
            scope += " " + scope_of(self.place, source, "pull")
        return await self.transport.request(
            self.place, method, url, credentials=self.credentials, scope=scope, ok=ok,
            headers=headers, body=body if file else None, attempts=attempts,
        )  # fmt: skip

    async def send(self, method: str, url: str, blob: Descriptor, span: range) -> httpx.Response:
        """Send a span of a blob's bytes, once."""
        headers = {
            "Content-Type": "application/octet-stream", "Content-Length": str(len(span)),
            **({"Content-Range": f"{span.start}-{span.stop - 1}"} if method == "PATCH" else {}),
        }  # fmt: skip
        return await self._request(
            method, url, ok={201, 202, 204}, headers=headers, span=span, attempts=1,
            file=place_of(blob.digest) if span else "",
        )  # fmt: skip

    async def progress(self, location: str) -> httpx.Response:
        """Ask how much of an upload has arrived."""
        return await self._request("GET", location, ok={204})


@dataclass
class _Upload:
    """One blob on its way: as a whole, and where that breaks, in pieces from where it broke."""

    pusher: Pusher
    blob: Descriptor
    location: str

    async def finish(self) -> None:
        """Return when the registry has the blob.

        Raises:
            RegistryError: it does not take it.
        """
        try:
            await self._close(range(self.blob.size))
        except (AccessDenied, UnreachableRegistry):
            raise
        except RegistryError as error:
            await self._persist(error)

    async def _persist(self, trouble: RegistryError) -> None:
        """Go on in pieces, as long as that brings it further."""
        furthest, failures = 0, 0
        while True:
            if trouble.retry_after > LONGEST_DELAY:
                raise trouble
            wait = max(_FIRST_DELAY * 2**failures, trouble.retry_after)
            await self.pusher.clock.sleep(wait)
            offset = 0
            try:
                offset = await self._resume()
                for start in range(offset, self.blob.size, _PIECE):
                    span = range(start, min(start + _PIECE, self.blob.size))
                    sent = await self.pusher.send("PATCH", self.location, self.blob, span)
                    self.location, offset = _location(sent), span.stop
                await self._close(range(0))
            except (AccessDenied, UnreachableRegistry):
                raise
            except RegistryError as error:
                trouble = error
                failures = 0 if offset > furthest else failures + 1
                furthest = max(furthest, offset)
                if failures == _UPLOAD_ATTEMPTS - 1:
                    raise
            else:
                return

    async def _resume(self) -> int:
        """How many bytes the registry has; where it does not know, the upload begins anew."""
        try:
            response = await self.pusher.progress(self.location)
        except (AccessDenied, UnreachableRegistry):
            raise
        except RegistryError:
            self.location = _location(await self.pusher.begin())
            return 0
        self.location = _location(response, self.location)
        told = _RANGE.fullmatch(response.headers.get("Range", ""))
        # ``0-0`` is said of nothing at all, too.
        last = int(told[1]) if told else 0
        return last + 1 if 0 < last < self.blob.size else 0

    async def _close(self, span: range) -> None:
        joined = "&" if "?" in self.location else "?"
        url = f"{self.location}{joined}digest={self.blob.digest.replace(':', '%3A')}"
        await self.pusher.send("PUT", url, self.blob, span)


def _location(response: httpx.Response, otherwise: str = "") -> str:
    """Where an upload goes on.

    Raises:
        RegistryError: the registry does not say.
    """
    told = response.headers.get("Location", "")
    if not told and not otherwise:
        raise RegistryError(
            f"registry {response.request.url.netloc.decode()}",
            got="an upload without a Location",
            expected="where to send the blob to",
        )
    try:
        return str(response.request.url.join(told)) if told else otherwise
    except httpx.InvalidURL as error:
        raise RegistryError(
            f"registry {response.request.url.netloc.decode()}",
            got=f"{told[:200]!r} as the Location of an upload",
            expected="a URL",
        ) from error


def scope_of(place: Endpoint, repository: str, actions: str) -> str:
    """What a request to a repository needs, in the words of token servers."""
    return f"repository:{place.repository(repository)}:{actions}"
