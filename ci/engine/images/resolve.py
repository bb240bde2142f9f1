"""From an address to an image: from the store, else a registry, else a stand-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import structlog

from ci.clock import Clock, SystemClock
from ci.engine.images.blobs import diff_id
from ci.engine.images.credentials import Credentials
from ci.engine.images.endpoint import Endpoint
from ci.engine.images.failures import NotInRegistry, UnreachableRegistry
from ci.engine.images.layout import open_layout
from ci.engine.images.mirrors import with_dockers
from ci.engine.images.oci import ImageError, Platform, canonical_json, sha256
from ci.engine.images.origins import Origins
from ci.engine.images.pull import Puller, load
from ci.engine.images.reference import InvalidReferenceError, Reference
from ci.engine.images.registry import Registry
from ci.engine.images.sources import Sources
from ci.engine.images.stand_ins import StandIn, StandIns
from ci.engine.store.layers import Layer, Snapshot
from ci.engine.store.store import Store

__all__ = ["Images", "ResolvedImage"]

_HINT = (
    "on a machine without a registry, use an image that a recipe stands in for, such as "
    "python:3.11-slim-bookworm; behind a mirror, name it in TOWPATH_REGISTRY_MIRRORS"
)

#: For how long a registry that could not be reached is left alone, once a stand-in is there.
_ASK_AGAIN_SECONDS = 3600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ResolvedImage:
    """An image whose layers are in the store."""

    #: The whole name that it was resolved from, as ``docker.io/library/python:3.11``.
    reference: str
    #: Of the manifest; of the configuration where it is a stand-in, which has no manifest.
    digest: str
    #: The OCI image configuration.
    config: Mapping[str, Any]
    snapshot: Snapshot
    #: What stands in for the image, for a person to read; empty when it is the image itself.
    stand_in: str = ""


class Images:
    """Resolves images into ``store``.

    A tag once resolved stays resolved in a store, until it is refreshed. Where a stand-in was
    used, the registry is asked again after an hour, and is used as soon as it answers.

    Args:
        store: Where images are kept.
        sources: Where they may come from.
        stand_ins: What stands in for which image; the default is nothing for any.
        registry: The client to use; the default knows the mirrors of ``sources``.
        credentials: Logins; the default are the Docker configuration's.
        clock: Tells how old a stand-in is.
    """

    def __init__(
        self,
        store: Store,
        *,
        sources: Sources | None = None,
        stand_ins: StandIns | None = None,
        registry: Registry | None = None,
        credentials: Credentials | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._sources = sources or Sources()
        self._clock = clock or SystemClock()
        self._stand_ins: StandIns = stand_ins or (lambda _reference, _architecture: None)
        self._registry = registry or Registry(mirrors=with_dockers(self._sources.mirrors))
        self._credentials = credentials or Credentials()
        self._origins = Origins(store)

    async def close(self) -> None:
        """Close connections to registries."""
        await self._registry.close()

    async def resolve(
        self,
        address: str,
        *,
        platform: str = "",
        auth: Mapping[str, tuple[str, str]] | None = None,
        refresh: bool = False,
        place: Endpoint | None = None,
    ) -> ResolvedImage:
        """The image at ``address``.

        Args:
            address: ``[registry/]repository[:tag][@digest]``.
            platform: ``os/architecture[/variant]``; empty is this machine's.
            auth: Registry host to user and password, over the Docker configuration's.
            refresh: Ask again for a tag that the store has.
            place: Where its registry is, and nothing else is asked; None is where the name says.

        Raises:
            InvalidReferenceError: the address names no image.
            CiError: none of the sources has it; the message names each and what it said.
        """
        reference = Reference.parse(address)
        wanted = Platform.parse(platform)
        credentials = self._credentials.with_given(auth or {})
        if place is not None:
            return await self._pull(reference, wanted, credentials, place)
        complaints: list[str] = []
        for source in self._sources.order:
            if source == "store" and not refresh:
                found = self._known(reference, wanted)
                complaints += [] if found else ["the store has not got it"]
                if found is not None and self._is_due(found, reference, wanted):
                    fresh = await self._try_registry(reference, wanted, credentials, complaints)
                    found = fresh or self._keep(found, reference, wanted)
            elif source == "registry":
                found = await self._try_registry(reference, wanted, credentials, complaints)
            elif source == "bootstrap":
                found = await self._stand_in(reference, wanted, complaints, refresh=refresh)
            else:
                found = None
            if found is not None:
                _tell(found)
                return found
        raise ImageError(
            f"image {reference.familiar} for {wanted}",
            got="; ".join(complaints),
            expected="an image",
            hint=_HINT,
        )

    async def publish(
        self,
        address: str,
        archive: Path,
        *,
        auth: Mapping[str, tuple[str, str]] | None = None,
        place: Endpoint | None = None,
    ) -> str:
        """Push an OCI archive's image; ``repository:tag@digest``, as it can be had from now on.

        Args:
            address: ``[registry/]repository[:tag]``.
            archive: As ``ci.engine.images.archive`` writes it.
            auth: Registry host to user and password, over the Docker configuration's.
            place: Where its registry is; None is where the name says.

        Raises:
            InvalidReferenceError: the address names no image, or one by its digest.
            RegistryError: the registry cannot be reached, or refuses.
        """
        reference = Reference.parse(address)
        if reference.digest:
            raise InvalidReferenceError(address, "what is published gets its digest then")
        credentials = self._credentials.with_given(auth or {})
        with open_layout(archive) as layout:
            blobs = layout.blobs()
        known = {} if place else self._origins.elsewhere(reference, blobs)
        digest = await self._registry.push(
            archive, reference, credentials, mount_from=known, place=place
        )
        if place is None:
            self._origins.note(reference, blobs)
        return str(replace(reference, digest=digest))

    # -- registry --------------------------------------------------------------------------------

    async def _try_registry(
        self,
        reference: Reference,
        platform: Platform,
        credentials: Credentials,
        complaints: list[str],
    ) -> ResolvedImage | None:
        """From the registry; None, with a complaint, only where it cannot be reached."""
        try:
            return await self._pull(reference, platform, credentials)
        except UnreachableRegistry as error:
            _log.info("image.registry_unreachable", reference=reference.familiar, got=error.got)
            complaints.append(f"{error.subject}: {error.got}")
            return None

    async def _pull(
        self,
        reference: Reference,
        platform: Platform,
        credentials: Credentials,
        place: Endpoint | None = None,
    ) -> ResolvedImage:
        try:
            remote = await self._registry.find(reference, platform, credentials, place=place)
        except NotInRegistry as error:
            raise ImageError(f"image {reference.familiar}", got=error.got,
                             hint="check the name and the tag") from error  # fmt: skip
        snapshot = await Puller(self._store, self._registry).pull(remote, credentials)
        image = ResolvedImage(
            reference=str(reference),
            digest=remote.digest,
            config=remote.config,
            snapshot=snapshot,
        )
        blobs = [layer.digest for layer in remote.layers]
        if place is None:
            self._keep(image, reference, platform, blobs)
            if not remote.others:
                self._origins.note(reference, blobs)
        else:
            self._keep_alone(image, blobs)
        return image

    # -- store -----------------------------------------------------------------------------------

    def _known(self, reference: Reference, platform: Platform) -> ResolvedImage | None:
        """What the store has; a record of a shape that is not understood is as good as none."""
        try:
            return self._recorded(reference, platform)
        except (KeyError, TypeError):
            return None

    def _recorded(self, reference: Reference, platform: Platform) -> ResolvedImage | None:
        digest = reference.digest
        tag = self._store.get("reference", _tag_key(reference, platform))
        if tag is not None and (not tag["stand_in"] or self._may_stand_in(reference)):
            digest = tag["digest"]
            if tag["recipe"] != self._recipe_key(reference, platform, tag["stand_in"]):
                return None
        record = self._store.get("image", digest) if digest else None
        if record is None or (record["stand_in"] and not self._may_stand_in(reference)):
            return None
        snapshot = tuple(Layer(layer) for layer in record["layers"])
        if not self._store.has_layers(snapshot):
            return None
        return ResolvedImage(
            reference=str(reference),
            digest=digest,
            config=record["config"],
            snapshot=snapshot,
            stand_in=record["stand_in"] if tag is None else tag["stand_in"],
        )

    def _may_stand_in(self, reference: Reference) -> bool:
        return "bootstrap" in self._sources.order and self._sources.may_stand_in(reference)

    def _is_due(self, image: ResolvedImage, reference: Reference, platform: Platform) -> bool:
        """A stand-in that the registry has not been asked about lately."""
        if not image.stand_in or "registry" not in self._sources.order or reference.digest:
            return False
        record = self._store.get("reference", _tag_key(reference, platform)) or {}
        asked = record.get("asked")
        now = self._clock.now().timestamp()
        return not isinstance(asked, int | float) or not 0 <= now - asked < _ASK_AGAIN_SECONDS

    def _recipe_key(self, reference: Reference, platform: Platform, stand_in: str) -> str:
        """Of the stand-in that would be used now: another version of a recipe is another."""
        found = self._stand_ins(reference, platform.architecture)
        return found.key if found and stand_in else ""

    def _keep(
        self,
        image: ResolvedImage,
        reference: Reference,
        platform: Platform,
        blobs: Sequence[str] = (),
    ) -> ResolvedImage:
        """Keep an image by its name, too."""
        self._keep_alone(image, blobs)
        recipe = self._recipe_key(reference, platform, image.stand_in)
        named = {
            "digest": image.digest,
            "stand_in": image.stand_in,
            "recipe": recipe,
            "asked": self._clock.now().timestamp(),
        }
        self._store.put("reference", _tag_key(reference, platform), named)
        return image

    def _keep_alone(self, image: ResolvedImage, blobs: Sequence[str] = ()) -> None:
        """Keep an image by its digest, and by no name."""
        record = {
            "blobs": list(blobs),
            "layers": list(image.snapshot),
            "config": dict(image.config),
            "stand_in": image.stand_in,
            "reference": image.reference,
        }
        self._store.put("image", image.digest, record)

    def load(self, archive: Path, platform: Platform, *, tag: str = "") -> ResolvedImage:
        """The image of an OCI or ``docker save`` archive, brought into the store.

        Raises:
            ImageError: it is none, is damaged, or has none for that platform or of that tag.
        """
        with self._store.guard(), open_layout(archive) as layout:
            image = layout.image(platform, tag=tag)
            record = self._store.get("image", image.digest)
            if record is not None and self._store.has_layers(tuple(record["layers"])):
                snapshot = tuple(Layer(layer) for layer in record["layers"])
            else:
                snapshot = load(self._store, layout, image)
        loaded = ResolvedImage(
            reference="", digest=image.digest, config=image.config, snapshot=snapshot
        )
        if record is None or tuple(record["layers"]) != snapshot:
            self._keep_alone(loaded)
        return loaded

    # -- bootstrap -------------------------------------------------------------------------------

    async def _stand_in(
        self,
        reference: Reference,
        platform: Platform,
        complaints: list[str],
        *,
        refresh: bool,
    ) -> ResolvedImage | None:
        """Built from packages; None, with a complaint, where no recipe fits."""
        if not self._sources.may_stand_in(reference):
            complaints.append("TOWPATH_NO_STAND_IN_FOR lets nothing stand in for it")
            return None
        found = self._stand_ins(reference, platform.architecture)
        if found is None:
            complaints.append(
                "nothing stands in for an image that is named by its digest"
                if reference.digest
                else "no recipe stands in for it"
            )
            return None
        snapshot = await found.build(refresh)
        config = await anyio.to_thread.run_sync(self._config, found, platform, snapshot)
        image = ResolvedImage(
            reference=str(reference),
            digest=sha256(canonical_json(config)),
            config=config,
            snapshot=snapshot,
            stand_in=f"{found.gives}, in place of {reference.familiar}",
        )
        self._keep(image, reference, platform)
        return image

    def _config(self, found: StandIn, platform: Platform, snapshot: Snapshot) -> dict[str, Any]:
        return {
            "os": platform.os,
            "architecture": platform.architecture,
            "config": dict(found.config),
            "rootfs": {
                "type": "layers",
                "diff_ids": [diff_id(self._store, layer) for layer in snapshot],
            },
        }


def _tell(image: ResolvedImage) -> None:
    """A stand-in is never silent."""
    if image.stand_in:
        _log.warning("image.stood_in", stand_in=image.stand_in, digest=image.digest)


def _tag_key(reference: Reference, platform: Platform) -> str:
    return f"{reference} {platform}"
