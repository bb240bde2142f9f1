"""From an address to an image: from the store, else a registry, else a stand-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import structlog

from ci.engine.images.blobs import diff_id
from ci.engine.images.bootstrap.catalogue import Catalogue
from ci.engine.images.bootstrap.recipe import Recipe
from ci.engine.images.oci import ImageError, Platform, canonical_json, sha256
from ci.engine.images.reference import Reference
from ci.engine.layers import Layer, Snapshot
from ci.engine.store import Store

__all__ = ["SOURCES", "Images", "ResolvedImage", "Source"]

Source = Literal["store", "registry", "bootstrap"]
SOURCES: tuple[Source, ...] = ("store", "registry", "bootstrap")

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

    A tag once resolved stays resolved in a store, until it is refreshed.

    Args:
        store: Where images are kept.
        sources: What to ask, in this order.
        catalogue: The stand-ins.
    """

    def __init__(
        self,
        store: Store,
        *,
        sources: Sequence[Source] = SOURCES,
        catalogue: Catalogue | None = None,
    ) -> None:
        self._store = store
        self._sources = sources
        self._catalogue = catalogue or Catalogue(store)

    async def resolve(
        self,
        address: str,
        *,
        platform: str = "",
        auth: Mapping[str, tuple[str, str]] | None = None,
        refresh: bool = False,
    ) -> ResolvedImage:
        """The image at ``address``.

        Args:
            address: ``[registry/]repository[:tag][@digest]``.
            platform: ``os/architecture[/variant]``; empty is this machine's.
            auth: Registry host to user and password, over the Docker configuration's.
            refresh: Ask again for a tag that the store has.

        Raises:
            InvalidReferenceError: the address names no image.
            CiError: none of the sources has it; the message names each and what it said.
        """
        reference = Reference.parse(address)
        wanted = Platform.parse(platform)
        if "store" in self._sources and not refresh:
            known = self._known(reference, wanted)
            if known is not None:
                return known
        return await self._stand_in(reference, wanted, refresh=refresh)

    # -- store -----------------------------------------------------------------------------------

    def _known(self, reference: Reference, platform: Platform) -> ResolvedImage | None:
        digest = reference.digest
        tag = self._store.get("tag", _tag_key(reference, platform))
        if tag is not None:
            digest = tag["digest"]
        record = self._store.get("image", digest) if digest else None
        if record is None:
            return None
        snapshot = tuple(Layer(layer) for layer in record["layers"])
        if not self._store.has_layers(snapshot):
            return None
        return ResolvedImage(
            reference=str(reference),
            digest=digest,
            config=record["config"],
            snapshot=snapshot,
            stand_in=record["stand_in"],
        )

    def _keep(self, image: ResolvedImage, reference: Reference, platform: Platform) -> None:
        record = {
            "layers": list(image.snapshot),
            "config": dict(image.config),
            "stand_in": image.stand_in,
            "reference": image.reference,
        }
        self._store.put("image", image.digest, record)
        self._store.put("tag", _tag_key(reference, platform), {"digest": image.digest})

    # -- bootstrap -------------------------------------------------------------------------------

    async def _stand_in(
        self, reference: Reference, platform: Platform, *, refresh: bool
    ) -> ResolvedImage:
        recipe = self._catalogue.recipe_for(reference, platform.architecture)
        if recipe is None:
            raise ImageError(f"image {reference.familiar}", got="no recipe for a stand-in")
        snapshot = await self._catalogue.build(recipe, platform.architecture, refresh=refresh)
        config = await anyio.to_thread.run_sync(self._config, recipe, platform, snapshot)
        image = ResolvedImage(
            reference=str(reference),
            digest=sha256(canonical_json(config)),
            config=config,
            snapshot=snapshot,
            stand_in=f"{recipe.gives}, in place of {reference.familiar}",
        )
        _log.warning("image.stood_in", reference=reference.familiar, recipe=recipe.name,
                     gives=recipe.gives, digest=image.digest)  # fmt: skip
        self._keep(image, reference, platform)
        return image

    def _config(self, recipe: Recipe, platform: Platform, snapshot: Snapshot) -> dict[str, Any]:
        return {
            "os": platform.os,
            "architecture": platform.architecture,
            "config": dict(recipe.config),
            "rootfs": {
                "type": "layers",
                "diff_ids": [diff_id(self._store, layer) for layer in snapshot],
            },
        }


def _tag_key(reference: Reference, platform: Platform) -> str:
    return f"{reference} {platform}"
