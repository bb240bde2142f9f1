"""Folders of the host that are imported: whatever changes in them is seen, whatever they hold."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.engine.store.store import Store
from ci.engine.trees import host
from ci.engine.trees.host import HostPathError, Import, import_directory
from ci.engine.trees.patterns import EVERYTHING

OLD = 1_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file that was settled long ago."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("one")
    return folder


def bring(store: Store, folder: Path) -> Import:
    return import_directory(store, str(folder), EVERYTHING)


def content(store: Store, imported: Import, name: str = "file") -> str:
    return (store.layer_path(imported.layer) / name).read_text()


def next_tick(folder: Path) -> None:
    """Let the file system's clock go on: older kernels stamp all of some milliseconds alike."""
    newest = (folder / "file").stat().st_ctime_ns
    other = folder.parent / "tick"
    while True:
        other.write_text("x")
        if other.stat().st_ctime_ns > newest:
            return


def settle(monkeypatch: pytest.MonkeyPatch, *, seconds: float = 10.0) -> None:
    """Let the importer believe that so much time has gone since."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(seconds * 1e9))


def same_size(folder: Path) -> None:
    (folder / "file").write_text("two")


def same_size_and_time(folder: Path) -> None:
    status = (folder / "file").stat()
    (folder / "file").write_text("two")
    os.utime(folder / "file", ns=(status.st_atime_ns, status.st_mtime_ns))


def another_file_in_its_place(folder: Path) -> None:
    """Maybe under the same inode number."""
    status = (folder / "file").stat()
    (folder / "file").unlink()
    (folder / "file").write_text("two")
    os.utime(folder / "file", ns=(status.st_atime_ns, status.st_mtime_ns))


def renamed_over(folder: Path) -> None:
    (folder / "new").write_text("two")
    os.utime(folder / "new", ns=(OLD, OLD))
    (folder / "new").rename(folder / "file")


def by_another_name(folder: Path) -> None:
    outside = folder.parent / "outside"
    os.link(folder / "file", outside)
    outside.write_text("two")


CHANGES = [same_size, same_size_and_time, another_file_in_its_place, renamed_over, by_another_name]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("trusted", [True, False])
def test_a_change_is_seen_whatever_it_leaves_as_it_was(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, *,
    change: Callable[[Path], None], trusted: bool,
) -> None:  # fmt: skip
    """Also right after the import, within one tick of the file system's clock."""
    if trusted:
        settle(monkeypatch)
    first = bring(store, folder)
    if trusted:
        next_tick(folder)
    change(folder)
    second = bring(store, folder)
    assert content(store, first) == "one"
    assert content(store, second) == "two"
    assert first.digest != second.digest


def test_an_unchanged_folder_is_the_layer_that_it_was(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    assert bring(store, folder).layer == bring(store, folder).layer


@pytest.mark.parametrize(("ctime", "settled"), [(OLD * 10**9, 2.2), (OLD * 10**9 + 7, 0.06)])
def test_a_clock_of_whole_seconds_is_trusted_later(ctime: int, settled: float) -> None:
    assert ctime < host._settles(ctime) <= ctime + int(settled * 1e9)
    assert host._settles(ctime) > ctime + int((settled - 0.2) * 1e9)


def test_what_is_written_while_it_is_read_is_read_again(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that never rests: each import is one moment of the file, the last is the last."""
    settle(monkeypatch)
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            written += 1
            (folder / "file").write_text(f"{written:08}" * 1000)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(30):
            bring(store, folder)
    finally:
        stop.set()
        thread.join()
    assert content(store, bring(store, folder)) == f"{written:08}" * 1000


def test_files_that_come_and_go_meanwhile_are_no_error(store: Store, folder: Path) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            (folder / "sub").mkdir()
            for number in range(20):
                (folder / f"sub/{number}").write_text("x")
            for number in range(20):
                (folder / f"sub/{number}").unlink()
            (folder / "sub").rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(50):
            assert content(store, bring(store, folder)) == "one"
    finally:
        stop.set()
        thread.join()
    final = bring(store, folder)
    assert sorted(path.name for path in store.layer_path(final.layer).iterdir()) == ["file"]


def test_a_file_that_vanished_since_it_was_listed_is_left_out_and_looked_for_again(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    (folder / "gone").write_text("x")
    real = host._Importer._copy

    def copy(self, path, entry, target):
        (folder / "gone").unlink(missing_ok=True)
        return real(self, path, entry, target)

    with monkeypatch.context() as patch:
        patch.setattr(host._Importer, "_copy", copy)
        first = bring(store, folder)
    assert [path.name for path in store.layer_path(first.layer).iterdir()] == ["file"]
    (folder / "gone").write_text("back")
    assert content(store, bring(store, folder), "gone") == "back"


def test_what_became_a_pipe_since_it_was_listed_is_not_waited_for(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = host._Importer._copy

    def copy(self, path, entry, target):
        (folder / "file").unlink()
        os.mkfifo(folder / "file")
        return real(self, path, entry, target)

    monkeypatch.setattr(host._Importer, "_copy", copy)
    imported = bring(store, folder)
    assert list(store.layer_path(imported.layer).iterdir()) == []


def test_sockets_and_pipes_are_left_out(store: Store, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        place = Path.cwd()
        os.chdir(folder)  # a socket's path is short
        try:
            listener.bind("socket")
        finally:
            os.chdir(place)
        imported = bring(store, folder)
    assert [path.name for path in store.layer_path(imported.layer).iterdir()] == ["file"]


def test_links_come_as_links_even_in_circles_and_out_of_the_folder(
    store: Store, folder: Path
) -> None:
    targets = {"self": "self", "up": "..", "out": "/etc/passwd", "none": "nowhere", "one": "two",
               "two": "one"}  # fmt: skip
    for name, target in targets.items():
        (folder / name).symlink_to(target)
    layer = store.layer_path(bring(store, folder).layer)
    assert {name: str((layer / name).readlink()) for name in targets} == targets


def test_hard_links_come_as_files_of_the_same_content(store: Store, folder: Path) -> None:
    os.link(folder / "file", folder / "linked")
    imported = bring(store, folder)
    assert content(store, imported, "linked") == content(store, imported) == "one"


def test_names_that_are_no_utf_8_come_as_they_are(store: Store, folder: Path) -> None:
    name = os.fsencode(folder) + b"/\xff\xfe bad"
    Path(os.fsdecode(name)).write_text("odd")
    (folder / "new\nline").write_text("odd")
    for _ in range(2):
        imported = bring(store, folder)
        found = [os.fsencode(path.name) for path in store.layer_path(imported.layer).iterdir()]
        assert sorted(found) == [b"file", b"new\nline", b"\xff\xfe bad"]


def test_one_of_a_folder_that_is_not_there_is_an_error(store: Store, folder: Path) -> None:
    with pytest.raises(HostPathError, match="got no folder; expected a folder"):
        bring(store, folder / "file")
    with pytest.raises(HostPathError, match="No such file"):
        bring(store, folder / "absent")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_named(store: Store, folder: Path) -> None:
    (folder / "file").chmod(0)
    with pytest.raises(HostPathError, match=r"/file'.*Permission denied"):
        bring(store, folder)
