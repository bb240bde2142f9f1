"""Archives are valid, reproducible, and read by other people's tools."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ci.engine.images import archive
from ci.engine.images.layout import flatten, open_layout
from ci.engine.images.oci import ImageError, Platform
from ci.engine.images.validate import validate
from ci.engine.store.store import Store
from ci.errors import ConfigError
from tests.engine.images.conftest import make_layers

AMD64 = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"], "User": "app"}}
ARM64 = {"os": "linux", "architecture": "arm64", "variant": "v8", "config": {"Cmd": ["sh"]}}


@pytest.mark.parametrize("media_types", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_an_archive_keeps_all_invariants(
    tmp_path: Path, compression: str, media_types: str
) -> None:
    target = tmp_path / "image.tar"
    digest = archive.write(
        target,
        platforms=[(make_layers(tmp_path / "made"), AMD64)],
        compression=compression,
        media_types=media_types,
    )
    validate(target)
    with open_layout(target) as layout:
        assert layout.image().digest == digest


def test_an_archive_of_several_platforms_is_valid_and_each_is_found(tmp_path: Path) -> None:
    layers = make_layers(tmp_path / "made")
    target = tmp_path / "image.tar"
    digest = archive.write(target, platforms=[(layers, AMD64), (layers[:1], ARM64)])
    validate(target)
    with open_layout(target) as layout:
        (top,) = layout.document("index.json")["manifests"]
        assert top["digest"] == digest
        assert len(layout.image(Platform.parse("linux/amd64")).layers) == 2
        assert len(layout.image(Platform.parse("linux/arm64")).layers) == 1
        with pytest.raises(ImageError, match=r"an index of linux/amd64, linux/arm64/v8"):
            layout.image(Platform.parse("linux/s390x"))


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        layers = make_layers(tmp_path / name)
        archive.write(tmp_path / f"{name}.tar", platforms=[(layers, AMD64)])
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_the_digest_is_the_same_on_every_machine(tmp_path: Path) -> None:
    """Uncompressed, so that nothing but this code decides; bump only with a reason."""
    digest = archive.write(
        tmp_path / "image.tar",
        platforms=[(make_layers(tmp_path / "made"), AMD64)],
        compression="uncompressed",
        epoch=0,
    )
    assert digest == "sha256:fd01398d571d2b561ac4e9d8061cde2c1bf4762361cb800001633d4d927acbe1"


def test_times_are_those_of_source_date_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    target = tmp_path / "image.tar"
    archive.write(target, platforms=[(make_layers(tmp_path / "made"), AMD64)])
    with open_layout(target) as layout:
        assert layout.image().config["created"] == "2023-11-14T22:13:20Z"
    rootfs = tmp_path / "rootfs"
    flatten(target, rootfs)
    assert (rootfs / "etc/motd").stat().st_mtime == 1700000000


def test_a_second_export_packs_no_layer_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_layers(store.temporary())
    folders = [store.layer_path(store.add_layer(folder)) for folder in made]
    first = archive.write(tmp_path / "1.tar", platforms=[(folders, AMD64)], store=store)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("packed again")

    monkeypatch.setattr("ci.engine.images.blobs.pack_blob", refuse)
    second = archive.write(tmp_path / "2.tar", platforms=[(folders, AMD64)], store=store)
    assert first == second
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_an_unknown_compression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lzma"):
        archive.write(
            tmp_path / "x.tar",
            platforms=[(make_layers(tmp_path / "made"), AMD64)],
            compression="lzma",
        )


def test_flattening_gives_the_merged_tree_and_the_config(image: Path, tmp_path: Path) -> None:
    config = flatten(image, tmp_path / "rootfs")
    assert config["config"] == {"Cmd": ["/run.sh"]}
    assert (tmp_path / "rootfs/etc/motd").read_text() == "goodbye\n"
    assert not (tmp_path / "rootfs/etc/old").exists()


def test_a_layout_folder_is_read_like_the_archive(image: Path, tmp_path: Path) -> None:
    with tarfile.open(image) as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    validate(tmp_path / "layout")
    flatten(tmp_path / "layout", tmp_path / "rootfs")
    assert (tmp_path / "rootfs/etc/motd").read_text() == "goodbye\n"


def damaged(image: Path, target: Path, damage: Any) -> Path:
    """A copy of an archive with each file passed through ``damage(name, content)``."""
    with tarfile.open(image) as source, tarfile.open(target, "w") as copy:
        for member in source.getmembers():
            content = source.extractfile(member)
            data = damage(member.name, content.read()) if content else b""
            if data is not None:
                import io

                member.size = len(data)
                copy.addfile(member, io.BytesIO(data) if content else None)
    return target


def layer_name(image: Path) -> str:
    with open_layout(image) as layout:
        return layout.image().layers[0]


def test_a_flipped_bit_in_a_layer_is_seen(image: Path, tmp_path: Path) -> None:
    name = layer_name(image)

    def flip(found: str, content: bytes) -> bytes:
        return (
            content[:-20] + bytes([content[-20] ^ 1]) + content[-19:] if found == name else content
        )

    broken = damaged(image, tmp_path / "broken.tar", flip)
    with pytest.raises(ImageError):
        flatten(broken, tmp_path / "rootfs")


def test_a_missing_layer_is_named(image: Path, tmp_path: Path) -> None:
    name = layer_name(image)
    broken = damaged(image, tmp_path / "broken.tar", lambda n, c: None if n == name else c)
    with pytest.raises(ImageError, match=name):
        flatten(broken, tmp_path / "rootfs")
    with pytest.raises(ImageError, match="missing"):
        validate(broken)


def test_a_changed_configuration_is_seen(image: Path, tmp_path: Path) -> None:
    def change(_: str, content: bytes) -> bytes:
        return content.replace(b"/run.sh", b"/bad.sh")

    broken = damaged(image, tmp_path / "broken.tar", change)
    with pytest.raises(ImageError, match="sha256:"):
        flatten(broken, tmp_path / "rootfs")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no")
    with pytest.raises(ImageError, match="expected an OCI archive"):
        flatten(tmp_path / "x", tmp_path / "rootfs")


# -- other people's tools --------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_skopeo_reads_the_archive(image: Path, tmp_path: Path, transport: str) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo: apt-get install skopeo")
    copied = tmp_path / "copied"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", f"{transport}:{image}",
         f"oci:{copied}:x"],
        check=True,
    )  # fmt: skip
    validate(copied)
    flatten(copied, tmp_path / "rootfs")
    assert (tmp_path / "rootfs/etc/motd").read_text() == "goodbye\n"
    assert json.loads((copied / "index.json").read_text())["manifests"]


def test_what_skopeo_writes_is_read(image: Path, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo: apt-get install skopeo")
    saved = tmp_path / "saved.tar"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci-archive:{image}",
         f"docker-archive:{saved}:app:1"],
        check=True,
    )  # fmt: skip
    config = flatten(saved, tmp_path / "rootfs")
    assert config["config"]["Cmd"] == ["/run.sh"]
    assert (tmp_path / "rootfs/etc/motd").read_text() == "goodbye\n"
