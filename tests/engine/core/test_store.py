"""The store: shared by processes, whole at any instant, pruned without harm."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.engine.store.layers import Layer, make_opaque, make_whiteout
from ci.engine.store.own_folder import OwnFolder, sweep
from ci.engine.store.prune import prune, usage
from ci.engine.store.store import Store, StoreError, try_lock_volume


def layer_of(store: Store, **files: str) -> Layer:
    folder = store.temporary()
    for name, text in files.items():
        (folder / name).write_text(text)
    return store.add_layer(folder)


def test_a_layer_is_taken_over_whole_and_numbers_are_never_used_again(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        first = layer_of(store, a="1")
        store.discard(store.layer_path(first))
        second = layer_of(store, a="2")
        assert first != second
        assert (store.layer_path(second) / "a").read_text() == "2"
        assert store.has_layers((second,))
        assert not store.has_layers((first, second))


def test_a_lost_counter_gives_no_number_twice(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        first = layer_of(store, a="1")
        (store.root / "counter").unlink()
        assert int(layer_of(store, a="2")) > int(first)


def test_records_are_read_as_they_were_put(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for key in ("sha256:" + "0" * 64, "../../escape", "a/b", "x", "ü" * 300):
            assert store.get("kind", key) is None
            store.put("kind", key, {"key": key})
            assert store.get("kind", key) == {"key": key}
            assert store.record_path("kind", key).is_relative_to(store.root / "records")
            store.drop("kind", key)
            assert store.get("kind", key) is None


def test_a_blob_of_another_digest_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        path = store.temporary() / "blob"
        path.write_bytes(b"content")
        digest = "sha256:" + hashlib.sha256(b"content").hexdigest()
        wrong = "sha256:" + "0" * 64
        with pytest.raises(StoreError, match=f"got {digest}; expected {wrong}"):
            store.add_blob(path, wrong)
        assert store.blob(wrong) is None
        store.add_blob(path, digest)
        found = store.blob(digest)
        assert found is not None
        assert found.read_bytes() == b"content"


KEEPER = """
import sys
from ci.engine.store.own_folder import OwnFolder
print(OwnFolder.make(sys.argv[1]).path, flush=True)
sys.stdin.read()
"""


def test_a_folder_of_a_process_is_swept_once_it_is_dead(tmp_path: Path) -> None:
    (tmp_path / "towpath-somebody-elses").write_text("")
    with subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().strip())
        (folder / "image.tar").write_text("whole")
        own = OwnFolder.make(str(tmp_path))
        sweep(str(tmp_path), str(tmp_path / "missing"))
        assert (folder / "image.tar").exists()
        assert Path(own.path).exists()
        child.send_signal(signal.SIGKILL)
    sweep(str(tmp_path))
    assert not folder.exists()
    own.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["towpath-somebody-elses"]


CHILD = """
import sys, os, pathlib
from ci.engine.store.store import Store
store = Store(pathlib.Path(sys.argv[1]))
folder = store.temporary()
(folder / "half").write_text("x")
(folder / "locked").mkdir(mode=0)
print(folder, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_start(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().strip())
        with Store(tmp_path):
            assert (folder / "half").exists()
        child.send_signal(signal.SIGKILL)
    with Store(tmp_path) as store:
        assert not folder.exists()
        assert store.layers() == []
        assert store.owners(alive=False) == []


WRITER = """
import sys, pathlib
from ci.engine.store.store import Store
with Store(pathlib.Path(sys.argv[1])) as store:
    for number in range(100):
        folder = store.temporary()
        (folder / "by").write_text(sys.argv[2])
        layer = store.add_layer(folder)
        store.put("kind", f"key-{number}", {"layers": [layer], "by": sys.argv[2]})
        print(layer)
"""


def test_processes_share_a_store_without_a_wrong_entry(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    layers = [line for writer in writers for line in writer.communicate()[0].splitlines()]
    assert len(set(layers)) == 300
    with Store(tmp_path) as store:
        for number in range(100):
            record = store.get("kind", f"key-{number}")
            assert record is not None
            assert (store.layer_path(record["layers"][0]) / "by").read_text() == record["by"]


def test_temporary_folders_go_when_the_store_is_closed(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        folder = store.temporary()
        assert folder.stat().st_mode & 0o777 == 0o755
    assert not folder.exists()


@pytest.mark.parametrize("make", [lambda path: path.write_text(""), lambda path: path.touch()])
def test_a_root_that_is_no_folder_is_an_error_with_a_hint(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "file")
    with pytest.raises(StoreError, match="hint: name another folder in TOWPATH_CACHE"):
        Store(tmp_path / "file")


# -- volumes -------------------------------------------------------------------------------------


def test_a_volume_is_prepared_once_and_before_it_is_seen(tmp_path: Path) -> None:
    calls: list[Path] = []

    def prepare(folder: Path) -> None:
        calls.append(folder)
        (folder / "seed").write_text("x")

    with Store(tmp_path) as store:
        first = store.volume("a", prepare=prepare)
        assert store.volume("a", prepare=prepare) == first
        assert store.volume("b") != first
    assert len(calls) == 1
    assert (first / "seed").read_text() == "x"


# -- pruning -------------------------------------------------------------------------------------


def age(store: Store, kind: str, key: str, seconds: float) -> None:
    path = store.record_path(kind, key)
    when = path.stat().st_mtime - seconds
    os.utime(path, (when, when))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Three records of a layer of 100 kB each, used 30, 20 and 10 seconds ago, and one stray."""
    with Store(tmp_path) as store:
        for number in (1, 2, 3):
            layer = layer_of(store, data=str(number) * 100_000)
            store.put("kind", f"key-{number}", {"inner": {"layers": [layer]}})
            age(store, "kind", f"key-{number}", 40 - number * 10)
        layer_of(store, stray="x" * 100_000)
    return tmp_path


def kept(store: Store) -> list[int]:
    return [n for n in (1, 2, 3) if store.get("kind", f"key-{n}") is not None]


def test_what_nothing_refers_to_goes_first(filled: Path) -> None:
    with Store(filled) as store:
        gone = prune(store)
        assert (gone.layers, gone.records) == (1, 0)
        assert gone.bytes >= 100_000
        assert kept(store) == [1, 2, 3]


def test_what_was_not_used_for_long_goes(filled: Path) -> None:
    with Store(filled) as store:
        prune(store, older_than=15)
        assert kept(store) == [3]
        assert usage(store).layers == 1


def test_the_oldest_go_until_the_store_is_small_enough(filled: Path) -> None:
    with Store(filled) as store:
        prune(store, max_bytes=250_000)
        assert kept(store) == [2, 3]
        assert usage(store).total_bytes <= 250_000


def test_a_layer_stays_while_any_record_names_it(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        layer = layer_of(store, a="x")
        store.put("kind", "old", {"layers": [layer]})
        store.put("kind", "new", {"layers": [layer]})
        age(store, "kind", "old", 100)
    with Store(tmp_path) as store:
        prune(store, older_than=50)
        assert store.get("kind", "old") is None
        assert store.has_layers((layer,))


def test_what_a_living_process_uses_stays_however_old_it_is(filled: Path) -> None:
    with Store(filled) as user, Store(filled) as pruner:
        assert user.get("kind", "key-1") is not None
        mine = layer_of(user, a="not in a record yet")
        prune(pruner, older_than=0, max_bytes=0)
        assert kept(pruner) == [1]
        assert user.has_layers((mine,))


def test_a_record_that_lost_a_layer_goes(filled: Path) -> None:
    with Store(filled) as store:
        record = store.get("kind", "key-2")
        assert record is not None
        store.discard(store.layer_path(record["inner"]["layers"][0]))
    with Store(filled) as store:
        prune(store)
        assert kept(store) == [1, 3]


def test_a_volume_in_use_stays(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        busy, idle = store.volume("busy"), store.volume("idle")
        for folder in (busy, idle):
            os.utime(store.volume_lock(folder), (1, 1))
    with Store(tmp_path) as store:
        with try_lock_volume(store.volume_lock(busy)) as held:
            assert held
            assert prune(store, older_than=10).volumes == 1
        assert busy.exists()
        assert not idle.exists()


def test_pruning_while_others_write_breaks_nothing(tmp_path: Path) -> None:
    stop = threading.Event()

    def prune_all_the_time() -> None:
        with Store(tmp_path) as store:
            while not stop.is_set():
                prune(store, max_bytes=0, older_than=0)

    thread = threading.Thread(target=prune_all_the_time)
    thread.start()
    try:
        with Store(tmp_path) as store:
            for number in range(200):
                layer = layer_of(store, a=str(number))
                store.put("kind", str(number), {"layers": [layer]})
                record = store.get("kind", str(number))
                assert record is not None
                assert store.has_layers((layer,))
    finally:
        stop.set()
        thread.join()


def test_special_entries_can_be_removed(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        folder = store.temporary()
        make_whiteout(str(folder / "gone"))
        (folder / "opaque").mkdir()
        make_opaque(str(folder / "opaque"))
        (folder / "link").symlink_to("/etc")
        layer = store.add_layer(folder)
    with Store(tmp_path) as store:
        assert prune(store).layers == 1
        assert not store.has_layers((layer,))
    assert Path("/etc/passwd").exists()
