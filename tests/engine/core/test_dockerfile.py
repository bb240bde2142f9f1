"""Builds of Dockerfiles: what runs and what does not, what is kept, what cannot escape."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from ci.engine.dockerfile.build import build
from ci.engine.solver.secrets import Secrets
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.trees.merged import MergedTree
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.execution import ExecEvent, ExecFailed, ExecFinished
from ci.engine.vertices.vertex import DirectoryRef, FileRef, HostDirectory, ImageRoot, Patterns
from ci.errors import CiError
from tests.conformance.loopback_http import answering
from tests.engine.core.conftest import PLAIN

PLATFORM = "linux/amd64"


class Builder:
    """Builds Dockerfiles from a folder of the host, each time with a solver of its own."""

    def __init__(self, store: Store, context: Path) -> None:
        self.store = store
        self.context = context
        self.secrets = Secrets(b"salt" * 8)
        self.events: list[ExecEvent] = []
        self.execs = 0
        self.patterns = Patterns()

    def write(self, **files: str) -> None:
        """Files of the context; ``__`` stands for a slash."""
        for name, text in files.items():
            place = self.context / name.replace("__", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    async def container(self, solver: Solver, text: str, **options: Any) -> ContainerState:
        """The container of a Dockerfile; every image is the test's."""
        (self.context / "Dockerfile").write_text(text)

        async def image_of(empty: ContainerState, address: str) -> ContainerState:
            config = {"config": {"Env": ["PATH=/bin"]}}
            return empty.from_image(address, "sha256:test", config, PLATFORM)

        given: dict[str, Any] = {
            "dockerfile": "Dockerfile", "platform": PLATFORM, "build_args": {}, "target": "",
            "secrets": {}, "no_init": False, **options,
        }  # fmt: skip
        tree = HostDirectory(path=str(self.context), patterns=self.patterns)
        return await build(solver, image_of, DirectoryRef(tree=tree), **given)

    async def tree(self, text: str, **options: Any) -> MergedTree:
        """The files of what is built."""
        async with Solver(
            self.store, secrets=self.secrets, host=PLAIN, on_event=self.events.append
        ) as solver:
            container = await self.container(solver, text, **options)
            snapshot = await solver.snapshot(container.root)
            self.execs = solver.counters.execs
        return MergedTree(self.store.layer_paths(snapshot))

    async def text(self, path: str, text: str, **options: Any) -> str:
        """A file of what is built."""
        return content(await self.tree(text, **options), path)


def content(tree: MergedTree, path: str) -> str:
    return Path(tree.require(path, "file").host).read_text()


@pytest.fixture
def builder(store: Store, image: ImageRoot, tmp_path: Path) -> Builder:
    assert image.image_digest == "sha256:test"
    (tmp_path / "context").mkdir()
    return Builder(store, tmp_path / "context")


# -- what runs -----------------------------------------------------------------------------------

STEPS = "FROM a\nCOPY lock /lock\nRUN cat /lock > /one\nCOPY src /src\nRUN cat /src/* > /two\n"


async def test_nothing_runs_a_second_time(builder):
    builder.write(lock="1", src__a="a")
    assert await builder.text("/two", STEPS) == "a"
    assert builder.execs == 2
    await builder.tree(STEPS)
    assert builder.execs == 0


async def test_a_change_runs_only_what_comes_after_it(builder):
    builder.write(lock="1", src__a="a")
    await builder.tree(STEPS)
    builder.write(src__a="b")
    assert await builder.text("/two", STEPS) == "b"
    assert builder.execs == 1


async def test_files_that_nothing_uses_change_nothing(builder):
    builder.write(lock="1", src__a="a", **{".dockerignore": "src/*.log\n"})
    await builder.tree(STEPS)
    builder.write(readme="new", src__x="", **{"src__b.log": "ignored"})
    (builder.context / "src/x").unlink()
    await builder.tree(STEPS)
    assert builder.execs == 0


async def test_times_and_comments_change_nothing(builder):
    builder.write(lock="1", src__a="a")
    await builder.tree(STEPS)
    (builder.context / "lock").touch()
    await builder.tree("# new\n\n" + STEPS.replace("RUN", "# why\nRUN"))
    assert builder.execs == 0


async def test_a_stage_that_gives_the_same_files_runs_nothing_after_it(builder):
    text = (
        "FROM a AS b\nCOPY src /src\nRUN wc -l < /src/a > /n\n"
        "FROM a\nCOPY --from=b /n /n\nRUN cat /n > /m\n"
    )
    builder.write(src__a="one\n")
    assert (await builder.text("/m", text)).strip() == "1"
    builder.write(src__a="two\n")
    await builder.tree(text)
    assert builder.execs == 1


async def test_only_stages_that_are_needed_run(builder):
    text = "FROM a AS bad\nRUN false\nFROM a AS good\nRUN echo 1 > /f\nFROM bad\nRUN echo\n"
    await builder.tree(text, target="good")
    assert builder.execs == 1


async def test_stages_that_do_not_need_each_other_run_at_once(builder):
    meet = (
        "RUN --mount=type=cache,target=/c echo > /c/{0}; until test -f /c/{1}; do sleep 0.02; done"
    )
    text = (
        f"FROM a AS one\n{meet.format('one', 'two')}; echo 1 > /f\n"
        f"FROM a AS two\n{meet.format('two', 'three')}; echo 2 > /f\n"
        f"FROM a\n{meet.format('three', 'one')}\n"
        "COPY --from=one /f /1\nCOPY --from=two /f /2\nRUN cat /1 /2 > /3\n"
    )
    assert await builder.text("/3", text) == "1\n2\n"


async def test_a_failing_command_is_told_with_its_output(builder):
    with pytest.raises(ExecFailed) as caught:
        await builder.tree("FROM a\nRUN echo said >&2; exit 7\n")
    assert (caught.value.code, caught.value.stderr) == (7, "said\n")


async def test_what_is_missing_is_told_with_its_line(builder):
    builder.write(readme="")
    with pytest.raises(CiError) as caught:
        await builder.tree("FROM a\n\nCOPY raedme /x\n")
    assert str(caught.value) == (
        "Dockerfile:3: path 'raedme': got no such file or directory; expected a file or directory\n"
        "hint: did you mean readme?"
    )


async def test_what_is_in_the_way_is_told_with_its_line(builder):
    builder.write(f="")
    with pytest.raises(CiError, match=r"Dockerfile:3: path '/d/f': got a directory"):
        await builder.tree("FROM a\nRUN mkdir -p /d/f\nCOPY f /d/\n")
    with pytest.raises(CiError, match=r"Dockerfile:3: path '/d': got a file"):
        await builder.tree("FROM a\nRUN echo > /d\nCOPY f /d/\n")


async def test_a_dockerfile_that_is_not_there_is_told_with_the_nearest_name(builder):
    builder.write(Dockerfile="")
    with pytest.raises(CiError, match="no such file in the build context") as caught:
        await builder.tree("FROM a", dockerfile="Dockefile")
    assert "did you mean Dockerfile?" in str(caught.value)


async def test_a_dockerfile_that_is_no_text_is_told_with_its_line(builder):
    (builder.context / "Latin").write_bytes(b"FROM a\n# caf\xe9\n")
    with pytest.raises(CiError, match="Latin:2: got the byte 0xe9, which is no UTF-8"):
        await builder.tree("FROM a", dockerfile="Latin")


# -- files ---------------------------------------------------------------------------------------


async def test_ignored_files_are_never_read(builder):
    builder.write(**{".dockerignore": "huge\n", "huge": "never", "f": "1"})
    await builder.tree("FROM a\nCOPY . /all/\n")
    assert list(builder.store.root.glob("l/*/**/huge")) == []


@pytest.mark.parametrize("ignored", ["huge\n", "huge\n!kept\n!own\n"])
async def test_what_the_caller_excludes_stays_out(builder, ignored):
    builder.write(**{".dockerignore": ignored, "huge": "", "own": "", "kept": "", "Other": ""})
    builder.patterns = Patterns(exclude=("own", "Other"))
    tree = await builder.tree("FROM a\nCOPY . /all/\n")
    found = {name for name in ("huge", "own", "kept") if tree.lookup(f"/all/{name}")}
    assert found == {"kept"}
    with pytest.raises(CiError, match="Other: got no such file in the build context"):
        await builder.tree("FROM a", dockerfile="Other")


async def test_copies_share_their_files_with_what_they_are_copied_from(builder):
    builder.write(f="x" * 100)
    tree = await builder.tree("FROM a AS b\nCOPY f /f\nFROM a\nCOPY --from=b /f /g\n")
    assert tree.require("/g").status.st_nlink >= 3


async def test_nothing_can_be_copied_and_bound(builder):
    builder.write(**{"[z-a]": "", "a": ""})
    tree = await builder.tree(
        "FROM scratch AS none\nFROM a\nCOPY --from=none / /d/\nCOPY [z-a]* nothing* /e/\n"
        "COPY --parents nothing*/x /f/\nRUN --mount=from=none,target=/m ls -A /m > /n\n"
    )
    assert content(tree, "/n") == ""
    made = [tree.lookup(path) for path in ("/d", "/e", "/f")]
    assert [entry is None or tree.children(entry) == [] for entry in made] == [True] * 3


async def test_permissions_that_change_are_a_copy(builder):
    builder.write(f="x")
    (builder.context / "f").chmod(0o644)
    tree = await builder.tree("FROM a\nCOPY f /f\nCOPY --chmod=600 f /g\n")
    modes = [tree.require(path).status.st_mode & 0o7777 for path in ("/f", "/g")]
    assert modes == [0o644, 0o600]


async def test_links_of_the_context_cannot_leave_it(builder):
    (builder.context / "out").symlink_to("/etc/hostname")
    (builder.context / "up").symlink_to("../../../../etc/hostname")
    for name in ("out", "up"):
        with pytest.raises(CiError, match="no such file"):
            await builder.tree(f"FROM a\nCOPY {name} /x\n")


async def test_links_of_the_image_cannot_leave_it(builder, tmp_path):
    builder.write(f="x")
    outside = tmp_path / "outside"
    tree = await builder.tree(f"FROM a\nRUN ln -s {outside} /l\nCOPY f /l/f\n")
    assert tree.lookup(f"{outside}/f") is not None
    assert not outside.exists()


@pytest.mark.parametrize("name", ["../up", "/../up", "d/../../up"])
async def test_archives_cannot_leave_their_destination(builder, name):
    with tarfile.open(builder.context / "a.tar", "w") as tar:
        entry = tarfile.TarInfo(name)
        tar.addfile(entry, io.BytesIO())
    with pytest.raises(CiError, match=r"Dockerfile:2: layer entry.*a path without \.\."):
        await builder.tree("FROM a\nADD a.tar /d/\n")


async def test_the_same_file_copied_and_added_are_two_things(builder):
    with tarfile.open(builder.context / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("in"), io.BytesIO())
    copied = await builder.tree("FROM a\nCOPY a.tar /d/\n")
    added = await builder.tree("FROM a\nADD a.tar /d/\n")
    assert [copied.lookup(f"/d/{name}") is not None for name in ("a.tar", "in")] == [True, False]
    assert [added.lookup(f"/d/{name}") is not None for name in ("a.tar", "in")] == [False, True]


async def test_a_broken_archive_is_told(builder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("f")
        entry.size = 100_000
        tar.addfile(entry, io.BytesIO(bytes(range(250)) * 400))
    (builder.context / "a.tgz").write_bytes(buffer.getvalue()[:-200])
    with pytest.raises(CiError, match="Dockerfile:2: archive: got a broken tar"):
        await builder.tree("FROM a\nADD a.tgz /d/\n")


# -- mounts --------------------------------------------------------------------------------------


async def test_binds_are_files_or_folders_and_what_is_written_is_dropped(builder):
    builder.write(d__f="1", g="2")
    text = (
        "FROM a\nRUN --mount=target=/d,source=d,rw --mount=target=/g,source=g,rw "
        "echo 3 > /d/f; echo 4 > /g; cat /d/f /g > /out\n"
        "RUN --mount=target=/d,source=d --mount=target=/g,source=g cat /d/f /g >> /out\n"
    )
    assert await builder.text("/out", text) == "3\n4\n12"
    assert (builder.context / "d/f").read_text() == "1"


async def test_a_bind_s_content_is_of_the_key_and_a_cache_s_is_not(builder):
    builder.write(used="1", other="1")
    text = (
        "FROM a\nRUN --mount=target=/u,source=used --mount=type=cache,target=/c "
        "cat /u > /out; echo x >> /c/n\n"
    )
    await builder.tree(text)
    builder.write(other="2")
    await builder.tree(text)
    assert builder.execs == 0
    builder.write(used="3")
    assert await builder.text("/out", text) == "3"
    assert await builder.text("/n", "FROM a\nRUN --mount=type=cache,target=/c cp /c/n /n\n") == (
        "x\nx\n"
    )


async def test_a_cache_begins_with_what_it_comes_from(builder):
    text = (
        "FROM a AS b\nRUN mkdir /s && echo 1 > /s/f\nFROM a\n"
        "RUN --mount=type=cache,target=/c,from=b,source=/s cp /c/f /f\n"
    )
    assert await builder.text("/f", text) == "1\n"


async def test_without_network_there_is_only_loopback(builder):
    text = "FROM a\nRUN --network=none grep -c : /proc/net/dev > /n\n"
    assert (await builder.text("/n", text)).strip() == "1"


async def test_a_heredoc_with_an_interpreter_runs_by_it(builder):
    text = "FROM a\nRUN <<EOF\n#!/bin/sh -e\necho $0 > /f\nEOF\n"
    assert await builder.text("/f", text) == "/dev/pipes/EOF\n"


async def test_secrets_are_in_no_file_key_or_event(builder):
    value = "s3cret-in-no-place"
    secret = builder.secrets.set("token", value)
    text = (
        "FROM a\nRUN --mount=type=secret,id=token --mount=type=secret,id=token,env=T "
        'cat /run/secrets/token; echo "$T"; echo "${#T}" > /n\n'
    )
    assert await builder.text("/n", text, secrets={"token": secret}) == f"{len(value)}\n"
    finished = [event for event in builder.events if isinstance(event, ExecFinished)]
    assert len(finished) == 1
    assert value not in str(builder.events)
    for place in builder.store.root.rglob("*"):
        if place.is_file() and not place.is_symlink():
            assert value.encode() not in place.read_bytes(), place
    await builder.tree(text, secrets={"token": secret})
    assert builder.execs == 0


# -- downloads -----------------------------------------------------------------------------------


@pytest.fixture
def url() -> Iterator[str]:
    """Of a server that answers everything with ``hello``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_request(self, code: object = "", size: object = "") -> None:
            pass

    with answering(Handler) as port:
        yield f"http://127.0.0.1:{port}"


HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


async def test_downloads_are_added_by_their_name(builder, url):
    tree = await builder.tree(
        f"FROM a\nADD {url}/a%20b.txt /d/\nADD --checksum={HELLO} --chmod=755 {url}/x /y\n"
    )
    assert (content(tree, "/d/a b.txt"), content(tree, "/y")) == ("hello", "hello")
    modes = [tree.require(path).status.st_mode & 0o777 for path in ("/d/a b.txt", "/y")]
    assert modes == [0o600, 0o755]


async def test_a_download_of_another_checksum_is_refused(builder, url):
    with pytest.raises(CiError, match=HELLO):
        await builder.tree(f"FROM a\nADD --checksum=sha256:{'0' * 64} {url}/x /y\n")


# -- long ones -----------------------------------------------------------------------------------


async def test_two_hundred_instructions_are_no_more_layers_than_can_be_mounted(builder):
    builder.write(f="1")
    steps = "".join(
        f"COPY f /f{n}\nWORKDIR /w{n}\nENV E{n}={n}\nLABEL l{n}={n}\n" for n in range(50)
    )
    text = f"FROM a\n{steps}RUN echo $E49 > /out\n"
    assert await builder.text("/out", text) == "49\n"
    tree = await builder.tree(text)
    assert builder.execs == 0
    assert all(tree.lookup(f"/f{n}") and tree.lookup(f"/w{n}") for n in range(50))


async def test_builds_of_one_dockerfile_at_once_run_it_once(builder):
    async with Solver(builder.store, secrets=builder.secrets, host=PLAIN) as solver:
        from ci.engine.flights import gather

        containers = [
            await builder.container(solver, "FROM a\nRUN echo 1 > /f\n") for _ in range(5)
        ]
        roots = await gather(*(partial(solver.snapshot, one.root) for one in containers))
        assert len(set(roots)) == 1
        assert solver.counters.execs == 1
        file = FileRef(tree=containers[0].root, path="/f")
        assert await solver.read(file) == b"1\n"
