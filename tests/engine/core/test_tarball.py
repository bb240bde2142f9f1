"""Images as archives: valid, and the same bytes from the same inputs, wherever they are made."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path

from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.vertices.vertex import ExecRootOutput, FileRef, Scratch, Tarball, Tree
from tests.engine.core.conftest import PLAIN, add_image, sh

CONFIG = '{"architecture":"amd64","config":{"Cmd":["sh"]},"os":"linux"}'


def index_of(archive: bytes) -> dict[str, object]:
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        names = tar.getnames()
        index = tar.extractfile("index.json")
        assert index is not None
        read: dict[str, object] = json.load(index)
    assert "oci-layout" in names
    return read


async def archive_of(store: Store, root: Path, script: str) -> bytes:
    tree: Tree = add_image(store, root)
    tree = ExecRootOutput(exec=sh(tree, script))
    async with Solver(store, host=PLAIN) as solver:
        tarball = Tarball(roots=(tree,), configs=(CONFIG,))
        return await solver.read(FileRef(tree=tarball, path="/container.tar"))


async def test_an_archive_is_the_same_in_another_store(tmp_path: Path, rootfs: Path) -> None:
    script = "mkdir /app; echo x > /app/f; chown app:app /app/f; rm /etc/group; ln -s f /app/l"
    made = []
    for name in ("one", "a-much-longer-name-of-a-folder"):
        with Store(tmp_path / name) as store:
            made.append(await archive_of(store, rootfs, script))
    assert made[0] == made[1]
    assert len(index_of(made[0])["manifests"]) == 1  # type: ignore[arg-type]


async def test_an_empty_image_can_be_written(solver: Solver) -> None:
    tarball = Tarball(roots=(Scratch(),), configs=(CONFIG,))
    assert index_of(await solver.read(FileRef(tree=tarball, path="/container.tar")))
