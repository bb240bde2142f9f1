"""Checks that an image archive keeps every invariant of the OCI image specification.

After go-containerregistry's package ``validate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ci.engine.images.layout import Layout, open_layout
from ci.engine.images.oci import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    INDEX_TYPES,
    MANIFEST,
    Descriptor,
    ImageError,
    config_media_type,
    layer_media_type,
)
from ci.engine.images.stream import HashingReader, decompressed

__all__ = ["problems", "validate"]

_CONFIG_TYPES = {
    MANIFEST: config_media_type(docker=False),
    DOCKER_MANIFEST: config_media_type(docker=True),
}
_LAYER_TYPES = {
    manifest: {layer_media_type(compression, docker=docker) for compression in ("", "gzip", "zstd")}
    for manifest, docker in ((MANIFEST, False), (DOCKER_MANIFEST, True))
}


def validate(archive: Path) -> None:
    """Return when the archive or layout folder is sound.

    Raises:
        ImageError: it is not; the message lists what is wrong.
    """
    with open_layout(archive) as layout:
        found = list(problems(layout))
    if found:
        raise ImageError(str(archive), got="; ".join(found), expected="a valid OCI image layout")


def problems(layout: Layout) -> Iterator[str]:
    """What is wrong with a layout, one sentence each."""
    if layout.document("oci-layout").get("imageLayoutVersion") != "1.0.0":
        yield "oci-layout is not of version 1.0.0"
    index = layout.document("index.json")
    if index.get("schemaVersion") != 2:
        yield "index.json is not of schema version 2"
    pending = [Descriptor.load(value) for value in index.get("manifests") or ()]
    if not pending:
        yield "index.json lists nothing"
    while pending:
        descriptor = pending.pop()
        yield from _blob(layout, descriptor)
        value = layout.document(_place(descriptor))
        if value.get("mediaType") != descriptor.media_type:
            yield f"{descriptor.digest} is listed as {descriptor.media_type}, and says otherwise"
        if descriptor.media_type in INDEX_TYPES:
            pending += [Descriptor.load(listed) for listed in value["manifests"]]
        elif descriptor.media_type in _CONFIG_TYPES:
            yield from _manifest(layout, descriptor, value)
        else:
            known = ", ".join((INDEX, DOCKER_INDEX, *_CONFIG_TYPES))
            yield f"{descriptor.digest} is of type {descriptor.media_type}, and not of {known}"


def _manifest(layout: Layout, descriptor: Descriptor, value: Mapping[str, Any]) -> Iterator[str]:
    config = Descriptor.load(value["config"])
    yield from _blob(layout, config)
    if config.media_type != _CONFIG_TYPES[descriptor.media_type]:
        yield f"configuration {config.digest} is of type {config.media_type}"
    content = layout.document(_place(config))
    layers = [Descriptor.load(layer) for layer in value["layers"]]
    diff_ids = (content.get("rootfs") or {}).get("diff_ids") or []
    if len(diff_ids) != len(layers):
        yield f"{len(layers)} layers, and {len(diff_ids)} diff IDs"
    history = content.get("history")
    if history is not None and len([h for h in history if not h.get("empty_layer")]) != len(layers):
        yield "the history has another number of layers"
    for key in ("os", "architecture"):
        listed = (descriptor.platform or {}).get(key, content.get(key))
        if not content.get(key) or listed != content.get(key):
            yield f"{key} is {content.get(key)!r} in the configuration, and listed as {listed!r}"
    for layer, diff_id in zip(layers, diff_ids, strict=False):
        if layer.media_type not in _LAYER_TYPES[descriptor.media_type]:
            yield f"layer {layer.digest} is of type {layer.media_type}"
        yield from _blob(layout, layer)
        with layout.files.open(_place(layer)) as file:
            inside = HashingReader(decompressed(file))
            inside.drain()
        if inside.digest != diff_id:
            yield f"layer {layer.digest} has the diff ID {inside.digest}, and not {diff_id}"


def _blob(layout: Layout, descriptor: Descriptor) -> Iterator[str]:
    """Size and digest of a blob."""
    if not layout.files.has(_place(descriptor)):
        yield f"{descriptor.digest} is missing"
        return
    with layout.files.open(_place(descriptor)) as file:
        content = HashingReader(file)
        content.drain()
    if content.digest != descriptor.digest:
        yield f"{descriptor.digest} has the digest {content.digest}"
    if content.size != descriptor.size:
        yield f"{descriptor.digest} has {content.size} bytes, and not {descriptor.size}"


def _place(descriptor: Descriptor) -> str:
    return f"blobs/sha256/{descriptor.digest.removeprefix('sha256:')}"
