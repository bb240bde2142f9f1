"""Manifests, indexes and configurations that others wrote: checked before anything reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ci.engine.images.oci import (
    CONFIG_TYPES,
    INDEX_TYPES,
    LAYER_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    ImageError,
    Platform,
    is_digest,
)

__all__ = [
    "MAX_DOCUMENT",
    "Manifest",
    "check_config",
    "check_platform",
    "index_entries",
    "media_type_of",
    "read_document",
    "read_list",
]

#: Of JSON documents, in bytes: what registries take at most.
#: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests
MAX_DOCUMENT = 4 << 20

_STRINGS = ("User", "WorkingDir", "StopSignal")
_LISTS = ("Env", "Entrypoint", "Cmd", "Shell", "OnBuild")
_SETS = ("ExposedPorts", "Volumes")
_HEALTH_NUMBERS = ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")


def read_document(content: bytes, subject: str) -> dict[str, Any]:
    """The JSON object that these bytes are.

    Raises:
        ImageError: they are too many, or no JSON object in UTF-8.
    """
    value = _read_json(content, subject)
    if not isinstance(value, dict):
        raise ImageError(subject, got=f"JSON that is a {_kind(value)}", expected="a JSON object")
    return value


def read_list(content: bytes, subject: str) -> list[dict[str, Any]]:
    """The list of JSON objects that these bytes are.

    Raises:
        ImageError: they are too many, or no such list.
    """
    return list(_objects({"list": _read_json(content, subject)}, "list", subject))


def _read_json(content: bytes, subject: str) -> Any:  # noqa: ANN401 - what JSON is
    if len(content) > MAX_DOCUMENT:
        raise ImageError(
            subject, got=f"more than {MAX_DOCUMENT} bytes", expected="a document of that size"
        )
    try:
        value = json.loads(content)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise ImageError(subject, got=_short(str(error)), expected="JSON") from error
    return value


def media_type_of(value: Mapping[str, Any], served: str, subject: str) -> str:
    """What a document says it is, else what who listed or served it says.

    Raises:
        ImageError: it is no text.
    """
    _check(value, "mediaType", str, subject)
    return value.get("mediaType") or served


@dataclass(frozen=True)
class Manifest:
    """One platform's image: the descriptors of its configuration and layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]

    @classmethod
    def load(cls, value: Mapping[str, Any], media_type: str, subject: str) -> Manifest:
        """From its JSON object, of the type that who listed or served it says.

        Raises:
            ImageError: it is none, or of something else than a container image.
        """
        told = media_type_of(value, media_type, subject)
        if told not in MANIFEST_TYPES:
            raise ImageError(
                subject,
                got=f"a manifest of type {_short(told)!r}",
                expected="an image of OCI or of Docker's schema 2",
            )
        _refuse_both(value, subject)
        config = Descriptor.load(_object(value, "config", subject))
        if config.media_type and config.media_type not in CONFIG_TYPES:
            raise ImageError(
                subject,
                got=f"an artifact of type {_short(config.media_type)!r}",
                expected="a container image",
            )
        layers = tuple(Descriptor.load(layer) for layer in _objects(value, "layers", subject))
        for layer in layers:
            if layer.media_type and layer.media_type not in LAYER_TYPES:
                raise ImageError(
                    subject,
                    got=f"a layer of type {_short(layer.media_type)!r}",
                    expected="a tar, plain or compressed by gzip or zstd",
                )
        return cls(config, layers)


def index_entries(value: Mapping[str, Any], subject: str) -> list[Descriptor]:
    """What an index lists.

    Raises:
        ImageError: it is none.
    """
    told = media_type_of(value, "", subject)
    if told and told not in INDEX_TYPES:
        raise ImageError(
            subject, got=f"a document of type {_short(told)!r}", expected="an index of images"
        )
    _refuse_both(value, subject)
    return [Descriptor.load(entry) for entry in _objects(value, "manifests", subject)]


def check_config(value: Mapping[str, Any], subject: str) -> tuple[str, ...]:
    """Return the diff IDs of an image configuration that is as its specification says.

    https://github.com/opencontainers/image-spec/blob/main/config.md

    Raises:
        ImageError: a field is of another type than specified.
    """
    for key in ("os", "architecture", "variant"):
        _check(value, key, str, subject)
    config = _object(value, "config", subject, default={})
    for key in _STRINGS:
        _check(config, key, str, subject)
    for key in _LISTS:
        _strings(config, key, subject)
    for key in _SETS:
        _check(config, key, dict, subject)
    labels = _object(config, "Labels", subject, default={})
    for name in labels:
        _check(labels, name, str, subject)
    health = _object(config, "Healthcheck", subject, default={})
    _strings(health, "Test", subject)
    for key in _HEALTH_NUMBERS:
        _check(health, key, int, subject)
        if (health.get(key) or 0) < 0:
            raise ImageError(f"{subject}, {key!r}", got="less than nothing", expected="a number")
    diff_ids = _strings(_object(value, "rootfs", subject, default={}), "diff_ids", subject)
    for diff_id in diff_ids:
        if not is_digest(diff_id):
            raise ImageError(
                subject, got=f"the diff ID {_short(diff_id)!r}", expected="sha256: and 64 digits"
            )
    return tuple(diff_ids)


def check_platform(value: Mapping[str, Any], platform: Platform, subject: str) -> None:
    """Return when an image configuration is for that system and architecture, or says neither.

    Raises:
        ImageError: it is for another.
    """
    offered = (value.get("os"), value.get("architecture"))
    if all(offered) and offered != (platform.os, platform.architecture):
        raise ImageError(
            subject, got=f"an image for {offered[0]}/{offered[1]}", expected=f"one for {platform}"
        )


def _refuse_both(value: Mapping[str, Any], subject: str) -> None:
    """What could be read as an index and as an image means one thing to one, another to others."""
    if "manifests" in value and ("layers" in value or "config" in value):
        raise ImageError(
            subject, got="both an index and an image in one document", expected="one of them"
        )


def _object(
    value: Mapping[str, Any], key: str, subject: str, default: dict[str, Any] | None = None
) -> dict[str, Any]:
    found = value.get(key)
    if found is None and default is not None:
        return default
    if not isinstance(found, dict):
        raise _wrong(subject, key, found, "a JSON object")
    return found


def _objects(value: Mapping[str, Any], key: str, subject: str) -> Sequence[dict[str, Any]]:
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _wrong(subject, key, found, "a list of JSON objects")
    return found


def _strings(value: Mapping[str, Any], key: str, subject: str) -> Sequence[str]:
    found = value.get(key)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise _wrong(subject, key, found, "a list of strings")
    return found


def _check(value: Mapping[str, Any], key: str, kind: type, subject: str) -> None:
    found = value.get(key)
    if found is not None and not isinstance(found, kind):
        raise _wrong(subject, key, found, f"a {_NAMES[kind]}")


_NAMES = {str: "string", int: "number", dict: "JSON object", list: "list"}


def _wrong(subject: str, key: str, found: object, expected: str) -> ImageError:
    return ImageError(f"{subject}, {key!r}", got=_kind(found), expected=expected)


def _kind(value: object) -> str:
    return "nothing" if value is None else _NAMES.get(type(value), type(value).__name__)


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
