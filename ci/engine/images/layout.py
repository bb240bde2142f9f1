"""Reads images from OCI archives, OCI layout folders and the archives of ``docker save``."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from ci.engine.images.oci import (
    INDEX_TYPES,
    Descriptor,
    ImageError,
    Platform,
    select_platform,
    sha256,
)
from ci.engine.images.unpack import unpack_layer

__all__ = ["Image", "Layout", "flatten", "open_layout"]

#: Of JSON documents: larger ones are none that anybody wrote. Bytes.
_MAX_DOCUMENT = 16 << 20


class Files(Protocol):
    """Named files of an archive or folder."""

    def open(self, name: str) -> IO[bytes]:
        """That file's content. Raises ImageError when it is not there."""
        ...

    def has(self, name: str) -> bool:
        """Whether it is there."""
        ...


@dataclass(frozen=True)
class Image:
    """One platform's image: its configuration, and the names of its layers' files, lowest first."""

    #: Of the manifest; empty where there is none (``docker save``).
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

    def document(self, name: str) -> Any:  # noqa: ANN401 - what JSON is
        """A JSON file.

        Raises:
            ImageError: it is missing, too large, or no JSON.
        """
        with self.files.open(name) as file:
            content = file.read(_MAX_DOCUMENT + 1)
        if name.startswith("blobs/") and sha256(content) != _digest(name):
            raise ImageError(
                f"{self._subject}: {name}", got=sha256(content), expected=_digest(name)
            )
        try:
            return json.loads(content)
        except ValueError as error:
            raise ImageError(f"{self._subject}: {name}", got=str(error), expected="JSON") from error

    def image(self, platform: Platform | None = None) -> Image:
        """The image for ``platform``; None is this machine's, or the only one there is.

        Raises:
            ImageError: there is none for it, or a file is missing or damaged.
        """
        if not self.files.has("index.json"):
            return self._docker_save()
        manifests = self.document("index.json").get("manifests") or []
        manifest = self._select(manifests, platform)
        value = self.document(_place(manifest.digest))
        config = self.document(_place(Descriptor.load(value["config"]).digest))
        layers = tuple(_place(Descriptor.load(layer).digest) for layer in value["layers"])
        return self._checked(Image(manifest.digest, config, layers, _diff_ids(config)))

    def _select(self, manifests: list[dict[str, Any]], platform: Platform | None) -> Descriptor:
        """Down through nested indexes to a manifest."""
        while True:
            if len(manifests) == 1 and (platform is None or "platform" not in manifests[0]):
                chosen = Descriptor.load(manifests[0])
            else:
                wanted = platform or Platform.of_host()
                chosen = select_platform(manifests, wanted, subject=self._subject)
            if chosen.media_type not in INDEX_TYPES:
                return chosen
            manifests = self.document(_place(chosen.digest))["manifests"]

    def _docker_save(self) -> Image:
        listed = self.document("manifest.json")
        config = self.document(listed[0]["Config"])
        return self._checked(Image("", config, tuple(listed[0]["Layers"]), _diff_ids(config)))

    def _checked(self, image: Image) -> Image:
        if len(image.layers) != len(image.diff_ids):
            raise ImageError(
                f"{self._subject}: image configuration",
                got=f"{len(image.diff_ids)} diff IDs",
                expected=f"one for each of {len(image.layers)} layers",
            )
        return image


@contextmanager
def open_layout(path: Path) -> Iterator[Layout]:
    """Open an archive (a plain tar) or a layout folder.

    Raises:
        ImageError: it is neither.
    """
    if path.is_dir():
        yield Layout(_Folder(path), str(path))
        return
    try:
        tar = tarfile.open(path, "r:")  # noqa: SIM115 - entered below
    except (tarfile.TarError, FileNotFoundError) as error:
        raise ImageError(
            f"image archive {path}", got=str(error), expected="an OCI archive or layout folder"
        ) from error
    with tar:
        yield Layout(_Tar(tar, str(path)), str(path))


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


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def open(self, name: str) -> IO[bytes]:
        try:
            return (self._folder / name).open("rb")
        except OSError as error:
            raise ImageError(f"{self._folder}/{name}", got=str(error.strerror)) from error


class _Tar:
    def __init__(self, tar: tarfile.TarFile, subject: str) -> None:
        self._tar = tar
        self._subject = subject
        self._members = {member.name.removeprefix("./"): member for member in tar.getmembers()}

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        content = self._tar.extractfile(member) if member is not None else None
        if content is None:
            raise ImageError(f"{self._subject}: {name}", got="no such file in the archive")
        return content


def _place(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _digest(name: str) -> str:
    _, algorithm, value = name.split("/")
    return f"{algorithm}:{value}"


def _diff_ids(config: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple((config.get("rootfs") or {}).get("diff_ids") or ())
