"""From a registry's or an archive's image to layers in the store, unpacked in their order."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from ci.engine.images.blobs import Blob, StoredBlobs
from ci.engine.images.credentials import Credentials
from ci.engine.images.layout import Image, Layout
from ci.engine.images.oci import Descriptor, ImageError
from ci.engine.images.registry import Registry, RemoteImage
from ci.engine.images.stream import CHUNK, compression_of
from ci.engine.images.unpack import unpack_layer
from ci.engine.store.layers import Layer, Snapshot
from ci.engine.store.store import Store, file_sha256
from ci.errors import CiError

__all__ = ["Puller", "load"]

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
        return await _Pull(self.store, self.registry, image, credentials, diff_ids).run()


@dataclass
class _Pull:
    """One pull: blobs are fetched at once, and unpacked in order."""

    store: Store
    registry: Registry
    image: RemoteImage
    credentials: Credentials
    diff_ids: Sequence[str]
    limiter: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(_DOWNLOADS_AT_ONCE)
    )
    failure: CiError | None = None

    async def run(self) -> Snapshot:
        """The layers, lowest first."""
        chains = _chain_ids(self.diff_ids)
        known = [_known(self.store, chain) for chain in chains]
        fetched = [anyio.Event() for _ in chains]
        snapshot: list[Layer] = []
        async with anyio.create_task_group() as group:
            for number, layer in enumerate(known):
                if layer is None:
                    group.start_soon(self._fetch, self.image.layers[number], fetched[number], group)
            for number, chain in enumerate(chains):
                layer = known[number]
                if layer is None:
                    await fetched[number].wait()
                    layer = await self._unpack(number, chain, tuple(snapshot), group)
                    if layer is None:
                        break
                snapshot.append(layer)
        if self.failure is not None:
            raise self.failure
        return tuple(snapshot)

    async def _fetch(
        self, blob: Descriptor, fetched: anyio.Event, group: anyio.abc.TaskGroup
    ) -> None:
        try:
            async with self.limiter:
                if await anyio.to_thread.run_sync(self.store.blob, blob.digest) is None:
                    await self._download(blob)
        except CiError as error:
            self._fail(error, group)
        fetched.set()

    async def _download(self, blob: Descriptor) -> None:
        target = self.store.temporary() / "blob"
        with self.store.guard():
            await self.registry.download(self.image, blob, target, self.credentials)
        await anyio.to_thread.run_sync(self.store.add_blob, target, blob.digest)

    async def _unpack(
        self, number: int, chain: str, below: Snapshot, group: anyio.abc.TaskGroup
    ) -> Layer | None:
        blob, diff_id = self.image.layers[number], self.diff_ids[number]
        try:
            return await anyio.to_thread.run_sync(_unpack, self.store, blob, diff_id, chain, below)
        except CiError as error:
            self._fail(error, group)
            return None

    def _fail(self, error: CiError, group: anyio.abc.TaskGroup) -> None:
        """Give up; the first failure is told."""
        self.failure = self.failure or error
        group.cancel_scope.cancel()


def load(store: Store, layout: Layout, image: Image) -> Snapshot:
    """All layers of an archive's image; they and their blobs are kept as if they were pulled.

    Raises:
        ImageError: one is missing or damaged.
    """
    snapshot: Snapshot = ()
    chains = _chain_ids(image.diff_ids)
    for name, diff_id, chain in zip(image.layers, image.diff_ids, chains, strict=True):
        layer = _known(store, chain)
        if layer is None:
            blob = _take(store, layout, name)
            layer = _unpack(store, blob, diff_id, chain, snapshot)
        snapshot = (*snapshot, layer)
    return snapshot


def _take(store: Store, layout: Layout, name: str) -> Descriptor:
    """Copy a layer's file into the store."""
    target = store.temporary() / "blob"
    with store.guard(), layout.files.open(name) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK)
    digest = file_sha256(target)
    if name.startswith("blobs/sha256/") and name != f"blobs/{digest.replace(':', '/')}":
        raise ImageError(f"layer {name}", got=digest, expected="the digest of its name")
    size = target.stat().st_size
    store.add_blob(target, digest)
    return Descriptor("", digest, size)


def _known(store: Store, chain: str) -> Layer | None:
    record = store.get("chain", chain)
    if record is None or not store.has_layers(tuple(record["layers"])):
        return None
    return Layer(record["layers"][0])


def _unpack(store: Store, blob: Descriptor, diff_id: str, chain: str, below: Snapshot) -> Layer:
    file = store.blob(blob.digest)
    if file is None:
        raise ImageError(f"blob {blob.digest}", got="it was pruned while it was unpacked")
    folder = store.temporary()
    lowers = [Path(path) for path in store.layer_paths(below)]
    with store.guard(), file.open("rb") as stream:
        got = unpack_layer(stream, folder, lowers=lowers)
    if got != diff_id:
        raise ImageError(f"layer {blob.digest}", got=got, expected=diff_id)
    layer = store.add_layer(folder)
    made = Blob(blob.digest, blob.size, diff_id, _compression(file))
    StoredBlobs(store).note_origin(layer, made)
    store.put("chain", chain, {"layers": [layer], "blobs": [blob.digest]})
    return layer


def _compression(file: Path) -> str:
    with file.open("rb") as stream:
        return compression_of(stream.read(4)) or "uncompressed"


def _chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """Identities of each layer upon those below it.

    https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
    """
    chains: list[str] = []
    for diff_id in diff_ids:
        text = f"{chains[-1]} {diff_id}" if chains else diff_id
        digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        chains.append(digest if chains else diff_id)
    return chains
