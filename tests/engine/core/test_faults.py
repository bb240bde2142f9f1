"""A disk that is full, a store that cannot be read or written, another's, another version's."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ci.engine.store.store import Store, StoreError
from tests.engine.core.test_sandbox import ordinary_python

REPOSITORY = Path(__file__).parents[3]
SITE = next(path for path in sys.path if path.endswith("site-packages"))

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and gives away files")

#: Runs the graph of crash_program in disks of growing size, from far too small to large enough,
#: in a mount namespace of its own; after each refusal the disk grows and the same run is right.
FULL = """
import asyncio, ctypes, os, subprocess, sys
from pathlib import Path
from ci.engine.store.store import Store, StoreError
from ci.engine.vertices.execution import ExecFailed
from tests.engine.core.conftest import add_image
from tests.engine.core.crash_program import Graph, expected

rootfs, work, sizes = Path(sys.argv[1]), Path(sys.argv[2]), [int(s) for s in sys.argv[3:]]
cache = work / "cache"

def mount(size, *, again=False):
    how = "remount," if again else ""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"{how}size={size}k", "towpath", cache], check=True)

for number, size in enumerate(sizes):
    cache.mkdir(exist_ok=True)
    mount(sizes[-1])
    with Store(cache) as store:
        add_image(store, rootfs)
    used = os.statvfs(cache)
    base = (used.f_blocks - used.f_bfree) * used.f_frsize // 1024
    mount(base + size, again=True)
    try:
        asyncio.run(Graph(work, number).run())
    except StoreError as error:
        print("refused", str(error).replace(chr(10), " "), flush=True)
    else:
        print("went", flush=True)
    mount(base + 65536, again=True)
    came = asyncio.run(Graph(work, number).run())
    right = {name: came[name] for name in expected(number)} == expected(number)
    print("right" if right else f"wrong {came}", flush=True)
    subprocess.run(["umount", cache], check=True)
"""


@as_root
def test_on_a_full_disk_the_error_says_so_and_the_next_run_is_right(
    tmp_path: Path, rootfs: Path
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/kept").write_text("kept\n")
    sizes = [0, 8, 24, 48, 80, 120, 180, 260, 360, 480, 640, 900, 65536]
    ran = subprocess.run(
        ["unshare", "--mount", sys.executable, "-B", "-c", FULL, rootfs, tmp_path,
         *map(str, sizes)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    lines = ran.stdout.splitlines()
    assert lines[1::2] == ["right"] * len(sizes)
    assert lines[0].startswith("refused")
    assert lines[-2] == "went"
    refused = [line for line in lines if line.startswith("refused")]
    assert len(refused) >= 5
    assert all("got no space left on the disk" in line for line in refused), refused
    assert all("hint: free some space, run `ci engine prune`" in line for line in refused)


def test_a_limit_of_file_sizes_is_told_and_nothing_cut_is_kept(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(tmp_path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(StoreError, match=r"File too large.*\nhint: raise the limit"):
                store.put("kind", "key", {"text": "x" * 10_000})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.get("kind", "key") is None
        store.put("kind", "key", {"text": "x" * 10_000})
        assert store.get("kind", "key") == {"text": "x" * 10_000}


READ_ONLY = """
import sys
from pathlib import Path
from ci.engine.store.store import Store, StoreError
try:
    Store(Path(sys.argv[1]))
except StoreError as error:
    print(error)
"""


def in_a_process(root: Path, *before: str, python: str = sys.executable) -> str:
    """What a process says that opens a store."""
    ran = subprocess.run(
        [*before, python, "-B", "-c", READ_ONLY, root],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{SITE}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    return ran.stdout


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    link = tmp_path / "cache"
    link.symlink_to(tmp_path / "gone")
    for root in (link, Path("/proc/cache")):
        with pytest.raises(StoreError, match="expected a folder that can be read and written"):
            Store(root)


@as_root
def test_a_read_only_store_is_told(tmp_path: Path) -> None:
    with Store(tmp_path / "cache"):
        pass
    again = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}"
    script = f'{again} && exec "$0" "$@"'
    said = in_a_process(tmp_path / "cache", "unshare", "--mount", "sh", "-c", script)
    assert "Read-only file system" in said
    assert "expected a folder that can be read and written" in said
    assert "hint: name another folder in TOWPATH_CACHE" in said


@as_root
def test_another_user_s_store_is_told_with_both_users(tmp_path: Path) -> None:
    with Store(tmp_path / "cache") as store:
        root = store.root
    for folder, _, names in os.walk(root):
        for path in (folder, *(f"{folder}/{name}" for name in names)):
            os.chown(path, 12345, 12345)
    with pytest.raises(StoreError) as caught:
        Store(tmp_path / "cache")
    assert "got it belongs to uid 12345; expected one that belongs to root (uid 0)" in str(
        caught.value
    )
    assert "hint: name a folder of your own in TOWPATH_CACHE" in str(caught.value)


@as_root
def test_a_store_that_may_not_be_read_is_told(rootfs: Path) -> None:
    python = ordinary_python()
    if python is None:
        pytest.skip("no Python that an ordinary user of this machine may run")
    place = Path(subprocess.check_output(["mktemp", "-d", "-p", "/var/tmp"], text=True).strip())
    try:
        place.chmod(0o755)
        with Store(place / "cache"):
            pass
        (place / "cache").chmod(0o700)
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        said = in_a_process(place / "cache", *user, python=python)
        assert "Permission denied" in said
        assert "hint: name another folder in TOWPATH_CACHE" in said
    finally:
        subprocess.run(["rm", "-rf", place], check=True)


def test_a_store_of_another_format_is_left_alone_and_told(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put("kind", "key", {"a": 1})
        root = store.root
    (root / "format").write_text("towpath store 2\n")
    with pytest.raises(StoreError) as caught:
        Store(tmp_path)
    assert "its format is 'towpath store 2'; expected 'towpath store 1'" in str(caught.value)
    assert "hint: another version of Towpath made it" in str(caught.value)
    (root / "format").write_text("towpath store 1\n")
    with Store(tmp_path) as store:
        assert store.get("kind", "key") == {"a": 1}


def test_a_store_is_marked_as_a_cache_for_backups(tmp_path: Path) -> None:
    with Store(tmp_path / "cache"):
        tag = (tmp_path / "cache/CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
