"""Writes images as OCI archives that ``docker load`` takes too; same inputs, same bytes.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ci.engine.images.blobs import Blob, StoredBlobs, pack_blob, stored_layer
from ci.engine.images.oci import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    Descriptor,
    canonical_json,
    config_media_type,
)
from ci.engine.images.pack import EPOCH
from ci.engine.store.store import Store

__all__ = ["source_date_epoch", "write"]

_REF_NAME = "org.opencontainers.image.ref.name"
_PLATFORM_KEYS = ("os", "architecture", "variant")

Content = bytes | Path


@dataclass(frozen=True)
class _Image:
    """One platform's manifest and what it lists."""

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]


def source_date_epoch(environ: Mapping[str, str] = os.environ) -> int:
    """Seconds since 1970 that times in images are set to.

    https://reproducible-builds.org/specs/source-date-epoch/
    """
    value = environ.get("SOURCE_DATE_EPOCH", "")
    return int(value) if value.isdigit() else EPOCH


def write(
    dest: Path,
    *,
    platforms: Sequence[tuple[Sequence[Path], Mapping[str, Any]]],
    compression: str = "",
    media_types: str = "oci",
    store: Store | None = None,
    name: str = "",
    epoch: int | None = None,
    annotations: Sequence[Mapping[str, str]] = (),
) -> str:
    """Write one image to the tar file ``dest``; the digest of its manifest.

    With several platforms it is the digest of the index over their manifests.

    Args:
        dest: The file, written as it goes along: rename it when this returns.
        platforms: For each, its layer folders in overlay format, lowest first, and the OCI image
            configuration, whose ``rootfs``, ``history`` and ``created`` are written here.
        compression: ``gzip``, ``zstd`` or ``uncompressed``, of all layers; empty leaves those that
            came with an image as they are, where the media types allow, and is gzip for the others.
        media_types: ``oci`` or ``docker``.
        store: Keeps the blobs of the layers that are its own, for the next time.
        name: ``repository:tag`` by which ``docker load`` names it.
        epoch: Seconds since 1970 for all times; None is SOURCE_DATE_EPOCH, else 1980.
        annotations: Of each platform's manifest; empty for none at all.

    Raises:
        ConfigError: there is no such compression.
    """
    when = source_date_epoch() if epoch is None else epoch
    with tempfile.TemporaryDirectory(prefix=".layers-", dir=dest.parent) as scratch:
        docker = media_types == "docker"
        # Docker's types have no zstd that everyone reads.
        packer = _Packer(Path(scratch), compression or ("gzip" if docker else ""), store, when)
        packed = packer.pack([folder for folders, _ in platforms for folder in folders])
        contents: dict[str, Content] = {blob.digest: path for blob, path in packed.values()}
        images = [
            _image(
                [packed[folder][0] for folder in folders],
                config,
                when,
                contents,
                docker=docker,
                annotations=noted,
            )
            for (folders, config), noted in zip(
                platforms, annotations or [{}] * len(platforms), strict=True
            )
        ]
        top = images[0].manifest if len(images) == 1 else _index(images, contents, docker=docker)
        _write_tar(dest, _files(top, images, contents, name), when)
    return top.digest


class _Packer:
    """Makes blobs of layer folders, as many at a time as there are processors."""

    def __init__(self, scratch: Path, compression: str, store: Store | None, epoch: int) -> None:
        self._scratch = scratch
        self._compression = compression
        self._store = store
        self._stored = StoredBlobs(store, epoch=epoch) if store else None
        self._epoch = epoch

    def pack(self, folders: Sequence[Path]) -> dict[Path, tuple[Blob, Path]]:
        """The blob of each folder and the file that it is in."""
        unique = list(dict.fromkeys(folders))
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            return dict(zip(unique, pool.map(self._pack, unique), strict=True))

    def _pack(self, folder: Path) -> tuple[Blob, Path]:
        layer = stored_layer(self._store, folder)
        if self._stored is not None and layer is not None:
            return self._stored.blob(layer, self._compression)
        descriptor, target = tempfile.mkstemp(dir=self._scratch)
        os.close(descriptor)
        compression = self._compression or "gzip"
        made = pack_blob(folder, Path(target), compression=compression, epoch=self._epoch)
        return made, Path(target)


def _image(
    blobs: Sequence[Blob],
    config: Mapping[str, Any],
    epoch: int,
    contents: dict[str, Content],
    *,
    docker: bool,
    annotations: Mapping[str, str],
) -> _Image:
    """Configuration and manifest of one platform, added to ``contents``."""
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    whole = {
        **config,
        "created": created,
        "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in blobs]},
        "history": [{"created": created, "created_by": "towpath"} for _ in blobs],
    }
    described = _add(config_media_type(docker=docker), whole, contents)
    layers = tuple(blob.descriptor(docker=docker) for blob in blobs)
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else MANIFEST,
        "config": described.dump(),
        "layers": [layer.dump() for layer in layers],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    added = _add(str(manifest["mediaType"]), manifest, contents)
    platform = {key: config[key] for key in _PLATFORM_KEYS if config.get(key)}
    return _Image(replace(added, platform=platform), described, layers)


def _index(images: Sequence[_Image], contents: dict[str, Content], *, docker: bool) -> Descriptor:
    """The index over the platforms' manifests."""
    media_type = DOCKER_INDEX if docker else INDEX
    index = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [image.manifest.dump() for image in images],
    }
    return _add(media_type, index, contents)


def _add(media_type: str, value: object, contents: dict[str, Content]) -> Descriptor:
    content = canonical_json(value)
    descriptor = Descriptor.of(media_type, content)
    contents[descriptor.digest] = content
    return descriptor


def _files(
    top: Descriptor, images: Sequence[_Image], contents: Mapping[str, Content], name: str
) -> dict[str, Content]:
    """Every file of the archive by its name."""
    files = {_place(digest): content for digest, content in contents.items()}
    tag = name.rpartition(":")[2] if ":" in name.rpartition("/")[2] else ""
    described = replace(top, annotations={_REF_NAME: tag} if tag else {})
    files["oci-layout"] = canonical_json({"imageLayoutVersion": "1.0.0"})
    files["index.json"] = canonical_json(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [described.dump()]}
    )
    files["manifest.json"] = canonical_json(
        [
            {
                "Config": _place(image.config.digest),
                "RepoTags": [name] if name else None,
                "Layers": [_place(layer.digest) for layer in image.layers],
            }
            for image in images
        ]
    )
    return files


def _place(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _write_tar(dest: Path, files: Mapping[str, Content], epoch: int) -> None:
    with tarfile.open(dest, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder in ("blobs", "blobs/sha256"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, epoch
            tar.addfile(entry)
        for name in sorted(files):
            content = files[name]
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = 0o644, epoch
            if isinstance(content, bytes):
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                entry.size = content.stat().st_size
                with content.open("rb") as file:
                    tar.addfile(entry, file)
