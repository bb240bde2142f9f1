"""Pulls: the images of a session, each resolved once, and the record of what they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from ci.engine.images import Images, ResolvedImage
from ci.engine.images.endpoint import Endpoint
from ci.engine.images.oci import Platform
from ci.engine.solver.secrets import Secrets
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import SecretRef

__all__ = ["ImageUse", "Pulls"]

Auth = Sequence[tuple[str, str, SecretRef]]
#: Address, platform, and where the registry is if not where the address says.
_Key = tuple[str, str, Endpoint | None]


@dataclass(frozen=True, kw_only=True)
class ImageUse:
    """An image that a session used."""

    #: As the pipeline named it.
    address: str
    reference: str
    digest: str
    platform: str
    #: What was used in its place, where it was not the image itself; else empty.
    stand_in: str


class Pulls:
    """Resolves images by address; the same address is the same image to the session's end."""

    def __init__(
        self, images: Images, secrets: Secrets, *, awaited: Callable[[str], None] | None = None
    ) -> None:
        """``awaited`` is told the address of an image by each that begins to wait for it."""
        self._images = images
        self._secrets = secrets
        self._awaited = awaited or (lambda _: None)
        self._resolved: dict[_Key, ResolvedImage] = {}
        self._locks: dict[_Key, anyio.Lock] = {}

    async def base(
        self, container: ContainerState, address: str, *, place: Endpoint | None = None
    ) -> ContainerState:
        """The container on that image, whose registry is at ``place``, or where its name says.

        Raises:
            CiError: it is nowhere to be had.
        """
        image = await self._resolve(address, container.platform, container.registry_auth, place)
        named = image.reference
        reference = named if "@" in named else f"{named}@{image.digest}"
        return container.from_image(reference, image.digest, image.config, container.platform)

    async def publish(
        self, address: str, archive: Path, auth: Auth, *, place: Endpoint | None = None
    ) -> str:
        """Push an OCI archive to its registry, or to ``place``; its reference with the digest.

        Raises:
            CiError: the registry cannot be reached, or refuses.
        """
        return await self._images.publish(
            address, archive, auth=await self._plain(auth), place=place
        )

    async def load(
        self, container: ContainerState, archive: Path, *, tag: str = ""
    ) -> ContainerState:
        """The container on the image of an OCI or ``docker save`` archive.

        Raises:
            CiError: it is none, or is damaged, or has no such tag.
        """
        platform = Platform.parse(container.platform)
        load = partial(self._images.load, archive, platform, tag=tag)
        image = await anyio.to_thread.run_sync(load)
        return container.from_image("", image.digest, image.config, container.platform)

    async def _plain(self, auth: Auth) -> dict[str, tuple[str, str]]:
        """Registry host to user and password."""
        return {
            registry: (user, (await self._secrets.value(secret)).decode().strip())
            for registry, user, secret in auth
        }

    def uses(self) -> tuple[ImageUse, ...]:
        """All images that were used, in the order in which they were."""
        return tuple(
            ImageUse(
                address=address,
                reference=str(image.reference),
                digest=image.digest,
                platform=platform,
                stand_in=image.stand_in,
            )
            for (address, platform, _), image in self._resolved.items()
        )

    async def _resolve(
        self, address: str, platform: str, auth: Auth, place: Endpoint | None
    ) -> ResolvedImage:
        key = (address, platform, place)
        if key in self._resolved:
            return self._resolved[key]
        self._awaited(address)
        async with self._locks.setdefault(key, anyio.Lock()):
            if key not in self._resolved:
                self._resolved[key] = await self._images.resolve(
                    address, platform=platform, auth=await self._plain(auth), place=place
                )
            return self._resolved[key]
