"""What commands leave behind cannot lead out: links, device nodes and setuid bits."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.trees.beneath import make_place, write_beneath
from ci.engine.trees.builder import LayerBuilder
from ci.engine.trees.host import HostPathError, import_directory
from ci.engine.trees.merged import MergedTree, NoSuchPath
from ci.engine.trees.patterns import EVERYTHING
from ci.engine.vertices.vertex import (
    CacheMount,
    DirectoryMount,
    DirectoryRef,
    Exec,
    ExecRootOutput,
    FileRef,
    ImageRoot,
    NewFile,
    Scratch,
    SecretMount,
    SecretRef,
    TmpfsMount,
)
from tests.engine.core.conftest import PLAIN, sh


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host that nothing may reach."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "passwd").write_text("as it was")
    return folder


def untouched(outside: Path) -> bool:
    found = {path.name: path.read_text() for path in outside.iterdir()}
    return found == {"passwd": "as it was"}


# -- export --------------------------------------------------------------------------------------


async def built(image: ImageRoot, script: str) -> DirectoryRef:
    return DirectoryRef(tree=ExecRootOutput(exec=sh(image, script)), path="/out")


async def test_links_that_a_build_made_are_exported_as_links(
    solver: Solver, image: ImageRoot, outside: Path, tmp_path: Path
) -> None:
    made = await built(image, f"mkdir /out; ln -s {outside} /out/x; ln -s {outside}/passwd /out/f")
    target = tmp_path / "to"
    await solver.export_directory(made, target)
    assert (target / "x").readlink() == outside
    later = await built(image, "mkdir -p /out/x; echo pwned > /out/x/passwd; echo pwned > /out/f")
    await solver.export_directory(later, target)
    assert untouched(outside)
    assert (target / "x/passwd").read_text() == "pwned\n"
    assert not (target / "x").is_symlink()


@pytest.mark.parametrize("wipe", [False, True])
async def test_links_that_are_in_the_way_of_an_export_are_not_followed(
    solver: Solver, image: ImageRoot, outside: Path, tmp_path: Path, wipe
) -> None:
    target = tmp_path / "to"
    target.mkdir()
    (target / "x").symlink_to(outside)
    (target / "passwd").symlink_to(outside / "passwd")
    (target / "gone").symlink_to(outside)
    made = await built(image, "mkdir -p /out/x; cd /out; echo pwned > x/passwd; echo p > passwd")
    await solver.export_directory(made, target, wipe=wipe)
    assert untouched(outside)
    assert (target / "gone").is_symlink() is not wipe


async def test_a_file_is_exported_over_a_link_not_through_it(
    solver: Solver, outside: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(outside / "passwd")
    made = FileRef(tree=NewFile(tree=Scratch(), path="/f", contents=b"new"), path="/f")
    await solver.export_file(made, tmp_path / "link")
    assert untouched(outside)
    assert (tmp_path / "link").read_bytes() == b"new"


async def test_no_setuid_bit_and_no_device_reaches_the_host(
    solver: Solver, image: ImageRoot, tmp_path: Path
) -> None:
    script = "mkdir /out /out/d; cp /bin/true /out/p; chmod 6755 /out/p; chmod 2777 /out/d"
    await solver.export_directory(await built(image, script), tmp_path / "to")
    assert stat.S_IMODE((tmp_path / "to/p").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "to/d").stat().st_mode) == 0o777
    store = solver.store
    folder = store.temporary()
    os.mkfifo(folder / "pipe")
    if os.geteuid() == 0:
        os.mknod(folder / "disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))
    store.put("image", "sha256:nodes", {"layers": [store.add_layer(folder)], "config": {}})
    nodes = DirectoryRef(tree=ImageRoot(image_digest="sha256:nodes", reference="nodes"))
    await solver.export_directory(nodes, tmp_path / "nodes")
    assert list((tmp_path / "nodes").iterdir()) == []


# -- import --------------------------------------------------------------------------------------


def test_a_link_in_the_place_of_a_file_is_not_followed_on_import(
    store: Store, outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the folder and the reading of its file."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("harmless")
    real = os.open

    def swap(path, flags, *rest, **options):
        if str(path) == str(source / "f"):
            (source / "f").unlink()
            (source / "f").symlink_to(outside / "passwd")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(HostPathError):
        import_directory(store, str(source), EVERYTHING)


def test_devices_and_pipes_of_the_host_are_left_out(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    (source / "f").write_text("x")
    layer = import_directory(store, str(source), EVERYTHING).layer
    assert [path.name for path in store.layer_path(layer).iterdir()] == ["f"]


# -- mounts --------------------------------------------------------------------------------------

LINKS = ["{outside}", "/oldroot{outside}", "../../../../../../../oldroot{outside}"]


@pytest.mark.parametrize("link", LINKS)
async def test_links_in_the_root_at_a_mount_point_stay_in_the_root(
    solver: Solver, image: ImageRoot, outside: Path, link: str
) -> None:
    to = link.format(outside=outside)
    linked = ExecRootOutput(exec=sh(image, f"ln -s {to} /m; ln -s {to}/passwd /s"))
    shown = DirectoryRef(tree=NewFile(tree=Scratch(), path="/f", contents=b"x"))
    secret = SecretMount(path="/s", secret=SecretRef(name="s"))
    exec_ = Exec(
        root=linked,
        args=("sh", "-c", "cat /m/f /s; echo > /m/new; echo > /t/x"),
        mounts=(DirectoryMount(path="/m", source=shown), secret, TmpfsMount(path="/t")),
        redirect_stdout="/m/said",
    )
    async with Solver(solver.store, secrets=OneSecret(), host=PLAIN) as own:
        assert (await own.run(exec_)).stdout == "x***"
    assert untouched(outside)


class OneSecret:
    async def value(self, secret: SecretRef) -> bytes:
        return b"hidden"

    async def fingerprint(self, secret: SecretRef) -> str:
        return "f"

    def scrubber(self, values):
        from ci.engine.solver.scrub import Scrubber

        return Scrubber(values)


@pytest.mark.parametrize("link", LINKS)
async def test_links_in_a_cache_volume_stay_in_it(
    solver: Solver, image: ImageRoot, outside: Path, link: str
) -> None:
    to = link.format(outside=outside)
    volume = CacheMount(path="/c", volume=f"links {link}")
    await solver.run(sh(image, f"ln -s {to} /c/d; ln -s {to}/passwd /c/f", mounts=(volume,)))
    shown = DirectoryRef(tree=NewFile(tree=Scratch(), path="/f", contents=b"x"))
    exec_ = sh(image, "pwd", mounts=(
        volume,
        DirectoryMount(path="/c/d/inside", source=shown),
        TmpfsMount(path="/c/d/tmp"),
    ))  # fmt: skip
    said = await solver.run(replace(exec_, workdir="/c/d/work", redirect_stderr="/c/f"))
    assert said.stdout.startswith("/c/")
    assert said.stdout.endswith("/work\n")
    redirected = replace(exec_, redirect_stdout="/c/f")
    await solver.run(redirected)
    found = await solver.run(sh(image, "find /c -name passwd -type f", mounts=(volume,)))
    assert found.stdout.startswith("/c/")
    assert untouched(outside)


def test_a_place_beneath_is_made_without_following_links(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "away").symlink_to("../outside")
    assert make_place(str(folder), "/away/new", directory=True) == "/outside/new"
    assert make_place(str(folder), "/a/file", directory=False) == "/a/file"
    write_beneath(str(folder), "/away/passwd", b"pwned")
    assert untouched(outside)
    assert (folder / "outside/passwd").read_bytes() == b"pwned"
    with pytest.raises(NoSuchPath):
        make_place(str(folder), "/a/file/below", directory=True)
    with pytest.raises(NoSuchPath):
        write_beneath(str(folder), "/a", b"")


def test_a_link_that_appears_meanwhile_leads_nowhere(
    tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "d").symlink_to(outside)
    monkeypatch.setattr(MergedTree, "resolve", lambda _self, path: path)  # it was none then
    with pytest.raises(NoSuchPath):
        write_beneath(str(folder), "/d/passwd", b"pwned")
    (folder / "f").symlink_to(outside / "passwd")
    with pytest.raises(NoSuchPath):
        write_beneath(str(folder), "/f", b"pwned")
    assert untouched(outside)


def test_a_layer_is_built_without_following_its_own_links(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "layer"
    folder.mkdir()
    builder = LayerBuilder(MergedTree([]), folder, as_root=False)
    (folder / "d").symlink_to(outside)
    for path in ("/d/passwd", "/d/sub/f"):
        with pytest.raises(NoSuchPath):
            builder.write(path, b"pwned", 0o644, None)
    assert untouched(outside)
