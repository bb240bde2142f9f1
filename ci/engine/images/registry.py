"""A client of the OCI distribution protocol: manifests, blobs, pull and push.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import anyio
import httpx

from ci.clock import Clock, SystemClock
from ci.engine.images.credentials import Credentials
from ci.engine.images.layout import Layout, open_layout
from ci.engine.images.mirrors import configured_mirrors, endpoint
from ci.engine.images.oci import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    ImageError,
    Platform,
    select_platform,
    sha256,
)
from ci.engine.images.reference import Reference
from ci.engine.images.stream import CHUNK
from ci.engine.images.transport import (
    AccessDenied,
    Endpoint,
    NotInRegistry,
    RegistryError,
    Transport,
    UnreachableRegistry,
)

__all__ = ["Registry", "RemoteImage"]

_ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_MAX_DOCUMENT = 16 << 20
_DOWNLOAD_ATTEMPTS = 5
_PUSHES_AT_ONCE = 3
#: An upload that broke is begun anew: what the registry kept of it is not known.
_UPLOAD_ATTEMPTS = 4


@dataclass(frozen=True)
class RemoteImage:
    """One platform's image in a registry."""

    endpoint: Endpoint
    repository: str
    #: Of its manifest.
    digest: str
    config: Mapping[str, Any]
    layers: tuple[Descriptor, ...]


class Registry:
    """Reads and writes images in registries.

    Args:
        transport: Makes the requests.
        mirrors: Registry host to the mirrors to ask first; None is what this machine configures.
        clock: Tells how long to wait.
    """

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        mirrors: Mapping[str, Sequence[str]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._transport = transport or Transport(clock=self._clock)
        self._mirrors = configured_mirrors() if mirrors is None else mirrors

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    # -- pull ----------------------------------------------------------------------------------

    async def find(
        self, reference: Reference, platform: Platform, credentials: Credentials
    ) -> RemoteImage:
        """The image for a platform: from the first mirror that has it, else its own registry.

        Raises:
            UnreachableRegistry: neither the registry nor a mirror that has it can be reached.
            RegistryError: it has none, or refuses.
            ImageError: it has none for the platform, or a digest differs.
        """
        mirrors = [endpoint(mirror) for mirror in self._mirrors.get(reference.registry, ())]
        for place in mirrors:
            try:
                return await self._find(place, reference, platform, credentials)
            except (UnreachableRegistry, NotInRegistry):
                continue
        return await self._find(endpoint(reference.registry), reference, platform, credentials)

    async def _find(
        self, place: Endpoint, reference: Reference, platform: Platform, credentials: Credentials
    ) -> RemoteImage:
        repository = reference.repository
        wanted = reference.digest or reference.tag
        media_type, body = await self._manifest(place, repository, wanted, credentials)
        if media_type in INDEX_TYPES:
            listed = json.loads(body).get("manifests") or []
            chosen = select_platform(listed, platform, subject=f"image {reference.familiar}")
            media_type, body = await self._manifest(place, repository, chosen.digest, credentials)
        if media_type not in MANIFEST_TYPES:
            raise ImageError(
                f"image {reference.familiar}",
                got=f"a manifest of type {media_type!r}",
                expected="an image of OCI or of Docker's schema 2",
            )
        manifest = json.loads(body)
        config = Descriptor.load(manifest["config"])
        content = await self._document(place, repository, config, credentials)
        return RemoteImage(
            place,
            repository,
            sha256(body),
            json.loads(content),
            tuple(Descriptor.load(layer) for layer in manifest["layers"]),
        )

    async def _manifest(
        self, place: Endpoint, repository: str, reference: str, credentials: Credentials
    ) -> tuple[str, bytes]:
        """Media type and content of a manifest or index, its digest checked."""
        response = await self._transport.request(
            place, "GET", place.url(f"{repository}/manifests/{reference}"),
            credentials=credentials, scope=_scope(place, repository, "pull"), ok={200},
            headers={"Accept": _ACCEPT},
        )  # fmt: skip
        body = response.content
        told = response.headers.get("Docker-Content-Digest", "")
        expected = reference if reference.startswith("sha256:") else told
        if expected.startswith("sha256:") and sha256(body) != expected:
            raise ImageError(
                f"manifest {repository}:{reference} of {place.host}",
                got=sha256(body),
                expected=expected,
            )
        return _media_type(response, body), body

    async def _document(
        self, place: Endpoint, repository: str, descriptor: Descriptor, credentials: Credentials
    ) -> bytes:
        """A small blob, in memory."""
        if descriptor.size > _MAX_DOCUMENT:
            raise ImageError(
                f"image configuration {descriptor.digest}",
                got=f"{descriptor.size} bytes",
                expected=f"at most {_MAX_DOCUMENT}",
            )
        response = await self._transport.request(
            place, "GET", place.url(f"{repository}/blobs/{descriptor.digest}"),
            credentials=credentials, scope=_scope(place, repository, "pull"), ok={200},
        )  # fmt: skip
        _check(descriptor, sha256(response.content), len(response.content))
        return response.content

    async def download(
        self,
        image: RemoteImage,
        descriptor: Descriptor,
        target: Path,
        credentials: Credentials,
    ) -> None:
        """A blob of an image into the file ``target``; goes on where a connection broke.

        Raises:
            RegistryError: it is not to be had.
            ImageError: its size or digest is another.
        """
        received = _Received()
        for attempt in range(1, _DOWNLOAD_ATTEMPTS + 1):
            try:
                await self._receive(image, descriptor, target, credentials, received)
                break
            except httpx.TransportError as error:
                if attempt == _DOWNLOAD_ATTEMPTS:
                    raise RegistryError(
                        f"registry {image.endpoint.host}",
                        got=f"a connection that broke {attempt} times ({error or type(error)})",
                    ) from error
                await self._clock.sleep(0.5 * attempt)
        _check(descriptor, received.digest, received.size)

    async def _receive(
        self,
        image: RemoteImage,
        descriptor: Descriptor,
        target: Path,
        credentials: Credentials,
        received: _Received,
    ) -> None:
        """Append to ``target`` what is still missing."""
        place = image.endpoint
        resuming = {"Range": f"bytes={received.size}-"} if received.size else {}
        async with self._transport.stream(
            place, "GET", place.url(f"{image.repository}/blobs/{descriptor.digest}"),
            credentials=credentials, scope=_scope(place, image.repository, "pull"),
            ok={200, 206}, headers=resuming,
        ) as response:  # fmt: skip
            if response.status_code == httpx.codes.OK:
                received.restart()
            async with await anyio.open_file(target, "ab" if received.size else "wb") as file:
                async for chunk in response.aiter_raw():
                    await file.write(chunk)
                    received.add(chunk)
                    if received.size > descriptor.size:
                        return

    # -- push ----------------------------------------------------------------------------------

    async def push(
        self,
        archive: Path,
        reference: Reference,
        credentials: Credentials,
        *,
        mount_from: Mapping[str, str] | None = None,
    ) -> str:
        """Push the image of an OCI archive to its own registry; the digest of its manifest.

        Args:
            archive: As ``ci.engine.images.archive`` writes it.
            reference: The repository, and the tag to give it.
            credentials: Logins.
            mount_from: Blob digest to a repository of the same registry that has it.

        Raises:
            RegistryError: it cannot be reached, or refuses.
        """
        place = endpoint(reference.registry)
        with open_layout(archive) as layout:
            (top,) = layout.document("index.json")["manifests"]
            pusher = _Pusher(
                self._transport, place, reference.repository, credentials, layout, mount_from or {}
            )
            await pusher.push(Descriptor.load(top), reference.tag)
        return str(top["digest"])


class _Received:
    """How much of a blob is there, and its digest."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


@dataclass(frozen=True)
class _Pusher:
    """One push: blobs first, then the manifests that list them, then the tag."""

    transport: Transport
    place: Endpoint
    repository: str
    credentials: Credentials
    layout: Layout
    mount_from: Mapping[str, str]

    async def push(self, top: Descriptor, tag: str) -> None:
        manifests = [top]
        if top.media_type in INDEX_TYPES:
            listed = self.layout.document(_file(top.digest))["manifests"]
            manifests = [*(Descriptor.load(value) for value in listed), top]
        blobs: dict[str, Descriptor] = {}
        for manifest in manifests:
            if manifest.media_type in MANIFEST_TYPES:
                value = self.layout.document(_file(manifest.digest))
                for entry in (value["config"], *value["layers"]):
                    descriptor = Descriptor.load(entry)
                    blobs[descriptor.digest] = descriptor
        limiter = anyio.CapacityLimiter(_PUSHES_AT_ONCE)
        async with anyio.create_task_group() as group:
            for blob in blobs.values():
                group.start_soon(self._blob, blob, limiter)
        for manifest in manifests[:-1]:
            await self._manifest(manifest, manifest.digest)
        await self._manifest(top, tag or top.digest)

    async def _blob(self, blob: Descriptor, limiter: anyio.CapacityLimiter) -> None:
        async with limiter:
            url = self.place.url(f"{self.repository}/blobs/{blob.digest}")
            if (await self._request("HEAD", url, ok={200, 404})).status_code == httpx.codes.OK:
                return
            for attempt in range(1, _UPLOAD_ATTEMPTS + 1):
                location = await self._begin(blob)
                try:
                    if location:
                        await self._upload(blob, location)
                except (AccessDenied, UnreachableRegistry):
                    raise
                except RegistryError:
                    if attempt == _UPLOAD_ATTEMPTS:
                        raise
                    continue
                return

    async def _begin(self, blob: Descriptor) -> str:
        """Where to upload; empty when the registry took the blob from another repository."""
        url = self.place.url(f"{self.repository}/blobs/uploads/")
        source = self.mount_from.get(blob.digest, "")
        query = f"?mount={blob.digest}&from={source}" if source else ""
        response = await self._request("POST", url + query, ok={201, 202}, source=source)
        if response.status_code == httpx.codes.CREATED:
            return ""
        return urljoin(url, response.headers["Location"])

    async def _upload(self, blob: Descriptor, location: str) -> None:
        joined = "&" if "?" in location else "?"
        await self._request(
            "PUT", f"{location}{joined}digest={blob.digest.replace(':', '%3A')}", ok={201},
            headers={
                "Content-Type": "application/octet-stream", "Content-Length": str(blob.size),
            },
            file=_file(blob.digest), attempts=1,
        )  # fmt: skip

    async def _manifest(self, manifest: Descriptor, name: str) -> None:
        url = self.place.url(f"{self.repository}/manifests/{name}")
        headers = {"Content-Type": manifest.media_type, "Content-Length": str(manifest.size)}
        await self._request("PUT", url, ok={201}, headers=headers, file=_file(manifest.digest))

    async def _request(
        self,
        method: str,
        url: str,
        *,
        ok: set[int],
        headers: Mapping[str, str] | None = None,
        file: str = "",
        source: str = "",
        attempts: int = 5,
    ) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            with self.layout.files.open(file) as content:
                while chunk := content.read(CHUNK):
                    yield chunk

        scope = _scope(self.place, self.repository, "pull,push")
        if source:
            scope += " " + _scope(self.place, source, "pull")
        return await self.transport.request(
            self.place, method, url, credentials=self.credentials, scope=scope, ok=ok,
            headers=headers, body=body if file else None, attempts=attempts,
        )  # fmt: skip


def _scope(place: Endpoint, repository: str, actions: str) -> str:
    return f"repository:{place.repository(repository)}:{actions}"


def _file(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _media_type(response: httpx.Response, body: bytes) -> str:
    """What the document says it is, else what the registry says."""
    try:
        told = json.loads(body).get("mediaType")
    except (ValueError, AttributeError) as error:
        raise RegistryError(
            f"registry {response.url.host}", got="a manifest that is no JSON"
        ) from error
    return str(told or response.headers.get("Content-Type", "").partition(";")[0])


def _check(descriptor: Descriptor, digest: str, size: int) -> None:
    if digest != descriptor.digest or size != descriptor.size:
        raise ImageError(
            f"blob {descriptor.digest}",
            got=f"{digest}, {size} bytes",
            expected=f"{descriptor.digest}, {descriptor.size} bytes",
        )
