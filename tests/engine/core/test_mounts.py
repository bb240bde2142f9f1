"""Mounts of an exec: what is seen there, what is kept, and that nothing else is."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from ci.engine.solver.sockets import Sockets
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.trees.merged import NoSuchPath
from ci.engine.vertices.execution import ExecFailed, Scrubber
from ci.engine.vertices.vertex import (
    CacheMount,
    DirectoryMount,
    DirectoryRef,
    Exec,
    ExecMountOutput,
    ExecRootOutput,
    Expect,
    FileMount,
    FileRef,
    ImageRoot,
    NewDirectory,
    NewFile,
    Owner,
    Scratch,
    SecretMount,
    SecretRef,
    Sharing,
    SocketMount,
    TmpfsMount,
)
from ci.errors import CiError
from tests.engine.core.conftest import PLAIN, sh

SOURCE = NewFile(
    tree=NewFile(tree=Scratch(), path="/sub/deep", contents=b"deep\n"),
    path="/top",
    contents=b"top\n",
)


def source(path: str = "/", **options) -> DirectoryMount:
    return DirectoryMount(path="/src", source=DirectoryRef(tree=SOURCE, path=path), **options)


async def added(solver: Solver, image: ImageRoot, exec_: Exec) -> list[str]:
    """Everything in the layers that an exec put on its image."""
    below = await solver.snapshot(image)
    layers = (await solver.snapshot(ExecRootOutput(exec=exec_)))[len(below) :]
    return sorted(
        str(path.relative_to(solver.store.layer_path(layer)))
        for layer in layers
        for path in solver.store.layer_path(layer).rglob("*")
    )


async def test_writes_to_a_mounted_directory_stay_in_it_and_not_in_the_root(
    solver: Solver, image: ImageRoot
) -> None:
    exec_ = sh(image, "cat /src/top; echo new > /src/sub/new; rm /src/top", mounts=(source(),))
    assert (await solver.run(exec_)).stdout == "top\n"
    output = ExecMountOutput(exec=exec_, path="/src")
    assert await solver.glob(DirectoryRef(tree=output), "**") == ["sub/", "sub/deep", "sub/new"]
    assert await added(solver, image, exec_) == []
    assert await solver.read(FileRef(tree=SOURCE, path="/top")) == b"top\n"


async def test_a_directory_inside_a_tree_is_mounted_alone(solver: Solver, image: ImageRoot) -> None:
    exec_ = sh(image, "ls /src; echo x > /src/x", mounts=(source("/sub"),))
    assert (await solver.run(exec_)).stdout == "deep\n"
    output = ExecMountOutput(exec=exec_, path="/src")
    assert await solver.entries(DirectoryRef(tree=output)) == ["deep", "x"]


async def test_a_read_only_mount_cannot_be_written(solver: Solver, image: ImageRoot) -> None:
    with pytest.raises(ExecFailed, match="exit code"):
        await solver.run(sh(image, "echo x > /src/x", mounts=(source(read_only=True),)))
    result = await solver.run(sh(image, "cat /src/top", mounts=(source(read_only=True),)))
    assert result.stdout == "top\n"


async def test_a_mount_with_an_owner_belongs_to_a_user_of_the_container(
    solver: Solver, image: ImageRoot
) -> None:
    exec_ = sh(
        image, "stat -c '%U:%G' /src /src/sub/deep; echo mine >> /src/top", user="app",
        mounts=(source(owner=Owner(spec="app")),),
    )  # fmt: skip
    assert (await solver.run(exec_)).stdout == "app:app\napp:app\n"


async def test_a_file_mount_is_written_apart_from_the_root(
    solver: Solver, image: ImageRoot
) -> None:
    mount = FileMount(path="/etc/conf", source=FileRef(tree=SOURCE, path="/sub/deep"))
    exec_ = sh(image, "cat /etc/conf; echo more >> /etc/conf", mounts=(mount,))
    assert (await solver.run(exec_)).stdout == "deep\n"
    output = ExecMountOutput(exec=exec_, path="/etc/conf")
    assert await solver.read(FileRef(tree=output, path="/deep")) == b"deep\nmore\n"
    assert await added(solver, image, exec_) == []
    assert await solver.read(FileRef(tree=SOURCE, path="/sub/deep")) == b"deep\n"


async def test_mounts_nest_and_leave_no_mount_points(solver: Solver, image: ImageRoot) -> None:
    mounts = (
        CacheMount(path="/src/sub/cache/here", volume="v1"),
        source(),
        TmpfsMount(path="/new/tmp"),
    )
    exec_ = sh(
        image, "cat /src/sub/deep; echo c > /src/sub/cache/here/c; echo t > /new/tmp/t",
        mounts=mounts,
    )  # fmt: skip
    assert (await solver.run(exec_)).stdout == "deep\n"
    output = ExecMountOutput(exec=exec_, path="/src")
    assert await solver.glob(DirectoryRef(tree=output), "**") == ["sub/", "sub/deep", "top"]
    assert await added(solver, image, exec_) == []


async def test_files_beside_a_mount_point_are_kept_and_the_point_is_not(
    solver: Solver, image: ImageRoot
) -> None:
    exec_ = sh(image, "echo x > /work/file", mounts=(TmpfsMount(path="/work/cache"),))
    assert await added(solver, image, exec_) == ["work", "work/file"]


async def test_nothing_of_the_host_is_left_in_a_layer(solver: Solver, image: ImageRoot) -> None:
    script = (
        "cat /etc/hosts /etc/resolv.conf >/dev/null; echo 1.2.3.4 x >> /etc/hosts; mkdir /etc/own"
    )
    exec_ = sh(image, script)
    assert await added(solver, image, exec_) == ["etc", "etc/own"]
    removed = sh(image, "rm -rf /run; true")
    assert await added(solver, image, removed) == []


async def test_a_mount_goes_through_links_inside_the_root(solver: Solver, image: ImageRoot) -> None:
    linked = ExecRootOutput(exec=sh(image, "mkdir /real; ln -s /real /link; ln -s / /real/up"))
    mount = DirectoryMount(path="/link/up/src", source=DirectoryRef(tree=SOURCE))
    assert (await solver.run(sh(linked, "cat /src/top", mounts=(mount,)))).stdout == "top\n"


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/passwd/below"])
async def test_a_mount_on_or_below_a_file_is_an_error(
    solver: Solver, image: ImageRoot, path: str
) -> None:
    with pytest.raises(NoSuchPath, match=f"mount at '{path}'.*expected a directory"):
        await solver.run(sh(image, "true", mounts=(TmpfsMount(path=path),)))


async def test_a_tmpfs_has_the_size_that_was_asked_for(solver: Solver, image: ImageRoot) -> None:
    mount = TmpfsMount(path="/t", size_bytes=1 << 20)
    script = "dd if=/dev/zero of=/t/x bs=1M count=2 2>&1"
    result = await solver.run(sh(image, script, mounts=(mount,), expect=Expect.FAILURE))
    assert "No space left" in result.stdout


# -- cache volumes -------------------------------------------------------------------------------


def cache(sharing: Sharing = Sharing.SHARED, **options) -> CacheMount:
    return CacheMount(path="/cache", volume=f"test-{sharing}", sharing=sharing, **options)


async def test_a_volume_keeps_what_is_written_and_is_no_input_of_the_key(
    solver: Solver, image: ImageRoot
) -> None:
    await solver.run(sh(image, "echo one >> /cache/log", mounts=(cache(),)))
    second = sh(image, "cat /cache/log", mounts=(cache(),))
    assert (await solver.run(second)).stdout == "one\n"
    await solver.run(sh(image, "echo two >> /cache/log", mounts=(cache(),)))
    async with Solver(solver.store, host=PLAIN) as later:
        assert (await later.run(second)).stdout == "one\n"
        assert later.counters.hits == 1


async def test_a_volume_starts_as_a_copy_of_its_source(solver: Solver, image: ImageRoot) -> None:
    mount = cache(source=DirectoryRef(tree=SOURCE), owner=Owner(spec="app"))
    script = "cat /cache/top; echo changed > /cache/top; stat -c %U /cache"
    assert (await solver.run(sh(image, script, mounts=(mount,)))).stdout == "top\napp\n"
    assert (await solver.run(sh(image, script + ";", mounts=(mount,)))).stdout == "changed\napp\n"
    assert await solver.read(FileRef(tree=SOURCE, path="/top")) == b"top\n"


@pytest.mark.parametrize("sharing", [Sharing.LOCKED, Sharing.PRIVATE])
async def test_locked_volumes_are_used_by_one_exec_at_a_time(
    store: Store, image: ImageRoot, sharing: Sharing
) -> None:
    script = "mkdir /cache/busy && sleep 0.05 && rmdir /cache/busy"
    async with Solver(store, host=PLAIN) as one, Solver(store, host=PLAIN) as two:
        async with anyio.create_task_group() as group:
            for number in range(6):
                exec_ = sh(image, f"{script} # {number}", mounts=(cache(sharing),))
                group.start_soon((one, two)[number % 2].run, exec_)
        assert one.counters.execs + two.counters.execs == 6


async def test_an_exec_may_lock_several_volumes(solver: Solver, image: ImageRoot) -> None:
    names = ("a", "b", "c")
    mounts = tuple(
        CacheMount(path=f"/{name}", volume=name, sharing=Sharing.LOCKED) for name in names
    )
    for number in range(2):  # the first has left them free
        await solver.run(
            sh(image, f"for v in a b c; do echo {number} > /$v/f; done", mounts=mounts)
        )
    shown = await solver.run(sh(image, "cat /a/f /b/f /c/f", mounts=mounts))
    assert shown.stdout == "1\n1\n1\n"


async def test_shared_volumes_are_used_by_several_execs_at_once(
    solver: Solver, image: ImageRoot
) -> None:
    one = sh(
        image, "echo > /cache/a; until test -e /cache/b; do sleep 0.01; done", mounts=(cache(),)
    )
    two = sh(
        image, "echo > /cache/b; until test -e /cache/a; do sleep 0.01; done", mounts=(cache(),)
    )
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(solver.run, one)
            group.start_soon(solver.run, two)


# -- secrets -------------------------------------------------------------------------------------


class Stars:
    """Scrubs whole chunks, as small output comes."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = values

    def feed(self, chunk: bytes) -> bytes:
        for value in self._values:
            chunk = chunk.replace(value, b"***")
        return chunk

    def finish(self) -> bytes:
        return b""


class Table:
    """Secrets that are known, and how often they were asked for."""

    def __init__(self, **values: bytes) -> None:
        self.values = values

    async def value(self, secret: SecretRef) -> bytes:
        return self.values[secret.name]

    async def fingerprint(self, secret: SecretRef) -> str:
        return str(hash(self.values[secret.name]))

    def scrubber(self, values: Sequence[bytes]) -> Scrubber:
        return Stars(values)


SECRET = SecretRef(name="token")


def _in_memory() -> list[Path]:
    return list(Path("/dev/shm").glob(f"towpath-{os.getpid()}-*"))


def _files_with(folder: Path, needle: bytes) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and needle in path.read_bytes()
    ]


@pytest.mark.parametrize("owner", [None, Owner(spec="app")])
async def test_a_secret_file_has_its_owner_and_mode_and_touches_no_disk(
    store: Store, image: ImageRoot, owner: Owner | None
) -> None:
    needle = b"s3cr3t-" + os.urandom(8).hex().encode()
    mount = SecretMount(path="/run/secrets/token", secret=SECRET, owner=owner, mode=0o440)
    user = "app" if owner else ""
    script = (
        "stat -c '%a %U' /run/secrets/token; cat /run/secrets/token; wc -c < /run/secrets/token"
    )
    async with Solver(store, secrets=Table(token=needle), host=PLAIN) as solver:
        exec_ = sh(image, script, mounts=(mount,), user=user)
        result = await solver.run(exec_)
        assert result.stdout == f"440 {user or 'root'}\n***{len(needle)}\n"
        assert await added(solver, image, exec_) == []
    assert _files_with(store.root, needle) == []
    assert _in_memory() == []


async def test_a_secret_variable_is_seen_inside_and_scrubbed_outside(
    store: Store, image: ImageRoot
) -> None:
    async with Solver(store, secrets=Table(token=b"hunter2"), host=PLAIN) as solver:
        exec_ = sh(
            image, 'echo "$TOKEN ${#TOKEN}"; echo "$TOKEN" >&2; exit 1',
            secret_env=(("TOKEN", SECRET),),
        )  # fmt: skip
        with pytest.raises(ExecFailed) as caught:
            await solver.run(exec_)
    assert (caught.value.stdout, caught.value.stderr) == ("*** 7\n", "***\n")


async def test_another_value_of_a_secret_runs_again(store: Store, image: ImageRoot) -> None:
    exec_ = sh(image, "echo ${#TOKEN}", secret_env=(("TOKEN", SECRET),))
    for value, execs in ((b"aaa", 1), (b"aaa", 0), (b"bbbb", 1)):
        async with Solver(store, secrets=Table(token=value), host=PLAIN) as solver:
            assert (await solver.run(exec_)).stdout == f"{len(value)}\n"
            assert solver.counters.execs == execs


async def test_a_session_without_secrets_names_the_one_that_is_asked_for(
    solver: Solver, image: ImageRoot
) -> None:
    with pytest.raises(CiError, match="secret 'token'"):
        await solver.run(sh(image, "true", secret_env=(("TOKEN", SECRET),)))


# -- sockets -------------------------------------------------------------------------------------


async def test_a_socket_of_the_host_is_there(
    solver: Solver, image: ImageRoot, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        mount = SocketMount(path="/run/s.sock", host_path=str(path))
        result = await solver.run(sh(image, "test -S /run/s.sock && echo yes", mounts=(mount,)))
    assert result.stdout == "yes\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is all users of its sandboxes")
async def test_a_socket_belongs_to_the_owner_that_it_is_given(
    solver: Solver, image: ImageRoot, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        mount = SocketMount(path="/s", host_path=str(path), owner=Owner(spec="app:4322"))
        shown = await solver.run(sh(image, "stat -c '%U %g %a %F' /s", mounts=(mount,)))
        assert shown.stdout == "app 4322 600 socket\n"
        missing = replace(mount, owner=Owner(spec="nobody-there"))
        with pytest.raises(CiError, match="user 'nobody-there': got no such user"):
            await solver.run(sh(image, "true", mounts=(missing,)))
        assert path.stat().st_uid == os.geteuid()


async def test_a_socket_leads_to_the_hosts_both_ways_to_the_ends(tmp_path: Path) -> None:
    """Each side may end before the other does; what is far too long for a path is none here."""
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    sockets = Sockets(lambda: folder)
    host = str(tmp_path / "host")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b">")
        writer.write(bytes(reversed(await reader.read(-1))))
        writer.close()

    place = await sockets.lead(host, (os.geteuid(), os.getegid()))
    short = tmp_path / "c"
    short.symlink_to(place)
    with anyio.fail_after(60):
        reader, writer = await asyncio.open_unix_connection(short)
        assert await reader.read() == b""  # nobody listens at the host's
        writer.close()
        async with await asyncio.start_unix_server(echo, host):
            for number in range(3):
                sent = bytes([number]) + bytes(1 << 22)
                reader, writer = await asyncio.open_unix_connection(short)
                writer.write(sent)
                writer.write_eof()
                assert await reader.read() == b">" + sent[::-1]
                writer.close()
            reader, writer = await asyncio.open_unix_connection(short)
            assert await reader.readexactly(1) == b">"
            await sockets.close()
            assert await reader.read() == b""
            writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection(short)


async def test_a_socket_that_is_not_there_is_named(solver: Solver, image: ImageRoot) -> None:
    mount = SocketMount(path="/s", host_path="/nowhere/s")
    with pytest.raises(CiError, match="/nowhere/s"):
        await solver.run(sh(image, "true", mounts=(mount,)))


async def test_a_mounted_directory_keeps_its_root_permissions(
    solver: Solver, image: ImageRoot
) -> None:
    made = NewDirectory(tree=Scratch(), path="/d", permissions=0o700)
    mount = DirectoryMount(path="/m", source=DirectoryRef(tree=made, path="/d"))
    assert (await solver.run(sh(image, "stat -c %a /m", mounts=(mount,)))).stdout == "700\n"
