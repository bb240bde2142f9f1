"""Host: the caller's machine, of which only what was asked for is seen."""

from __future__ import annotations

import socket
import threading

import anyio
import dagger
import pytest


@pytest.fixture
def folder(tmp_path):
    """A folder of this machine with some of everything."""
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "a.py").write_text("a")
    (tmp_path / "src" / "deep" / "b.py").write_text("b")
    (tmp_path / "src" / "deep" / "b.log").write_text("log")
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("src/a.py")
    return tmp_path


async def files(directory: dagger.Directory) -> list[str]:
    """Paths of what has a dot in its name."""
    return sorted(await directory.glob("**/*.*"))


async def test_include_chooses_what_is_read(dag, folder):
    tree = dag.host().directory(str(folder), include=["**/*.py"])
    assert await files(tree) == ["src/a.py", "src/deep/b.py"]


async def test_include_of_a_folder_takes_all_of_it(dag, folder):
    tree = dag.host().directory(str(folder), include=["src/deep"])
    assert await files(tree) == ["src/deep/b.log", "src/deep/b.py"]


async def test_exclude_wins_over_include(dag, folder):
    tree = dag.host().directory(str(folder), include=["src"], exclude=["**/*.log"])
    assert await files(tree) == ["src/a.py", "src/deep/b.py"]


async def test_gitignore_is_heeded_when_asked(dag, folder):
    (folder / ".git").mkdir()
    (folder / ".gitignore").write_text("*.log\n/run.sh\n")
    tree = dag.host().directory(str(folder), gitignore=True)
    found = await files(tree)
    assert "src/a.py" in found
    assert not {"src/deep/b.log", "run.sh"} & set(found)


async def test_gitignore_of_a_folder_counts_below_it(dag, folder):
    (folder / ".git").mkdir()
    (folder / "src" / "deep" / ".gitignore").write_text("b.*\n")
    found = await files(dag.host().directory(str(folder), gitignore=True))
    assert "src/a.py" in found
    assert "src/deep/b.py" not in found


async def test_modes_and_links_are_kept(base, dag, folder):
    made = base.with_directory("/x", dag.host().directory(str(folder)))
    assert await made.with_exec(["/x/run.sh"]).stdout() == "ran\n"
    assert await made.with_exec(["readlink", "/x/link"]).stdout() == "src/a.py\n"


async def test_a_folder_that_is_not_there_is_an_error(dag, tmp_path):
    with pytest.raises(dagger.QueryError):
        await dag.host().directory(str(tmp_path / "none")).entries()


async def test_a_file_has_its_name_and_content(dag, folder):
    file = dag.host().file(str(folder / "src" / "a.py"))
    assert (await file.name(), await file.contents(), await file.size()) == ("a.py", "a", 1)


async def test_a_file_that_is_not_there_is_an_error(dag, tmp_path):
    with pytest.raises(dagger.QueryError):
        await dag.host().file(str(tmp_path / "none")).contents()


async def test_a_changed_folder_is_seen_when_nothing_is_to_be_kept(dag, tmp_path):
    (tmp_path / "f").write_text("1")
    first = dag.host().directory(str(tmp_path), no_cache=True)
    assert await first.file("f").contents() == "1"
    (tmp_path / "f").write_text("2")
    second = dag.host().directory(str(tmp_path), no_cache=True)
    assert await second.file("f").contents() == "2"


async def test_writing_to_a_mounted_folder_leaves_the_host_alone(base, dag, folder):
    made = base.with_mounted_directory("/m", dag.host().directory(str(folder)))
    ran = made.with_exec(["sh", "-c", "echo changed > /m/src/a.py; rm /m/run.sh"])
    assert await ran.file("/m/src/a.py").contents() == "changed\n"
    assert (folder / "src" / "a.py").read_text() == "a"
    assert (folder / "run.sh").exists()


async def test_nothing_of_the_host_is_seen_that_was_not_asked_for(base, tmp_path):
    (tmp_path / "private").write_text("x")
    ran = base.with_exec(["sh", "-c", f"test -e {tmp_path}/private || echo unseen"])
    assert await ran.stdout() == "unseen\n"


@pytest.fixture
def echo():
    """A port of this machine that answers every line with it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as lines:
                    connection.sendall(b"echo " + lines.readline())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


ASK = "exec 3<>/dev/tcp/$0/$1; echo hello >&3; cat <&3"


async def test_a_port_of_the_host_is_reached_as_a_service(base, dag, echo, unique):
    service = dag.host().service([dagger.PortForward(backend=echo, frontend=8191)])
    bound = base.with_env_variable("U", unique).with_service_binding("host", service)
    ran = bound.with_exec(["bash", "-c", ASK, "host", "8191"])
    assert await ran.stdout() == "echo hello\n"


async def ask(port: int) -> bytes:
    """What a port of this machine answers to a line."""
    with anyio.fail_after(30):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"hello\n")
            return b"".join([piece async for piece in stream])


SERVER = r"""
use IO::Socket::INET; $| = 1; $SIG{PIPE} = "IGNORE";
my $s = IO::Socket::INET->new(Listen => 5, LocalPort => $ARGV[0], ReuseAddr => 1) or die $!;
while (my $c = $s->accept) { my $l = <$c>; print $c "$ARGV[1]\n"; close $c }
"""


async def test_a_service_is_reached_from_the_host_by_a_tunnel(base, dag, unique):
    service = (
        base.with_exposed_port(8192)
        .with_default_args(["perl", "-e", SERVER, "8192", unique])
        .as_service()
    )
    tunnel = await dag.host().tunnel(service).start()
    endpoint = await tunnel.endpoint()
    assert await ask(int(endpoint.rpartition(":")[2])) == f"{unique}\n".encode()
    assert [await port.port() for port in await tunnel.ports()] == [
        int(endpoint.rpartition(":")[2])
    ]
    await tunnel.stop()


async def test_a_tunnel_has_the_ports_that_were_asked_for(base, dag, unique):
    service = (
        base.with_exposed_port(8193)
        .with_default_args(["perl", "-e", SERVER, "8193", unique])
        .as_service()
    )
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    tunnel = await (
        dag.host().tunnel(service, ports=[dagger.PortForward(backend=8193, frontend=port)]).start()
    )
    assert await tunnel.endpoint() == f"127.0.0.1:{port}"
    assert await ask(port) == f"{unique}\n".encode()
    await tunnel.stop()
