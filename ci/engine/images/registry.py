"""A client of the OCI distribution protocol that reads: manifests and blobs.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import structlog

from ci.clock import Clock, SystemClock
from ci.engine.images.credentials import Credentials
from ci.engine.images.documents import (
    MAX_DOCUMENT,
    Manifest,
    check_config,
    check_platform,
    index_entries,
    media_type_of,
    read_document,
)
from ci.engine.images.endpoint import Endpoint, endpoint
from ci.engine.images.failures import NotInRegistry, RegistryError, UnreachableRegistry, said
from ci.engine.images.layout import open_layout
from ci.engine.images.oci import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    ImageError,
    Platform,
    select_platform,
    sha256,
)
from ci.engine.images.push import Pusher, scope_of
from ci.engine.images.reference import Reference
from ci.engine.images.transport import Transport

__all__ = ["Registry", "RemoteImage"]

_ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_DOWNLOAD_ATTEMPTS = 5
#: Indexes in indexes. More are none that anybody wrote.
_MOST_INDEXES = 4

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RemoteImage:
    """One platform's image in a registry."""

    endpoint: Endpoint
    repository: str
    #: Of its manifest.
    digest: str
    config: Mapping[str, Any]
    layers: tuple[Descriptor, ...]
    #: Where to ask for layers that ``endpoint`` does not give.
    others: tuple[Endpoint, ...] = ()


class Registry:
    """Reads and writes images in registries.

    Args:
        transport: Makes the requests.
        mirrors: Registry host to the mirrors to ask first.
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
        self._mirrors = mirrors or {}

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    # -- pull ----------------------------------------------------------------------------------

    async def find(
        self,
        reference: Reference,
        platform: Platform,
        credentials: Credentials,
        *,
        place: Endpoint | None = None,
    ) -> RemoteImage:
        """The image for a platform: from the first mirror that has it, else its own registry.

        Args:
            reference: The image's name.
            platform: The platform.
            credentials: Logins.
            place: Where its registry is, and no mirror is asked; None is where the name says.

        Raises:
            UnreachableRegistry: no mirror has it, and its registry cannot be reached.
            RegistryError: it has none, or refuses.
            ImageError: it has none for the platform, or a digest differs.
        """
        if place is not None:
            return await self._find(place, reference, platform, credentials)
        mirrors = [endpoint(mirror) for mirror in self._mirrors.get(reference.registry, ())]
        places = [*mirrors, endpoint(reference.registry)]
        trouble: RegistryError | ImageError | None = None
        for number, mirror in enumerate(mirrors, 1):
            try:
                found = await self._find(mirror, reference, platform, credentials)
                return replace(found, others=tuple(places[number:]))
            except (UnreachableRegistry, NotInRegistry):
                continue
            except (RegistryError, ImageError) as error:
                _log.warning("image.mirror_failed", mirror=mirror.host, got=error.got)
                trouble = error
        try:
            return await self._find(places[-1], reference, platform, credentials)
        except UnreachableRegistry:
            if trouble is not None:
                raise trouble from None
            raise

    async def _find(
        self, place: Endpoint, reference: Reference, platform: Platform, credentials: Credentials
    ) -> RemoteImage:
        repository, subject = reference.repository, f"image {reference.familiar}"
        wanted = reference.digest or reference.tag
        listed: Descriptor | None = None
        for _ in range(_MOST_INDEXES):
            media_type, body = await self._manifest(place, repository, wanted, credentials)
            if listed is not None:
                _check(listed, sha256(body), len(body))
            value = read_document(body, f"manifest of {subject}")
            if media_type_of(value, media_type, subject) not in INDEX_TYPES:
                break
            listed = select_platform(index_entries(value, subject), platform, subject=subject)
            wanted = listed.digest
        manifest = Manifest.load(value, media_type, subject)
        content = await self._document(place, repository, manifest.config, credentials)
        config = read_document(content, f"configuration of {subject}")
        check_config(config, f"configuration of {subject}")
        if listed is None:
            check_platform(config, platform, subject)
        return RemoteImage(place, repository, sha256(body), config, manifest.layers)

    async def _manifest(
        self, place: Endpoint, repository: str, reference: str, credentials: Credentials
    ) -> tuple[str, bytes]:
        """Media type and content of a manifest or index, its digest checked."""
        response = await self._transport.request(
            place, "GET", place.url(f"{repository}/manifests/{reference}"),
            credentials=credentials, scope=scope_of(place, repository, "pull"), ok={200},
            headers={"Accept": _ACCEPT},
        )  # fmt: skip
        body = response.content
        told = response.headers.get("Docker-Content-Digest", "")
        expected = reference if reference.startswith("sha256:") else told
        if expected.startswith("sha256:") and sha256(body) != expected:
            raise ImageError(
                f"manifest {repository}:{reference} of {place.host}",
                got=f"{sha256(body)}, {len(body)} bytes",
                expected=expected,
            )
        return response.headers.get("Content-Type", "").partition(";")[0].strip(), body

    async def _document(
        self, place: Endpoint, repository: str, descriptor: Descriptor, credentials: Credentials
    ) -> bytes:
        """A small blob, in memory."""
        if descriptor.size > MAX_DOCUMENT:
            raise ImageError(
                f"image configuration {descriptor.digest}",
                got=f"{descriptor.size} bytes",
                expected=f"at most {MAX_DOCUMENT}",
            )
        response = await self._transport.request(
            place, "GET", place.url(f"{repository}/blobs/{descriptor.digest}"),
            credentials=credentials, scope=scope_of(place, repository, "pull"), ok={200},
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
        places = [image.endpoint, *image.others]
        for place in places[:-1]:
            try:
                await self._download(
                    replace(image, endpoint=place), descriptor, target, credentials
                )
            except (RegistryError, ImageError) as error:
                _log.warning("image.mirror_failed", mirror=place.host, got=error.got)
            else:
                return
        await self._download(replace(image, endpoint=places[-1]), descriptor, target, credentials)

    async def _download(
        self, image: RemoteImage, descriptor: Descriptor, target: Path, credentials: Credentials
    ) -> None:
        received = _Received()
        for attempt in range(1, _DOWNLOAD_ATTEMPTS + 1):
            try:
                await self._receive(image, descriptor, target, credentials, received)
                break
            except httpx.HTTPError as error:
                if received.size >= descriptor.size:
                    break
                if attempt == _DOWNLOAD_ATTEMPTS:
                    raise RegistryError(
                        f"registry {image.endpoint.host}",
                        got=f"a connection that broke {attempt} times ({said(error)})",
                        expected=f"the {descriptor.size} bytes of blob {descriptor.digest}",
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
            credentials=credentials, scope=scope_of(place, image.repository, "pull"),
            ok={200, 206, 416} if resuming else {200}, headers=resuming,
        ) as response:  # fmt: skip
            if not _continues(response, received.size):
                received.restart()
                if response.status_code != httpx.codes.OK:
                    raise httpx.ReadError("it does not go on where it broke off")
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
        place: Endpoint | None = None,
    ) -> str:
        """Push the image of an OCI archive to its own registry; the digest of its manifest.

        Args:
            archive: As ``ci.engine.images.archive`` writes it.
            reference: The repository, and the tag to give it.
            credentials: Logins.
            mount_from: Blob digest to a repository of the same registry that has it.
            place: Where its registry is; None is where the name says.

        Raises:
            RegistryError: it cannot be reached, or refuses.
        """
        with open_layout(archive) as layout:
            top = layout.top()
            pusher = Pusher(
                self._transport,
                place or endpoint(reference.registry),
                reference.repository,
                credentials,
                layout,
                mount_from or {},
                self._clock,
            )
            await pusher.push(top, reference.tag)
        return top.digest


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


def _continues(response: httpx.Response, offset: int) -> bool:
    """Whether a response goes on at that byte, and does not begin anew."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return False
    told: str = response.headers.get("Content-Range", "")
    return told.startswith(f"bytes {offset}-")


def _check(descriptor: Descriptor, digest: str, size: int) -> None:
    if digest != descriptor.digest or size != descriptor.size:
        raise ImageError(
            f"blob {descriptor.digest}",
            got=f"{digest}, {size} bytes",
            expected=f"{descriptor.digest}, {descriptor.size} bytes",
        )
