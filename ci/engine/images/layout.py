"""Reads images from OCI archives, OCI layout folders and the archives of ``docker save``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci.engine.images.documents import (
    MAX_DOCUMENT,
    Manifest,
    check_config,
    check_platform,
    index_entries,
    read_document,
    read_list,
)
from ci.engine.images.files import Files, open_files
from ci.engine.images.oci import (
    INDEX_TYPES,
    Descriptor,
    ImageError,
    Platform,
    select_platform,
    sha256,
)
from ci.engine.images.unpack import unpack_layer

__all__ = ["Image", "Layout", "flatten", "open_layout", "place_of"]

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
#: Indexes in indexes. More are none that anybody wrote.
_MOST_INDEXES = 4


@dataclass(frozen=True)
class Image:
    """One platform's image: its configuration, and the names of its layers' files, lowest first."""

    #: Of the manifest; of the configuration where there is none (``docker save``).
    digest: str
    config: Mapping[str, Any]
    layers: tuple[str, ...]
    #: Digests of the uncompressed layers.
    diff_ids: tuple[str, ...]


class Layout:
    """The images of an archive or layout folder."""

    def __init__(self, files: Files, subject: str) -> None:
        self.files = files
        self._subject = subject

    def document(self, name: str) -> dict[str, Any]:
        """A JSON file; a blob's digest is checked.

        Raises:
            ImageError: it is missing, too large, damaged, or no JSON object.
        """
        return read_document(self._read(name), f"{self._subject}: {name}")

    def _read(self, name: str) -> bytes:
        with self.files.open(name) as file:
            content = file.read(MAX_DOCUMENT + 1)
        algorithm, _, value = name.removeprefix("blobs/").partition("/")
        if name.startswith("blobs/") and sha256(content) != f"{algorithm}:{value}":
            raise ImageError(
                f"{self._subject}: {name}", got=sha256(content), expected=f"{algorithm}:{value}"
            )
        return content

    def top(self) -> Descriptor:
        """The one image or index that an OCI layout is of.

        Raises:
            ImageError: there are others.
        """
        entries = index_entries(self.document("index.json"), self._subject)
        if len(entries) != 1:
            raise ImageError(self._subject, got=f"{len(entries)} images", expected="one")
        return entries[0]

    def blobs(self) -> list[str]:
        """Digests of all layers and configurations of the one image or index."""
        top = self.top()
        manifests = [top]
        if top.media_type in INDEX_TYPES:
            manifests = index_entries(self.document(place_of(top.digest)), self._subject)
        found: list[str] = []
        for entry in manifests:
            value = self.document(place_of(entry.digest))
            manifest = Manifest.load(value, entry.media_type, f"{self._subject}: {entry.digest}")
            found += [blob.digest for blob in (manifest.config, *manifest.layers)]
        return found

    def image(self, platform: Platform | None = None, *, tag: str = "") -> Image:
        """The image for ``platform``; None is this machine's, or the only one there is.

        Args:
            platform: The platform.
            tag: Of which image, where there are several: a tag, or a whole name.

        Raises:
            ImageError: there is none for it, or a file is missing or damaged.
        """
        if not self.files.has("index.json"):
            return self._docker_save(platform, tag)
        entries = index_entries(self.document("index.json"), self._subject)
        if tag:
            entries = [entry for entry in entries if tag in _names(entry)]
            self._expect(tag, entries)
        manifest = self._select(entries, platform)
        value = self.document(place_of(manifest.digest))
        parsed = Manifest.load(value, manifest.media_type, f"{self._subject}: {manifest.digest}")
        layers = tuple(place_of(layer.digest) for layer in parsed.layers)
        config = self.document(place_of(parsed.config.digest))
        return self._checked(manifest.digest, config, layers, platform)

    def _expect(self, tag: str, found: Sequence[object]) -> None:
        if not found:
            raise ImageError(self._subject, got=f"no image of the tag {tag!r}", expected="one")

    def _select(self, entries: list[Descriptor], platform: Platform | None) -> Descriptor:
        """Down through nested indexes to a manifest."""
        for _ in range(_MOST_INDEXES):
            if len(entries) == 1 and (platform is None or entries[0].platform is None):
                chosen = entries[0]
            else:
                wanted = platform or Platform.of_host()
                chosen = select_platform(entries, wanted, subject=self._subject)
            if chosen.media_type not in INDEX_TYPES:
                return chosen
            entries = index_entries(self.document(place_of(chosen.digest)), self._subject)
        raise ImageError(self._subject, got=f"more than {_MOST_INDEXES} indexes in each other")

    def _docker_save(self, platform: Platform | None, tag: str) -> Image:
        listed = read_list(self._read("manifest.json"), f"{self._subject}: manifest.json")
        if tag:
            listed = [entry for entry in listed if _is_tagged(entry, tag)]
            self._expect(tag, listed)
        if not listed:
            raise ImageError(self._subject, got="an archive of no image", expected="one")
        name, layers = listed[0].get("Config"), listed[0].get("Layers")
        if not isinstance(name, str) or not isinstance(layers, list | None):
            raise ImageError(
                f"{self._subject}: manifest.json", got=repr(listed[0])[:300],
                expected="the names of a configuration and of layers",
            )  # fmt: skip
        content = self._read(name)
        config = read_document(content, f"{self._subject}: {name}")
        names = tuple(str(layer) for layer in layers or ())
        return self._checked(sha256(content), config, names, platform)

    def _checked(
        self,
        digest: str,
        config: Mapping[str, Any],
        layers: tuple[str, ...],
        platform: Platform | None,
    ) -> Image:
        subject = f"{self._subject}: image configuration"
        diff_ids = check_config(config, subject)
        if len(layers) != len(diff_ids):
            raise ImageError(
                subject,
                got=f"{len(diff_ids)} diff IDs",
                expected=f"one for each of {len(layers)} layers",
            )
        if platform is not None:
            check_platform(config, platform, self._subject)
        return Image(digest, config, layers, diff_ids)


@contextmanager
def open_layout(path: Path) -> Iterator[Layout]:
    """Open an archive (a tar, plain or compressed) or a layout folder.

    Raises:
        ImageError: it is neither.
    """
    with open_files(path) as files:
        yield Layout(files, str(path))


def flatten(
    source: Path, dest: Path, platform: Platform | None = None, *, as_root: bool | None = None
) -> dict[str, Any]:
    """Unpack all layers of an image into the one folder ``dest``; its OCI image configuration.

    Args:
        source: An archive or layout folder.
        dest: Made if need be; empty.
        platform: None is this machine's, or the only one there is.
        as_root: Give files their owners; None is what the process may.

    Raises:
        ImageError: the image is damaged: a digest differs, a file is missing or would land
            outside of ``dest``.
    """
    dest.mkdir(parents=True, exist_ok=True)
    dest.chmod(0o755)
    with open_layout(source) as layout:
        image = layout.image(platform)
        for name, diff_id in zip(image.layers, image.diff_ids, strict=True):
            with layout.files.open(name) as stream:
                got = unpack_layer(stream, dest, flat=True, as_root=as_root)
            if got != diff_id:
                raise ImageError(f"{source}: layer {name}", got=got, expected=diff_id)
        return dict(image.config)


def place_of(digest: str) -> str:
    """The name of the file that a blob is in."""
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _names(entry: Descriptor) -> set[str]:
    """What an entry of ``index.json`` is called, as a whole and by its tag alone."""
    told = {str(entry.annotations.get(key, "")) for key in (_REF_NAME, _CONTAINERD_NAME)}
    return told | {_tag(name) for name in told}


def _is_tagged(entry: Mapping[str, Any], tag: str) -> bool:
    names = entry.get("RepoTags")
    told = {str(name) for name in names} if isinstance(names, list) else set()
    return tag in told | {_tag(name) for name in told}


def _tag(name: str) -> str:
    return name.rpartition(":")[2] if ":" in name.rpartition("/")[2] else ""
