"""Trees that no exec makes: files, copies, filters, differences, exports."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.trees.export import ExportError
from ci.engine.trees.host import HostPathError
from ci.engine.trees.merged import NoSuchPath
from ci.engine.vertices.vertex import (
    Copy,
    Diff,
    DirectoryRef,
    ExecRootOutput,
    FileRef,
    Filter,
    HostDirectory,
    HostFile,
    Http,
    ImageRoot,
    NewDirectory,
    NewFile,
    Owner,
    Patterns,
    Scratch,
    Tree,
    Without,
)
from ci.errors import CiError
from tests.conformance.loopback_http import answering
from tests.engine.core.conftest import PLAIN, sh


def files(**contents: str) -> Tree:
    tree: Tree = Scratch()
    for name, text in contents.items():
        tree = NewFile(tree=tree, path="/" + name.replace("__", "/"), contents=text.encode())
    return tree


def whole(tree: Tree, path: str = "/") -> DirectoryRef:
    return DirectoryRef(tree=tree, path=path)


async def listing(solver: Solver, tree: Tree) -> list[str]:
    return await solver.glob(whole(tree), "**")


async def test_a_new_file_has_its_content_permissions_and_parents(solver: Solver) -> None:
    tree = NewFile(tree=Scratch(), path="/a/b/c", contents=b"\0\xff", permissions=0o640)
    assert await solver.read(FileRef(tree=tree, path="/a/b/c")) == b"\0\xff"
    found = await solver.stat(FileRef(tree=tree, path="/a/b/../b/c"))
    assert found is not None
    assert (found.kind, found.size, found.mode, found.path) == ("file", 2, 0o640, "/a/b/c")
    assert await solver.stat(FileRef(tree=tree, path="/absent")) is None


async def test_a_new_file_goes_through_a_link_of_the_tree(solver: Solver, image: ImageRoot) -> None:
    linked = ExecRootOutput(exec=sh(image, "ln -s /etc /conf; ln -s /etc/real /etc/alias"))
    tree = NewFile(tree=linked, path="/conf/alias", contents=b"x")
    assert await solver.read(FileRef(tree=tree, path="/etc/real")) == b"x"


async def test_a_new_file_below_a_file_is_an_error(solver: Solver) -> None:
    with pytest.raises(NoSuchPath, match="'/a': got a file; expected a directory"):
        await solver.snapshot(NewFile(tree=files(a="x"), path="/a/b", contents=b""))


async def test_owners_are_looked_up_in_the_tree(solver: Solver, image: ImageRoot) -> None:
    tree: Tree = NewFile(tree=image, path="/o/f", contents=b"", owner=Owner(spec="app"))
    tree = NewDirectory(tree=tree, path="/o/d", owner=Owner(spec="7:extra"))
    source = whole(files(x="1", sub__y="2"))
    tree = Copy(tree=tree, path="/o/c", source=source, owner=Owner(spec="app:0"))
    script = "cd /o; for f in . f d c c/x c/sub c/sub/y; do stat -c '%n %u:%g' $f; done"
    assert (await solver.run(sh(tree, script))).stdout.splitlines() == [
        ". 0:0", "f 1000:1001", "d 7:1234", "c 1000:0", "c/x 1000:0", "c/sub 1000:0",
        "c/sub/y 1000:0",
    ]  # fmt: skip
    with pytest.raises(CiError, match="user 'ghost'"):
        await solver.snapshot(
            NewFile(tree=image, path="/x", contents=b"", owner=Owner(spec="ghost"))
        )


async def test_a_directory_is_merged_into_what_is_there(solver: Solver) -> None:
    tree = Copy(
        tree=files(d__kept="old", d__both="old"), path="/d", source=whole(files(both="new", n="n"))
    )
    assert await listing(solver, tree) == ["d/", "d/both", "d/kept", "d/n"]
    assert await solver.read(FileRef(tree=tree, path="/d/both")) == b"new"


async def test_a_part_of_a_tree_is_copied_alone(solver: Solver) -> None:
    source = files(a__b__c="1", a__x="2")
    tree = Copy(tree=Scratch(), path="/", source=whole(source, "/a"))
    assert await listing(solver, tree) == ["b/", "b/c", "x"]


async def test_a_file_is_copied_to_a_path_or_into_a_directory(solver: Solver) -> None:
    source = FileRef(tree=files(f="1"), path="/f")
    named = Copy(tree=files(d__x=""), path="/d/g", source=source, permissions=0o755)
    assert await listing(solver, named) == ["d/", "d/g", "d/x"]
    found = await solver.stat(FileRef(tree=named, path="/d/g"))
    assert found is not None
    assert found.mode == 0o755
    into = Copy(tree=files(d__x=""), path="/d", source=source)
    assert await listing(solver, into) == ["d/", "d/f", "d/x"]


async def test_a_missing_source_is_named(solver: Solver) -> None:
    with pytest.raises(NoSuchPath, match="/absent"):
        await solver.snapshot(Copy(tree=Scratch(), path="/", source=whole(Scratch(), "/absent")))
    with pytest.raises(NoSuchPath, match="got a file; expected a directory"):
        await solver.snapshot(Copy(tree=Scratch(), path="/", source=whole(files(f=""), "/f")))


async def test_copies_of_a_file_share_it_and_a_changed_one_does_not(
    solver: Solver, image: ImageRoot
) -> None:
    tree = files(f="original")
    copied = Copy(tree=image, path="/f", source=FileRef(tree=tree, path="/f"))
    changed = ExecRootOutput(exec=sh(copied, "echo changed > /f; chmod 600 /f"))
    assert await solver.read(FileRef(tree=changed, path="/f")) == b"changed\n"
    assert await solver.read(FileRef(tree=copied, path="/f")) == b"original"
    assert await solver.read(FileRef(tree=tree, path="/f")) == b"original"


async def test_paths_are_taken_away_by_name_and_by_pattern(
    solver: Solver, image: ImageRoot
) -> None:
    tree = files(a="", b__c="", b__d="", e__x_pyc="", f__g__h="")
    without = Without(tree=tree, paths=("/a", "/b/c", "/absent", "/f", "e/*_pyc"))
    assert await listing(solver, without) == ["b/", "b/d", "e/"]
    on_image = Without(tree=Copy(tree=image, path="/w", source=whole(tree)), paths=("/w/b",))
    assert (await solver.run(sh(on_image, "echo $(ls /w)"))).stdout == "a e f\n"
    assert await solver.snapshot(Without(tree=tree, paths=("/no",))) == await solver.snapshot(tree)


async def test_a_filter_keeps_what_is_selected(solver: Solver) -> None:
    tree = files(a_py="", a_txt="", d__b_py="", d__b_txt="", e__c_txt="")
    some = Filter(source=whole(tree), patterns=Patterns(include=("**/*_py",)))
    assert await listing(solver, some) == ["a_py", "d/", "d/b_py"]
    rest = Filter(source=whole(tree), patterns=Patterns(exclude=("d", "*_txt")))
    assert await listing(solver, rest) == ["a_py", "e/", "e/c_txt"]


async def test_a_difference_is_what_is_new_or_changed(solver: Solver, image: ImageRoot) -> None:
    before = files(same="1", changed="1", gone="1", d__same="1")
    seen = Copy(tree=image, path="/w", source=whole(before))
    script = "cd /w; echo 2 > changed; rm gone; echo 3 > d/new; mkdir e; touch same; ln -s x link"
    after = ExecRootOutput(exec=sh(seen, script))
    diff = Diff(lower=whole(before), upper=whole(after, "/w"))
    assert await listing(solver, diff) == ["changed", "d/", "d/new", "e/", "link"]


# -- digests -------------------------------------------------------------------------------------


async def test_the_digest_is_of_the_content_however_it_was_made(
    solver: Solver, image: ImageRoot
) -> None:
    made = files(f="x", d__g="y")
    copied = Copy(tree=Scratch(), path="/deep", source=whole(made))
    shelled = ExecRootOutput(
        exec=sh(image, "mkdir -p /o/d; printf x > /o/f; printf y > /o/d/g; chmod 755 /o /o/d")
    )
    wanted = await solver.content_digest(whole(made))
    assert await solver.content_digest(whole(copied, "/deep")) == wanted
    assert await solver.content_digest(whole(shelled, "/o")) == wanted


async def test_everything_that_an_exec_can_see_changes_the_digest(
    solver: Solver, image: ImageRoot
) -> None:
    base = Copy(tree=image, path="/o", source=whole(files(f="x", d__g="y")))
    scripts = ["true", "printf z > f", "chmod 600 f", "chmod 700 d", "mv f h", "ln -s a l",
               "ln -s b l", "mkdir e", "chown 5 f", "rm f", "chmod 711 ."]  # fmt: skip
    digests = [
        await solver.content_digest(whole(ExecRootOutput(exec=sh(base, f"cd /o; {script}")), "/o"))
        for script in scripts
    ]
    assert len(set(digests)) == len(scripts)
    touched = ExecRootOutput(exec=sh(base, "touch -d 2001-01-01 /o/f /o/d /o"))
    assert await solver.content_digest(whole(touched, "/o")) == digests[0]


# -- the host ------------------------------------------------------------------------------------


async def test_a_host_folder_comes_with_modes_links_and_patterns(
    solver: Solver, tmp_path: Path
) -> None:
    source = tmp_path / "src"
    for path in ("a.py", "build/x", "keep/build/x", "sub/b.log", "sub/c.log"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(path)
    (source / "a.py").chmod(0o755)
    (source / "link").symlink_to("/outside")
    (source / ".gitignore").write_text("/build/\n*.log\n")
    (source / "sub/.gitignore").write_text("!b.log\n")
    tree = HostDirectory(path=str(source), patterns=Patterns(gitignore=True, exclude=("keep",)))
    assert await listing(solver, tree) == [
        ".gitignore", "a.py", "link", "sub/", "sub/.gitignore", "sub/b.log",
    ]  # fmt: skip
    found = await solver.stat(FileRef(tree=tree, path="/a.py"))
    assert found is not None
    assert found.mode == 0o755
    link = await solver.stat(FileRef(tree=tree, path="/link"), follow=False)
    assert link is not None
    assert link.kind == "symlink"


async def test_a_host_file_stands_under_its_name(solver: Solver, tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("x")
    tree = HostFile(path=str(tmp_path / "f.txt"))
    assert await solver.read(FileRef(tree=tree, path="/f.txt")) == b"x"
    assert await solver.entries(whole(tree)) == ["f.txt"]


async def test_a_host_path_that_is_not_there_is_named(solver: Solver, tmp_path: Path) -> None:
    with pytest.raises(HostPathError, match="/absent': got No such file"):
        await solver.snapshot(HostDirectory(path=str(tmp_path / "absent")))
    with pytest.raises(HostPathError, match="/absent': got No such file"):
        await solver.snapshot(HostFile(path=str(tmp_path / "absent")))
    (tmp_path / "f").write_text("")
    with pytest.raises(HostPathError, match="got no folder"):
        await solver.snapshot(HostDirectory(path=str(tmp_path / "f")))


# -- export --------------------------------------------------------------------------------------


async def test_an_export_merges_into_the_folder_or_wipes_it(solver: Solver, tmp_path: Path) -> None:
    tree = NewFile(tree=files(a="new", d__b="b"), path="/run", contents=b"", permissions=0o755)
    target = tmp_path / "out/deep"
    target.mkdir(parents=True)
    (target / "old").write_text("old")
    (target / "a").symlink_to("/etc/passwd")
    await solver.export_directory(whole(tree), target)
    assert sorted(p.name for p in target.iterdir()) == ["a", "d", "old", "run"]
    assert (target / "a").read_text() == "new"
    assert not (target / "a").is_symlink()
    assert (target / "run").stat().st_mode & 0o777 == 0o755
    assert (target / "a").stat().st_nlink == 1
    await solver.export_directory(whole(tree, "/d"), target, wipe=True)
    assert [p.name for p in target.iterdir()] == ["b"]


async def test_a_file_is_exported_to_a_path_or_into_a_folder(
    solver: Solver, tmp_path: Path
) -> None:
    ref = FileRef(tree=files(f="x"), path="/f")
    assert await solver.export_file(ref, tmp_path / "new/g") == tmp_path / "new/g"
    into = await solver.export_file(ref, tmp_path, allow_parent_dir=True)
    assert into == tmp_path / "f"
    assert into.read_text() == "x"
    with pytest.raises(ExportError, match="got a folder"):
        await solver.export_file(ref, tmp_path)


async def test_an_export_that_cannot_be_written_says_so(solver: Solver, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="export to "):
        await solver.export_directory(whole(files(a="")), tmp_path / "file/below")


# -- downloads -----------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    content = b"one"
    requests: ClassVar[list[tuple[str, int]]] = []

    def do_GET(self) -> None:
        etag = f'"{self.content.decode()}"'
        fresh = self.headers.get("If-None-Match") == etag
        status = 404 if self.path == "/absent" else 304 if fresh else 200
        self.requests.append((self.path, status))
        self.send_response(status)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", "0" if status != 200 else str(len(self.content)))
        self.end_headers()
        if status == 200:
            self.wfile.write(self.content)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    Handler.requests.clear()
    Handler.content = b"one"
    with answering(Handler) as port:
        yield f"http://127.0.0.1:{port}"


async def test_a_download_is_a_file_and_is_fetched_again_only_when_it_changed(
    store: Store, server: str
) -> None:
    tree = Http(url=server + "/f", name="f.bin", permissions=0o640)
    for content, status in ((b"one", 200), (b"one", 304), (b"two", 200)):
        Handler.content = content
        async with Solver(store, host=PLAIN) as solver:
            assert await solver.read(FileRef(tree=tree, path="/f.bin")) == content
        assert Handler.requests[-1] == ("/f", status)


async def test_a_download_that_fails_or_differs_is_an_error(solver: Solver, server: str) -> None:
    with pytest.raises(CiError, match="status 404"):
        await solver.snapshot(Http(url=server + "/absent", name="f"))
    wanted = "sha256:" + "0" * 64
    with pytest.raises(CiError, match=f"expected {wanted}"):
        await solver.snapshot(Http(url=server + "/f", name="f", checksum=wanted))
    with pytest.raises(CiError, match="download http"):
        await solver.snapshot(Http(url="http://127.0.0.1:1/", name="f"))
