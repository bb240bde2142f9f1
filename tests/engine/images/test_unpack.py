"""Layers land inside their folder whatever the tar says, and mean what they meant."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ci.engine.images.oci import ImageError
from ci.engine.images.pack import pack_layer
from ci.engine.images.unpack import unpack_layer
from ci.engine.store.layers import is_opaque, is_whiteout, make_opaque, make_whiteout
from ci.engine.trees.merged import MergedTree

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes | None = None, **facts: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.type = tarfile.REGTYPE if content is not None else tarfile.DIRTYPE
    info.mode = 0o644 if content is not None else 0o755
    info.size = len(content or b"")
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content or b""


def symlink(name: str, target: str) -> Entry:
    return entry(name, b"", type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Entry:
    return entry(name, b"", type=tarfile.LNKTYPE, linkname=target)


def layer(*entries: Entry) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    stream.seek(0)
    return stream


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "layer"
    made.mkdir()
    return made


def tree(path: Path) -> dict[str, str]:
    return {
        str(found.relative_to(path)): found.read_text()
        for found in sorted(path.rglob("*"))
        if found.is_file() and not found.is_symlink()
    }


# -- nothing escapes ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "a/..", ".."])
def test_a_name_with_dots_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ImageError, match=r"without \.\."):
        unpack_layer(layer(entry(name, b"x")), folder)
    assert not (folder.parent / "evil").exists()


@pytest.mark.parametrize("flat", [False, True])
def test_an_absolute_name_stays_inside(folder: Path, *, flat: bool) -> None:
    unpack_layer(layer(entry("/etc/evil", b"x")), folder, flat=flat)
    assert (folder / "etc/evil").read_text() == "x"


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("target", ["..", "../..", "/", "../../outside", "/outside"])
def test_a_link_on_the_way_leads_to_a_place_inside(
    folder: Path, target: str, *, flat: bool
) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    unpack_layer(layer(symlink("link", target), entry("link/evil", b"x")), folder, flat=flat)
    assert not (outside / "evil").exists()
    assert not (folder.parent / "evil").exists()
    assert "evil" in {path.name for path in folder.rglob("*")}


def test_a_file_over_a_link_replaces_the_link_and_not_its_target(folder: Path) -> None:
    victim = folder.parent / "victim"
    victim.write_text("safe")
    unpack_layer(layer(symlink("a", str(victim)), entry("a", b"new")), folder)
    assert victim.read_text() == "safe"
    assert (folder / "a").read_text() == "new"
    assert not (folder / "a").is_symlink()


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../etc/hostname"])
def test_a_hard_link_reaches_nothing_outside(folder: Path, target: str) -> None:
    with pytest.raises(ImageError):
        unpack_layer(layer(hardlink("a", target)), folder)


def test_a_hard_link_through_a_link_reaches_nothing_outside(folder: Path) -> None:
    with pytest.raises(ImageError):
        unpack_layer(layer(symlink("etc", "/etc"), hardlink("a", "etc/hostname")), folder)


def test_links_in_a_circle_are_refused(folder: Path) -> None:
    with pytest.raises(ImageError, match="loop"):
        unpack_layer(layer(symlink("a", "b"), symlink("b", "a"), entry("a/x", b"")), folder)


def test_a_file_as_a_parent_is_refused(folder: Path) -> None:
    with pytest.raises(ImageError, match="no folder"):
        unpack_layer(layer(entry("a", b""), entry("a/b", b"")), folder)


def test_a_device_that_would_be_a_whiteout_is_left_out(folder: Path) -> None:
    unpack_layer(layer(entry("etc", b"", type=tarfile.CHRTYPE, devmajor=0, devminor=0)), folder)
    assert list(folder.iterdir()) == []


def test_attributes_of_overlayfs_cannot_be_forged(folder: Path) -> None:
    forged = {"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    unpack_layer(layer(entry("etc", None, pax_headers=forged)), folder)
    assert not is_opaque(str(folder / "etc"))


# -- what other tools write ------------------------------------------------------------------


def test_names_of_aufs_are_no_files(folder: Path) -> None:
    made = layer(
        entry(".wh..wh.aufs", b""), entry(".wh..wh.plnk", None), entry(".wh..wh.plnk/1.2", b"x"),
        entry("a/.wh..wh.orph", None), entry("a/b", b"kept"),
    )  # fmt: skip
    unpack_layer(made, folder)
    assert tree(folder) == {"a/b": "kept"}
    assert {path.name for path in folder.rglob("*")} == {"a", "b"}


def test_an_opaque_root_hides_all_that_is_below(tmp_path: Path, folder: Path) -> None:
    below = tmp_path / "below"
    (below / "etc").mkdir(parents=True)
    (below / "etc/old").write_text("old")
    (below / "gone").write_text("gone")
    unpack_layer(
        layer(entry("etc/new", b"new"), entry(".wh..wh..opq", b"")), folder, lowers=[below]
    )
    merged = MergedTree([str(below), str(folder)])
    assert merged.lookup("/gone") is None
    assert merged.lookup("/etc/old") is None
    assert merged.lookup("/etc/new") is not None


def test_a_hard_link_across_layers_keeps_setuid_and_the_owner(tmp_path: Path, folder: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    unpack_layer(layer(entry("su", b"x", mode=0o4755, uid=5, gid=6, mtime=1000)), below)
    unpack_layer(layer(hardlink("su2", "su")), folder, lowers=[below])
    assert packed(folder).count(b"su2") == 1
    for name in ("su", "su2"):
        status = (folder / name).stat()
        assert stat.S_IMODE(status.st_mode) == 0o4755
        assert status.st_mtime == 1000
        assert status.st_nlink == 2
        with tarfile.open(fileobj=io.BytesIO(packed(folder))) as tar:
            assert (tar.getmember("su").uid, tar.getmember("su").gid) == (5, 6)


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.SYMTYPE])
def test_a_hard_link_across_layers_may_be_to_what_is_no_file(
    tmp_path: Path, folder: Path, kind: bytes
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    unpack_layer(layer(entry("a", b"", type=kind, linkname="nowhere")), below)
    unpack_layer(layer(hardlink("b", "a")), folder, lowers=[below])
    assert (folder / "b").lstat().st_ino == (folder / "a").lstat().st_ino


def test_a_hard_link_to_what_the_layer_deletes_is_refused(tmp_path: Path, folder: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (below / "a").write_text("a")
    with pytest.raises(ImageError, match="a hard link to a, not there"):
        unpack_layer(layer(entry(".wh.a", b""), hardlink("b", "a")), folder, lowers=[below])


def test_a_hard_link_to_a_folder_is_refused(tmp_path: Path, folder: Path) -> None:
    below = tmp_path / "below"
    (below / "dir").mkdir(parents=True)
    with pytest.raises(ImageError, match="a hard link to a folder"):
        unpack_layer(layer(hardlink("b", "dir")), folder, lowers=[below])


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_sparse_file_of_gnu_tar_keeps_its_holes(tmp_path: Path, folder: Path, form: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"middle")
        file.truncate(64 << 20)
    tar = subprocess.run(
        ["tar", "-cS", f"--format={form}", "-C", source, "sparse"], check=True, capture_output=True
    ).stdout
    assert len(tar) < 1 << 20
    unpack_layer(io.BytesIO(tar), folder)
    status = (folder / "sparse").stat()
    assert status.st_size == 64 << 20
    assert status.st_blocks * 512 < 1 << 20
    with (folder / "sparse").open("rb") as file:
        file.seek((8 << 20) - 2)
        assert file.read(10) == b"\0\0middle\0\0"


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, folder: Path, form: str) -> None:
    source = tmp_path / "source"
    long = "d" * 90 + "/" + "f" * 90
    (source / long).parent.mkdir(parents=True)
    (source / long).write_text("long")
    (source / "ünï").write_text("ü")
    (source / "link").symlink_to("t" * 95)
    (source / "hard").hardlink_to(source / long)
    tar = subprocess.run(
        ["tar", "-c", f"--format={form}", "-C", source, "."], check=True, capture_output=True
    ).stdout
    unpack_layer(io.BytesIO(tar), folder)
    assert tree(folder) == {long: "long", "ünï": "ü", "hard": "long"}
    assert (folder / "link").readlink() == Path("t" * 95)


def test_the_last_of_entries_of_one_name_counts(folder: Path) -> None:
    made = layer(
        entry("a", b"first"), entry("a", None), entry("a/b", b"x"), entry("a", b"last"),
        symlink("c", "a"), entry("c", None, mode=0o700), entry("c", None, mode=0o711),
    )  # fmt: skip
    unpack_layer(made, folder)
    assert tree(folder) == {"a": "last"}
    assert stat.S_IMODE((folder / "c").lstat().st_mode) == 0o711


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user makes no devices")
def test_devices_and_capabilities_survive_as_root(tmp_path: Path, folder: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    text = capability.decode("utf-8", "surrogateescape")
    made = layer(
        entry("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("ping", b"x", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": text}),
    )
    unpack_layer(made, folder)
    again = tmp_path / "again"
    again.mkdir()
    unpack_layer(io.BytesIO(packed(folder)), again)
    assert packed(again) == packed(folder)
    assert (again / "null").stat().st_rdev == os.makedev(1, 3)
    assert os.getxattr(again / "ping", "security.capability") == capability


def test_a_layer_of_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    """In a process of its own: two gigabytes of holes as they are, and many small files."""
    done = subprocess.run(
        [sys.executable, "-c", _LARGE, str(tmp_path)], check=True, capture_output=True, text=True
    )
    before, after = (int(number) for number in done.stdout.split())
    assert after - before < 64 << 10  # kilobytes


_LARGE = """
import io, resource, sys, tarfile
from pathlib import Path
from ci.engine.images.stream import HashingReader
from ci.engine.images.unpack import unpack_layer

class Endless:
    def __init__(self):
        self.parts = self.make()
        self.rest = b""
    def make(self):
        large = tarfile.TarInfo("large")
        large.size = 96 << 20
        yield large.tobuf()
        for _ in range(96):
            yield b"\\0" * (1 << 20)
        for number in range(20_000):
            yield tarfile.TarInfo("same/" + "n" * 80 + str(number % 50)).tobuf()
        yield b"\\0" * 1024
    def read(self, size=-1):
        while len(self.rest) < size:
            part = next(self.parts, None)
            if part is None:
                break
            self.rest += part
        found, self.rest = self.rest[:size], self.rest[size:]
        return found

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

folder = Path(sys.argv[1]) / "root"
folder.mkdir()
before = peak()
unpack_layer(Endless(), folder)
print(before, peak())
"""


# -- broken tars ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [100, 700, 2000])
def test_a_tar_that_ends_early_is_refused(folder: Path, cut: int) -> None:
    whole = layer(entry("a", b"x" * 3000)).getvalue()
    for content in (whole[:cut], gzip.compress(whole)[:-cut]):
        with pytest.raises(ImageError, match="broken tar"):
            unpack_layer(io.BytesIO(content), folder)


def test_what_is_no_tar_is_refused(folder: Path) -> None:
    with pytest.raises(ImageError, match="broken tar"):
        unpack_layer(io.BytesIO(b"no tar at all" * 100), folder)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_what_cannot_be_decompressed_is_refused(
    folder: Path, compress: Callable[[bytes], bytes]
) -> None:
    content = bytearray(compress(os.urandom(5000) + b"x" * 5000))
    content[40:400] = bytes(360)
    with pytest.raises(ImageError, match="broken tar"):
        unpack_layer(io.BytesIO(bytes(content)), folder)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_of_gigabytes_is_refused_before_it_is_read(folder: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 4 << 30
    with pytest.raises(ImageError, match="a header of 4294967296 bytes"):
        unpack_layer(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT) + bytes(10240)), folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [("x" * 300, "File name too long"), ("a/" * 2000 + "b", "a path of 2001 names")],
)
def test_what_no_file_system_takes_is_one_error(folder: Path, name: str, said: str) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        unpack_layer(layer(entry(name, b"x")), folder)
    assert len(str(caught.value)) < 500


# -- meaning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_every_compression_gives_the_same_files_and_diff_id(
    folder: Path, compress: Callable[[bytes], bytes]
) -> None:
    import hashlib

    plain = layer(entry("a/b", b"content")).getvalue()
    diff_id = unpack_layer(io.BytesIO(compress(plain)), folder)
    assert diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert tree(folder) == {"a/b": "content"}


def test_modes_owners_times_and_links_are_kept(folder: Path) -> None:
    unpack_layer(
        layer(
            entry("bin", None, mode=0o2755, uid=3, gid=4, mtime=1000),
            entry("bin/su", b"x", mode=0o4711, mtime=2000),
            symlink("bin/sh", "su"),
            hardlink("bin/su2", "bin/su"),
        ),
        folder,
    )
    status = (folder / "bin/su").stat()
    assert stat.S_IMODE(status.st_mode) == 0o4711
    assert status.st_mtime == 2000
    assert status.st_nlink == 2
    assert (folder / "bin/sh").readlink() == Path("su")
    assert stat.S_IMODE((folder / "bin").stat().st_mode) == 0o2755
    assert (folder / "bin").stat().st_mtime == 1000
    if os.geteuid() == 0:
        assert ((folder / "bin").stat().st_uid, (folder / "bin").stat().st_gid) == (3, 4)


def test_whiteouts_take_overlayfs_form(folder: Path) -> None:
    unpack_layer(
        layer(entry("etc/.wh.gone", b""), entry("var/.wh..wh..opq", b""), entry("var/new", b"n")),
        folder,
    )
    assert is_whiteout((folder / "etc/gone").lstat())
    assert is_opaque(str(folder / "var"))
    assert tree(folder) == {"var/new": "n"}


def test_a_folder_in_place_of_a_deleted_one_hides_what_was_in_it(folder: Path) -> None:
    unpack_layer(layer(entry("a/.wh.b", b""), entry("a/b", None), entry("a/b/c", b"new")), folder)
    assert is_opaque(str(folder / "a/b"))
    assert tree(folder) == {"a/b/c": "new"}


def test_a_folder_in_place_of_a_file_of_the_same_layer_is_a_new_one(
    tmp_path: Path, folder: Path
) -> None:
    below = populate(tmp_path / "below", ["a/old"])
    unpack_layer(layer(entry("a", b"file"), entry("a", None)), folder, lowers=[below])
    assert MergedTree([str(below), str(folder)]).lookup("/a/old") is None


@pytest.mark.parametrize("again", [".wh.a", "a"])
def test_a_link_of_a_layer_below_is_followed_no_more_once_it_is_replaced(
    tmp_path: Path, folder: Path, again: str
) -> None:
    below = populate(tmp_path / "below", ["b/old"])
    (below / "a").symlink_to("b")
    replaced = entry(again, b"") if again == ".wh.a" else entry(again, None)
    unpack_layer(layer(entry("a/x", b"1"), replaced, entry("a/y", b"2")), folder, lowers=[below])
    merged = MergedTree([str(below), str(folder)])
    assert merged.require("/b/x").kind == "file"
    assert merged.require("/a/y").path == "/a/y"
    assert merged.lookup("/b/y") is None


def test_a_folder_made_through_a_link_can_be_replaced_by_its_own_name(folder: Path) -> None:
    unpack_layer(layer(symlink("b", "a"), entry("b/b/a", b"1"), entry("a/b", b"2")), folder)
    assert tree(folder) == {"a/b": "2"}


def test_flattened_whiteouts_delete_what_is_below_and_spare_what_is_new(folder: Path) -> None:
    unpack_layer(
        layer(entry("a/one", b"1"), entry("a/two", b"2"), entry("b/c", b"3"), entry("d", b"4")),
        folder,
        flat=True,
    )
    unpack_layer(
        layer(
            entry("a/new", b"n"),
            entry("a/.wh..wh..opq", b""),
            entry("b/.wh.c", b""),
            entry(".wh.d", b""),
        ),
        folder,
        flat=True,
    )
    assert tree(folder) == {"a/new": "n"}
    assert (folder / "b").is_dir()


def test_an_unlisted_parent_is_like_the_one_below(tmp_path: Path, folder: Path) -> None:
    below = tmp_path / "below"
    (below / "srv/app").mkdir(parents=True)
    (below / "srv").chmod(0o711)
    (below / "srv/app").chmod(0o1777)
    unpack_layer(layer(entry("srv/app/x", b"x")), folder, lowers=[below])
    assert stat.S_IMODE((folder / "srv").stat().st_mode) == 0o711
    assert stat.S_IMODE((folder / "srv/app").stat().st_mode) == 0o1777


def test_a_path_through_a_link_of_a_layer_below_lands_where_the_link_leads(
    tmp_path: Path, folder: Path
) -> None:
    below = tmp_path / "below"
    (below / "usr/bin").mkdir(parents=True)
    (below / "bin").symlink_to("usr/bin")
    unpack_layer(layer(entry("bin/tool", b"x")), folder, lowers=[below])
    assert tree(folder) == {"usr/bin/tool": "x"}
    assert not (folder / "bin").exists()


def test_a_hard_link_to_a_file_of_a_layer_below_brings_it_along(
    tmp_path: Path, folder: Path
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (below / "a").write_text("a")
    unpack_layer(layer(hardlink("b", "a")), folder, lowers=[below])
    assert tree(folder) == {"a": "a", "b": "a"}


def test_read_only_folders_can_be_filled_by_a_user(folder: Path) -> None:
    unpack_layer(layer(entry("ro", None, mode=0o555), entry("ro/x", b"x")), folder)
    assert stat.S_IMODE((folder / "ro").stat().st_mode) == 0o555
    assert tree(folder) == {"ro/x": "x"}


# -- packing --------------------------------------------------------------------------------


def packed(folder: Path) -> bytes:
    stream = io.BytesIO()
    pack_layer(folder, stream)
    return stream.getvalue()


def populate(folder: Path, order: list[str]) -> Path:
    folder.mkdir()
    for name in order:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def test_the_same_files_give_the_same_bytes_whenever_and_in_whatever_order_they_were_made(
    tmp_path: Path,
) -> None:
    names = ["b/two", "a", "b/one", "c-d/e", "c/z"]
    first = populate(tmp_path / "first", names)
    second = populate(tmp_path / "second", names[::-1])
    for path in second.rglob("*"):
        os.utime(path, (12345, 12345))
    assert packed(first) == packed(second)


def test_what_is_packed_and_unpacked_again_is_the_same(tmp_path: Path, folder: Path) -> None:
    source = populate(tmp_path / "source", ["etc/a", "etc/b", "usr/x" * 40])
    (source / "etc/a").chmod(0o4750)
    (source / "link").symlink_to("etc/a")
    (source / "etc/hard").hardlink_to(source / "etc/b")
    make_whiteout(str(source / "gone"))
    make_opaque(str(source / "usr"))
    os.setxattr(source / "etc/b", "user.note", b"\xff\x00binary")
    unpack_layer(io.BytesIO(packed(source)), folder)
    assert packed(folder) == packed(source)
    assert is_whiteout((folder / "gone").lstat())
    assert os.getxattr(folder / "etc/b", "user.note") == b"\xff\x00binary"


def test_a_whiteout_hides_the_file_after_a_trip_through_a_tar(tmp_path: Path, folder: Path) -> None:
    below = populate(tmp_path / "below", ["etc/a", "etc/b"])
    above = tmp_path / "above"
    (above / "etc").mkdir(parents=True)
    make_whiteout(str(above / "etc/a"))
    unpack_layer(io.BytesIO(packed(above)), folder, lowers=[below])
    merged = MergedTree([str(below), str(folder)])
    assert merged.lookup("/etc/a") is None
    assert merged.lookup("/etc/b") is not None
