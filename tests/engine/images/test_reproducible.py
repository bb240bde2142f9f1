"""The same inputs give an image of the same digest: in any store, at any time, to any user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.engine.core.conftest import rootfs

__all__ = ["rootfs"]

PROGRAM = "tests.engine.images.build_program"


def build(source: Path, folder: Path, *how: str, umask: int = 0o022) -> tuple[str, list[str]]:
    """By a process of its own, in a store of its own: its user, and the images' digests."""
    (folder / "out").mkdir(parents=True)
    root = folder / "copied"  # in another order, at another time, to other inodes
    shutil.copytree(source, root, symlinks=True)
    for path in root.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (folder.stat().st_mtime, 12345))
    done = subprocess.run(
        [sys.executable, "-m", *how, PROGRAM, str(root), str(folder / "out")],
        env={**os.environ, "TOWPATH_CACHE": str(folder / "store"), "TZ": "Asia/Tokyo"},
        capture_output=True, text=True, umask=umask, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    user, *digests = done.stdout.split()
    return user, digests


def test_two_stores_give_the_same_digests_whoever_builds(rootfs: Path, tmp_path: Path) -> None:
    user, first = build(rootfs, tmp_path / "first")
    assert len(first) >= 3
    assert build(rootfs, tmp_path / "second", umask=0o077) == (user, first)
    if user == "0":
        ordinary = build(rootfs, tmp_path / "ordinary", "tests.ordinary_user")
        assert ordinary == ("1000", first)
