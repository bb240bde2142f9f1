"""From a registry's image to layers in the store: blobs are fetched at once, unpacked in order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import anyio

from ci.engine.images.blobs import Blob, StoredBlobs
from ci.engine.images.credentials import Credentials
from ci.engine.images.oci import Descriptor, ImageError
from ci.engine.images.registry import Registry, RemoteImage
from ci.engine.images.unpack import unpack_layer
from ci.engine.layers import Layer, Snapshot
from ci.engine.store import Store

__all__ = ["Puller"]

_DOWNLOADS_AT_ONCE = 3


@dataclass(frozen=True)
class Puller:
    """Brings images into a store. Layers that another image brought are used again."""

    store: Store
    registry: Registry

    async def pull(self, image: RemoteImage, credentials: Credentials) -> Snapshot:
        """All layers of an image.

        Raises:
            RegistryError: one is not to be had.
            ImageError: one is damaged, or the configuration does not fit.
        """
        diff_ids = (image.config.get("rootfs") or {}).get("diff_ids") or []
        if len(diff_ids) != len(image.layers):
            raise ImageError(
                f"image {image.repository}@{image.digest}",
                got=f"{len(image.layers)} layers and {len(diff_ids)} diff IDs",
                expected="as many of one as of the other",
            )
        chains = _chain_ids(diff_ids)
        known = [self._known(chain) for chain in chains]
        fetched = [anyio.Event() for _ in chains]
        snapshot: list[Layer] = []
        limiter = anyio.CapacityLimiter(_DOWNLOADS_AT_ONCE)
        async with anyio.create_task_group() as group:
            for number, descriptor in enumerate(image.layers):
                if known[number] is None:
                    group.start_soon(
                        self._fetch, image, descriptor, credentials, limiter, fetched[number]
                    )
            for number, (descriptor, diff_id) in enumerate(
                zip(image.layers, diff_ids, strict=True)
            ):
                layer = known[number]
                if layer is None:
                    await fetched[number].wait()
                    layer = await anyio.to_thread.run_sync(
                        self._unpack, descriptor, diff_id, chains[number], tuple(snapshot)
                    )
                snapshot.append(layer)
        return tuple(snapshot)

    def _known(self, chain: str) -> Layer | None:
        record = self.store.get("chain", chain)
        if record is None or not self.store.has_layers(tuple(record["layers"])):
            return None
        return Layer(record["layers"][0])

    async def _fetch(
        self,
        image: RemoteImage,
        descriptor: Descriptor,
        credentials: Credentials,
        limiter: anyio.CapacityLimiter,
        fetched: anyio.Event,
    ) -> None:
        async with limiter:
            if self.store.blob(descriptor.digest) is None:
                target = self.store.temporary() / "blob"
                await self.registry.download(image, descriptor, target, credentials)
                await anyio.to_thread.run_sync(self.store.add_blob, target, descriptor.digest)
        fetched.set()

    def _unpack(self, descriptor: Descriptor, diff_id: str, chain: str, below: Snapshot) -> Layer:
        blob = self.store.blob(descriptor.digest)
        if blob is None:
            raise ImageError(f"blob {descriptor.digest}", got="it was pruned while it was unpacked")
        folder = self.store.temporary()
        lowers = [Path(path) for path in self.store.layer_paths(below)]
        with self.store.guard(), blob.open("rb") as stream:
            got = unpack_layer(stream, folder, lowers=lowers)
        if got != diff_id:
            raise ImageError(f"layer {descriptor.digest}", got=got, expected=diff_id)
        layer = self.store.add_layer(folder)
        StoredBlobs(self.store).note(layer, Blob(
            descriptor.digest, descriptor.size, diff_id, _compression(blob)
        ))  # fmt: skip
        self.store.put("chain", chain, {"layers": [layer], "blobs": [descriptor.digest]})
        return layer


def _chain_ids(diff_ids: list[str]) -> list[str]:
    """Identities of each layer upon those below it.

    https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
    """
    chains: list[str] = []
    for diff_id in diff_ids:
        text = f"{chains[-1]} {diff_id}" if chains else diff_id
        digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        chains.append(digest if chains else diff_id)
    return chains


def _compression(blob: Path) -> str:
    with blob.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if magic == b"\x28\xb5\x2f\xfd" else "uncompressed"
