"""Container: what is mounted is seen, kept along the chain where it can be, and is not the root."""

from __future__ import annotations

import socket
import threading
import uuid
from pathlib import Path

import dagger
import pytest


async def test_a_mount_hides_what_is_below_until_it_is_unmounted(base, dag):
    made = base.with_new_file("/m/below", "1")
    mounted = made.with_mounted_directory("/m", dag.directory().with_new_file("above", "1"))
    assert await mounted.with_exec(["ls", "/m"]).stdout() == "above\n"
    assert await mounted.without_mount("/m").with_exec(["ls", "/m"]).stdout() == "below\n"


async def test_a_mounted_file_hides_the_file_below(base, dag):
    made = base.with_new_file("/f", "below").with_mounted_file("/f", dag.file("x", "above"))
    assert await made.with_exec(["cat", "/f"]).stdout() == "above"
    assert await made.without_mount("/f").file("/f").contents() == "below"


async def test_a_second_mount_at_a_path_replaces_the_first(base, dag):
    made = base.with_mounted_directory("/m", dag.directory().with_new_file("a", ""))
    made = made.with_mounted_directory("/m", dag.directory().with_new_file("b", ""))
    assert await made.with_exec(["ls", "/m"]).stdout() == "b\n"
    assert await made.mounts() == ["/m"]


async def test_mounts_within_mounts_are_both_seen(base, dag):
    made = base.with_mounted_directory("/m", dag.directory().with_new_file("a", "1"))
    made = made.with_mounted_directory("/m/in", dag.directory().with_new_file("b", "2"))
    assert await made.with_exec(["cat", "/m/a", "/m/in/b"]).stdout() == "12"


async def test_a_file_that_is_put_into_a_mount_is_not_in_the_root(base, dag):
    made = base.with_mounted_directory("/m", dag.directory()).with_new_file("/m/f", "1")
    assert await made.directory("/m").entries() == ["f"]
    assert not await made.without_mount("/m").exists("/m/f")


async def test_what_is_removed_from_a_mount_stays_removed(base, dag):
    tree = dag.directory().with_new_file("a", "").with_new_file("b", "")
    ran = base.with_mounted_directory("/m", tree).with_exec(["rm", "/m/a"])
    assert await ran.directory("/m").entries() == ["b"]
    assert await ran.with_exec(["ls", "/m"]).stdout() == "b\n"
    assert await tree.entries() == ["a", "b"]


async def test_a_mounted_directory_goes_on_into_another_container(base, dag):
    ran = base.with_mounted_directory("/m", dag.directory()).with_exec(["touch", "/m/made"])
    other = base.with_mounted_directory("/n", ran.directory("/m"))
    assert await other.with_exec(["ls", "/n"]).stdout() == "made\n"


async def test_one_directory_may_be_mounted_twice_and_each_is_written_apart(base, dag):
    tree = dag.directory().with_new_file("f", "1")
    made = base.with_mounted_directory("/a", tree).with_mounted_directory("/b", tree)
    ran = made.with_exec(["sh", "-c", "echo 2 > /a/f"])
    assert await ran.file("/a/f").contents() == "2\n"
    assert await ran.file("/b/f").contents() == "1"


async def test_a_part_of_a_directory_is_mounted(base, dag):
    tree = dag.directory().with_new_file("d/f", "1").with_new_file("other", "")
    made = base.with_mounted_directory("/m", tree.directory("d"))
    assert await made.with_exec(["ls", "/m"]).stdout() == "f\n"


@pytest.mark.since("0.21")
async def test_a_read_only_mount_cannot_be_written(base, dag):
    tree = dag.directory().with_new_file("f", "1")
    made = base.with_mounted_directory("/m", tree, read_only=True)
    assert await made.with_exec(["cat", "/m/f"]).stdout() == "1"
    with pytest.raises(dagger.ExecError):
        await made.with_exec(["touch", "/m/g"]).sync()


async def test_mounts_are_not_in_the_root_directory(base, dag, unique):
    made = (
        base.with_mounted_directory("/mnt/dir", dag.directory().with_new_file("f", ""))
        .with_mounted_file("/mnt/file", dag.file("f", "text"))
        .with_mounted_temp("/mnt/temp")
        .with_mounted_cache("/mnt/cache", dag.cache_volume(unique))
    )
    ran = made.with_exec(["sh", "-c", "touch /mnt/dir/g /mnt/temp/t /mnt/cache/c /mnt/root"])
    found = await ran.rootfs().directory("mnt").glob("**/*")
    assert "root" in found
    assert not {"dir/f", "dir/g", "temp/t", "cache/c"} & set(found)


async def test_a_tmpfs_has_the_size_that_was_asked_for(base):
    made = base.with_mounted_temp("/t", size=4 << 20)
    fits = made.with_exec(["sh", "-c", "head -c 1000000 /dev/zero > /t/f && wc -c < /t/f"])
    assert await fits.stdout() == "1000000\n"
    with pytest.raises(dagger.ExecError):
        await made.with_exec(["sh", "-c", "head -c 8000000 /dev/zero > /t/f"]).sync()


async def test_a_tmpfs_hides_what_is_below(base):
    made = base.with_new_file("/t/f", "1").with_mounted_temp("/t")
    assert await made.with_exec(["ls", "-A", "/t"]).stdout() == ""


@pytest.fixture
def greeter(tmp_path):
    """Path of a unix socket of this machine that greets and hangs up."""
    path = f"/tmp/{uuid.uuid4().hex}.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"greetings\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            Path(path).unlink()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


LISTEN = "use IO::Socket::UNIX; print IO::Socket::UNIX->new(Peer => $ARGV[0])->getline"


async def test_a_socket_of_the_host_is_reached_at_its_path(base, dag, greeter, unique):
    made = base.with_env_variable("U", unique).with_unix_socket(
        "/run/it.sock", dag.host().unix_socket(greeter)
    )
    assert await made.with_exec(["perl", "-e", LISTEN, "/run/it.sock"]).stdout() == "greetings\n"


@pytest.mark.parametrize("owner", ["4321", "nobody", "4321:4322"])
async def test_a_socket_is_reached_by_its_owner(base, dag, greeter, unique, owner):
    user = owner.partition(":")[0]
    made = (
        base.with_env_variable("U", unique)
        .with_unix_socket("/run/it.sock", dag.host().unix_socket(greeter), owner=owner)
        .with_user(user)
    )
    assert await made.with_exec(["perl", "-e", LISTEN, "/run/it.sock"]).stdout() == "greetings\n"


async def test_a_socket_that_was_removed_is_gone(base, dag, greeter):
    made = base.with_unix_socket("/run/it.sock", dag.host().unix_socket(greeter))
    gone = made.without_unix_socket("/run/it.sock").with_exec(
        ["sh", "-c", "test -S /run/it.sock || echo gone"]
    )
    assert await gone.stdout() == "gone\n"
