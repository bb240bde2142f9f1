"""The words of the OCI image specification: media types, descriptors, platforms, canonical JSON."""

from __future__ import annotations

import hashlib
import json
import platform as host
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ci.errors import CiError, ConfigError

__all__ = [
    "CONFIG_TYPES",
    "DOCKER_INDEX",
    "DOCKER_MANIFEST",
    "INDEX",
    "INDEX_TYPES",
    "LAYER_TAR",
    "LAYER_TYPES",
    "MANIFEST",
    "MANIFEST_TYPES",
    "Descriptor",
    "ImageError",
    "Platform",
    "canonical_json",
    "config_media_type",
    "is_digest",
    "layer_media_type",
    "select_platform",
    "sha256",
]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MANIFEST_TYPES = frozenset({MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({INDEX, DOCKER_INDEX})
CONFIG_TYPES = frozenset({CONFIG, DOCKER_CONFIG})
#: Also of those that their makers keep from other people's registries, and Docker's older names.
LAYER_TYPES = frozenset(
    f"{layer}{suffix}"
    for layer, suffixes in {
        LAYER_TAR: ("", "+gzip", "+zstd"),
        "application/vnd.oci.image.layer.nondistributable.v1.tar": ("", "+gzip", "+zstd"),
        DOCKER_LAYER: ("", ".gzip", ".zstd"),
        "application/vnd.docker.image.rootfs.foreign.diff.tar": ("", ".gzip"),
    }.items()
    for suffix in suffixes
)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


class ImageError(CiError):
    """An image, or what was to become one, is not as the specification says."""


def canonical_json(value: object) -> bytes:
    """The one way we write JSON that a digest is taken of: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def sha256(content: bytes) -> str:
    """The OCI digest of these bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def is_digest(text: str) -> bool:
    """Whether it is ``sha256:`` and 64 hex digits."""
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True)
class Descriptor:
    """A reference to content: media type, digest, size in bytes.

    https://github.com/opencontainers/image-spec/blob/main/descriptor.md
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, media_type: str, content: bytes) -> Descriptor:
        """The descriptor of these bytes."""
        return cls(media_type, sha256(content), len(content))

    @classmethod
    def load(cls, value: Mapping[str, Any]) -> Descriptor:
        """From its JSON object.

        Raises:
            ImageError: a field is missing or of the wrong type.
        """
        media_type, digest, size = (value.get(key) for key in ("mediaType", "digest", "size"))
        annotations, platform = value.get("annotations") or {}, value.get("platform")
        if (
            isinstance(digest, str)
            and is_digest(digest)
            and type(size) is int
            and size >= 0
            and isinstance(media_type, str | None)
            and isinstance(annotations, dict)
            and isinstance(platform, dict | None)
        ):
            return cls(media_type or "", digest, size, annotations, platform)
        shown = repr(dict(value))
        raise ImageError(
            "descriptor",
            got=shown if len(shown) <= 300 else shown[:297] + "...",
            expected="a media type, a sha256 digest and a size",
        )

    def dump(self) -> dict[str, Any]:
        """As its JSON object."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.platform:
            value["platform"] = dict(self.platform)
        return value


_VARIANT = re.compile(r"v([0-9]{1,2})")


@dataclass(frozen=True)
class Platform:
    """``os/architecture[/variant]`` in Go's words: ``linux/amd64``, ``linux/arm64/v8``."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform that ``text`` names; the empty text is the host's.

        Raises:
            ConfigError: it names none.
        """
        if not text:
            return cls.of_host()
        parts = text.split("/")
        if len(parts) not in {2, 3} or not all(parts):
            raise ConfigError("platform", got=repr(text), expected="os/architecture[/variant]")
        return cls(*parts)

    @classmethod
    def of_host(cls) -> Platform:
        """This machine's."""
        machine = host.machine()
        return cls("linux", _MACHINES.get(machine, machine))

    def rank(self, value: Mapping[str, Any]) -> int | None:
        """How far an index entry's platform object is from this one: 0 is the very same.

        None is one that does not run on it. Older variants run on newer ones; the default variant
        is implied.
        """
        if (value.get("os"), value.get("architecture")) != (self.os, self.architecture):
            return None
        default = _DEFAULT_VARIANTS.get(self.architecture, "")
        wanted, offered = self.variant or default, value.get("variant") or default
        if offered == wanted:
            return 0
        numbers = [_VARIANT.fullmatch(str(name)) for name in (wanted, offered)]
        newest, given = (int(found[1]) if found else -1 for found in numbers)
        return newest - given if 0 <= given < newest else None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def select_platform(
    manifests: Sequence[Descriptor], platform: Platform, *, subject: str
) -> Descriptor:
    """The manifest of an index that is nearest to ``platform``, the first of several.

    Raises:
        ImageError: there is none; the message lists what there is.
    """
    ranked = [(platform.rank(entry.platform or {}), entry) for entry in manifests]
    fitting = [(rank, entry) for rank, entry in ranked if rank is not None]
    if fitting:
        return min(fitting, key=lambda pair: pair[0])[1]
    offered = set()
    for entry in manifests:
        parts = ((entry.platform or {}).get(key) for key in ("os", "architecture", "variant"))
        offered.add("/".join(str(part) for part in parts if part))
    known = sorted(name for name in offered if name and not name.startswith("unknown"))
    raise ImageError(subject, got="an index of " + (", ".join(known) or "nothing"),
                     expected=str(platform))  # fmt: skip


def layer_media_type(compression: str, *, docker: bool) -> str:
    """Of a layer compressed by ``gzip``, ``zstd`` or not at all (empty)."""
    if docker:
        return f"{DOCKER_LAYER}.{compression}" if compression else DOCKER_LAYER
    return f"{LAYER_TAR}+{compression}" if compression else LAYER_TAR


def config_media_type(*, docker: bool) -> str:
    """Of the image config."""
    return DOCKER_CONFIG if docker else CONFIG
