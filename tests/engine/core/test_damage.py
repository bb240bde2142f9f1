"""Damage in the store: found when it is used, or by the full check; dropped, and never served."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.engine.solver.solver import Solver
from ci.engine.store.check import check
from ci.engine.store.layers import Layer
from ci.engine.store.records import decode, encode
from ci.engine.store.store import Store
from ci.engine.trees.host import import_directory
from ci.engine.trees.patterns import EVERYTHING
from ci.engine.vertices.vertex import (
    Copy,
    DirectoryRef,
    Exec,
    ExecRootOutput,
    FileRef,
    HostDirectory,
    ImageRoot,
    Scratch,
)
from tests.engine.core.conftest import PLAIN, sh


def reopened(store: Store) -> Store:
    """The same store as another process sees it."""
    return Store(store.root.parent)


def flip(path: Path, *, at: int = 0) -> None:
    """Turn one bit, and leave the times as a failing disk would."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# -- records -------------------------------------------------------------------------------------


def test_no_bit_of_a_record_can_turn_unseen() -> None:
    value = {"exit_code": 0, "layers": ["12", "7"], "output": {"stdout": "yes\n"}}
    text = encode(value)
    assert decode(text) == value
    for place in range(len(text) * 8):
        damaged = bytearray(text)
        damaged[place // 8] ^= 1 << place % 8
        assert decode(bytes(damaged)) is None


def test_no_record_that_was_cut_is_read() -> None:
    text = encode({"layers": ["12"], "nested": {"blobs": []}})
    assert all(decode(text[:length]) is None for length in range(len(text)))


async def test_a_record_of_which_a_bit_turned_is_made_again(store: Store, image: ImageRoot) -> None:
    exec_ = sh(image, "echo yes")
    async with Solver(store, host=PLAIN) as solver:
        await solver.run(exec_)
    (record,) = [path for path in store.records() if "exec" in path.parts]
    flip(record, at=record.read_bytes().index(b"yes"))
    async with Solver(store, host=PLAIN) as solver:
        assert (await solver.run(exec_)).stdout == "yes\n"
        assert solver.counters.execs == 1


# -- layers --------------------------------------------------------------------------------------

MADE = "mkdir -p /made/sub; echo content > /made/file; ln -s file /made/link"


def cut(layer: Path) -> None:
    (layer / "made/file").write_bytes(b"con")


def write_over(layer: Path) -> None:
    (layer / "made/file").write_bytes(b"CONTENT\n")


def remove(layer: Path) -> None:
    (layer / "made/link").unlink()


def add(layer: Path) -> None:
    (layer / "made/sub/more").touch()


def change_permissions(layer: Path) -> None:
    (layer / "made/file").chmod(0o600)


def lose_seal(layer: Path) -> None:
    flip(layer.with_name(layer.name + ".seal"), at=50)


@pytest.mark.parametrize("damage", [cut, write_over, remove, add, change_permissions, lose_seal])
async def test_a_damaged_layer_is_made_again(
    store: Store, image: ImageRoot, damage: Callable[[Path], None]
) -> None:
    exec_ = sh(image, MADE)
    made = ExecRootOutput(exec=exec_)
    async with Solver(store, host=PLAIN) as solver:
        layer = (await solver.snapshot(made))[-1]
    damage(store.layer_path(layer))
    with reopened(store) as other:
        async with Solver(other, host=PLAIN) as solver:
            file = FileRef(tree=made, path="/made/link")
            assert await solver.read(file) == b"content\n"
            assert await solver.entries(DirectoryRef(tree=made, path="/made/sub")) == []
            assert solver.counters.execs == 1
        assert not other.has_layers((layer,))


async def test_what_was_copied_of_a_damaged_layer_is_made_again(
    store: Store, image: ImageRoot
) -> None:
    """Layers share files by hard links: what is damaged in one is damaged in the other."""
    made = ExecRootOutput(exec=sh(image, MADE))
    copied = Copy(tree=Scratch(), path="/at", source=DirectoryRef(tree=made, path="/made"))
    async with Solver(store, host=PLAIN) as solver:
        (layer,) = await solver.snapshot(copied)
    (store.layer_path(layer) / "at/file").write_bytes(b"wrong\n")
    with reopened(store) as other:
        async with Solver(other, host=PLAIN) as solver:
            assert await solver.read(FileRef(tree=copied, path="/at/file")) == b"content\n"


async def test_a_layer_of_before_there_were_seals_is_sealed_as_it_is(
    store: Store, image: ImageRoot
) -> None:
    layer = Layer((await snapshot_of(store, image))[0])
    seal = store.layer_folder.folder / f"{layer}.seal"
    seal.unlink()
    with reopened(store) as other:
        assert other.has_layers((layer,))
    assert seal.exists()


async def snapshot_of(store: Store, image: ImageRoot) -> tuple[Layer, ...]:
    async with Solver(store, host=PLAIN) as solver:
        return await solver.snapshot(image)


def test_a_file_system_that_keeps_whole_seconds_only_damages_nothing(tmp_path: Path) -> None:
    """As some do, once a file is read from the disk again."""
    with Store(tmp_path) as store:
        folder = store.temporary()
        (folder / "file").write_text("content")
        layer = store.add_layer(folder)
    file = store.layer_path(layer) / "file"
    seconds = int(file.stat().st_mtime)
    os.utime(file, (seconds, seconds))
    with Store(tmp_path) as store:
        assert store.has_layers((layer,))
    os.utime(file, (seconds + 1, seconds + 1))
    with Store(tmp_path) as store:
        assert not store.has_layers((layer,))


def test_a_lost_bit_in_the_count_of_layers_gives_no_number_twice(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        layers = {store.add_layer(store.temporary()) for _ in range(5)}
        flip(store.root / "counter", at=11)
        layers.add(store.add_layer(store.temporary()))
        (store.root / "counter").write_bytes(b"%012d\n%012d\n" % (2, 2))
        layers.add(store.add_layer(store.temporary()))
    assert len(layers) == 7


# -- blobs ---------------------------------------------------------------------------------------


async def test_long_output_that_was_damaged_is_had_again(store: Store, image: ImageRoot) -> None:
    exec_ = sh(image, "seq 20000")
    async with Solver(store, host=PLAIN) as solver:
        expected = (await solver.run(exec_)).stdout
    (blob,) = store.blobs()
    flip(blob, at=1000)
    with reopened(store) as other:
        async with Solver(other, host=PLAIN) as solver:
            assert (await solver.run(exec_)).stdout == expected
            assert solver.counters.execs == 1


# -- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".index", ".seal", "/file"])
def test_a_damaged_import_is_made_again(store: Store, tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("file", "other"):
        (folder / name).write_text(name)
        os.utime(folder / name, (1, 1))
    first = import_directory(store, str(folder), EVERYTHING)
    damaged = Path(str(store.layer_path(first.layer)) + suffix)
    damaged.write_bytes(b"damage" if suffix == "/file" else damaged.read_bytes()[:-3] + b"???")
    with reopened(store) as other:
        again = import_directory(other, str(folder), EVERYTHING)
        (folder / "other").write_text("new")
        third = import_directory(other, str(folder), EVERYTHING)
        assert again.digest == first.digest
        assert (other.layer_path(again.layer) / "file").read_text() == "file"
        assert (other.layer_path(third.layer) / "file").read_text() == "file"


# -- the full check ------------------------------------------------------------------------------


async def everything(store: Store, image: ImageRoot, tmp_path: Path) -> Exec:
    (tmp_path / "src").mkdir(exist_ok=True)
    (tmp_path / "src/code").write_text("code")
    source = DirectoryRef(tree=HostDirectory(path=str(tmp_path / "src")))
    exec_ = sh(Copy(tree=image, path="/src", source=source), f"{MADE}; seq 20000")
    async with Solver(store, host=PLAIN) as solver:
        await solver.run(exec_)
        await solver.snapshot(ExecRootOutput(exec=exec_))
    return exec_


async def test_the_check_finds_nothing_in_a_sound_store(
    store: Store, image: ImageRoot, tmp_path: Path
) -> None:
    await everything(store, image, tmp_path)
    store.layer_folder.settle(60)
    found = check(store)
    assert (found.damaged, found.unknown) == ((), 0)
    assert found.layers >= 3
    assert found.blobs == 1


async def test_the_check_finds_bits_that_the_disk_lost(
    store: Store, image: ImageRoot, tmp_path: Path
) -> None:
    """In a blob, a record, an exec's layer, an import and its copy, all with the times they had."""
    exec_ = await everything(store, image, tmp_path)
    store.layer_folder.settle(60)
    (blob,) = store.blobs()
    (record,) = [path for path in store.records() if "exec" in path.parts]
    files = [*store.layer_folder.folder.glob("*/made/file"),
             *store.layer_folder.folder.glob("*/code")]  # fmt: skip
    for path in (blob, record, *files):
        flip(path, at=2)
    with reopened(store) as other:
        found = check(other)
        assert sorted(each.what.split()[0] for each in found.damaged) == [
            "blob", "layer", "layer", "layer", "record",
        ]  # fmt: skip
        assert any("/made/file" in each.found for each in found.damaged)
        assert check(other).damaged == ()
        async with Solver(other, host=PLAIN) as solver:
            assert (await solver.run(exec_)).stdout.endswith("20000\n")
            assert solver.counters.execs == 1
            root = ExecRootOutput(exec=exec_)
            assert await solver.read(FileRef(tree=root, path="/made/file")) == b"content\n"
            assert await solver.read(FileRef(tree=root, path="/src/code")) == b"code"
