"""A small root file system made of the host's own programs, and solvers over fresh stores."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ci.engine.sandbox.lent import Host
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.vertices.vertex import Exec, ImageRoot

PROGRAMS = [
    "sh",
    "cat",
    "ls",
    "mkdir",
    "rm",
    "rmdir",
    "ln",
    "chmod",
    "chown",
    "id",
    "sleep",
    "touch",
    "env",
    "true",
    "false",
    "stat",
    "mv",
    "cp",
    "head",
    "tail",
    "wc",
    "grep",
    "sed",
    "pwd",
    "readlink",
    "seq",
    "date",
    "hostname",
    "setsid",
    "dd",
    "find",
]

#: A machine without certificates, mirrors and proxies of its own.
PLAIN = Host({}, anchors=())

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1001:\nextra:x:1234:app\n"


def libraries(program: str) -> list[str]:
    """Absolute paths of the shared libraries of a program."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", listing)


def fill_rootfs(root: Path, *more: str) -> None:
    """Put a shell and small programs into ``root``, and more by name."""
    (root / "bin").mkdir()
    needed: set[str] = set()
    for name in (*PROGRAMS, *more):
        path = shutil.which(name)
        assert path, f"the host has no {name}"
        shutil.copy(path, root / "bin" / name)
        needed.update(libraries(path))
    for path in needed:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for folder in ("etc", "home/app", "tmp", "usr/bin", "var", "root"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rootfs") / "root"
    root.mkdir(mode=0o755)
    fill_rootfs(root)
    return root


def add_image(store: Store, rootfs: Path, digest: str = "sha256:test") -> ImageRoot:
    """The root file system as an image of the store."""
    if store.get("image", digest) is None:
        folder = store.temporary()
        shutil.copytree(rootfs, folder, symlinks=True, dirs_exist_ok=True)
        layer = store.add_layer(folder)
        store.put("image", digest, {"layers": [layer], "config": {}, "stand_in": ""})
    return ImageRoot(image_digest=digest, reference="test")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "cache") as store:
        yield store


@pytest.fixture
def image(store: Store, rootfs: Path) -> ImageRoot:
    return add_image(store, rootfs)


@pytest.fixture
async def solver(store: Store) -> AsyncIterator[Solver]:
    async with Solver(store, host=PLAIN) as solver:
        yield solver


def sh(root, script: str, **options) -> Exec:
    """An exec of a shell script."""
    return Exec(root=root, args=("sh", "-c", script), **options)
