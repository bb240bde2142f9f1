"""Hints to the file system: given where it takes them, and never in the way."""

from __future__ import annotations

import errno
import fcntl
import struct
from pathlib import Path

import pytest

from ci.engine.store.placement import spread
from ci.engine.store.store import Store

EXTENTS = 0x00080000
UNRELATED = 0x00020000


class Flags:
    """Of one inode, as the kernel's two calls read and write them."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __call__(self, fd: int, request: int, argument: bytes) -> bytes:
        assert fd >= 0
        if request >> 30 == 1:  # the direction: it writes
            (self.value,) = struct.unpack("i", argument)
        return struct.pack("i", self.value)


def test_a_hint_leaves_the_other_flags_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = Flags(EXTENTS)
    monkeypatch.setattr(fcntl, "ioctl", flags)
    spread(tmp_path)
    assert flags.value == EXTENTS | UNRELATED


@pytest.mark.parametrize("code", [errno.ENOTTY, errno.EOPNOTSUPP, errno.EPERM])
def test_a_file_system_that_takes_no_hints_holds_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(code, "no flags here")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with Store(tmp_path) as store:
        layer = store.add_layer(store.temporary())
        assert store.has_layers((layer,))


def test_folders_of_two_stores_are_not_named_alike(tmp_path: Path) -> None:
    """ext4 places by the name alone: names that all begin with 0 would be in one place."""
    names = set()
    for number in range(8):
        with Store(tmp_path / f"{number}") as store:
            names.add(store.temporary().name)
    assert len(names) > 1
