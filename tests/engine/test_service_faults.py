"""Services that are killed, with all that depends on them: nothing hangs, nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import dagger
import pytest

from tests.sdk_session import user_session

CI = Path(sys.executable).with_name("ci")

SERVER = r"""
use IO::Socket::INET; $| = 1;
my $s = IO::Socket::INET->new(Listen => 5, LocalPort => $ARGV[0], ReuseAddr => 1) or die $!;
while (my $c = $s->accept) { print $c "$ARGV[1]\n"; close $c }
"""


@pytest.fixture
async def base(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dagger.Container]:
    """A Debian with a shell and perl, in a session that ``dagger.connection`` finds."""
    async with user_session() as session:
        for name, value in session.environment().items():
            monkeypatch.setenv(name, value)
        async with dagger.connection():
            yield dagger.dag.container().from_("debian:bookworm-slim")


@pytest.fixture
def unique() -> str:
    return uuid.uuid4().hex


def serving(base: dagger.Container, port: int, text: str) -> dagger.Service:
    return (
        base.with_exposed_port(port)
        .with_default_args(["perl", "-e", SERVER, str(port), text])
        .as_service()
    )


def processes(mark: str) -> list[int]:
    """Those that have the text in their command line, but for this one and its like."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if mark in " ".join(words) and not any("pytest" in word for word in words):
            found.append(int(folder.name))
    return found


async def wait_until(holds: Callable[[], object]) -> None:
    """Nothing tells of other people's processes: look now and then."""
    with anyio.fail_after(120):
        while not holds():  # noqa: ASYNC110
            await anyio.sleep(0.05)


def command(pid: int | str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def waiting(base: dagger.Container, service: dagger.Service, unique: str) -> dagger.Container:
    """An exec that binds the service and never ends by itself."""
    bound = base.with_service_binding("it", service)
    return bound.with_exec(["sh", "-c", f"sleep 1000 # exec-{unique}"])


@pytest.mark.parametrize("whom", ["the service", "its sandbox"])
async def test_a_killed_service_fails_who_has_bound_it_and_starts_again(base, unique, whom):
    service = serving(base, 7100, f"service-{unique}")
    errors: list[str] = []

    async def run() -> None:
        with pytest.raises(dagger.QueryError) as caught:
            await waiting(base, service, unique).sync()
        errors.append(str(caught.value))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await wait_until(lambda: processes(f"exec-{unique}"))
        victims = [
            pid
            for pid in processes(f"service-{unique}")
            if ("bwrap" in command(pid)) == (whom == "its sandbox")
        ]
        os.kill(min(victims), signal.SIGKILL)
    assert "bound service 'it' exited (code 1" in errors[0]
    assert processes(f"exec-{unique}") == []
    await wait_until(lambda: not processes(f"service-{unique}"))
    ask = "exec 3<>/dev/tcp/it/7100; cat <&3"
    ran = base.with_service_binding("it", service).with_exec(["bash", "-c", ask])
    assert await ran.stdout() == f"service-{unique}\n"


PROGRAM = """
import asyncio, sys, dagger
from dagger import dag
server, unique = sys.argv[1:]
async def main():
    async with dagger.connection():
        base = dag.container().from_("debian:bookworm-slim")
        args = ["perl", "-e", server, "7101", "service-" + unique]
        service = base.with_exposed_port(7101).with_default_args(args).as_service()
        bound = base.with_service_binding("it", service)
        await bound.with_exec(["sh", "-c", "sleep 1000 # exec-" + unique]).sync()
asyncio.run(main())
"""


@pytest.mark.parametrize("whom", ["the client", "the engine"])
async def test_nothing_is_left_of_services_when_someone_is_killed(unique, whom):
    engine = await anyio.open_process(
        [str(CI), "engine", "run", "--", sys.executable, "-c", PROGRAM, SERVER, unique],
        stderr=None,
    )
    async with engine:
        await wait_until(lambda: processes(f"exec-{unique}"))
        client = next(pid for pid in children(engine.pid) if "asyncio" in command(pid))
        os.kill(client if whom == "the client" else engine.pid, signal.SIGKILL)
        with anyio.fail_after(120):
            code = await engine.wait()
        assert code == (137 if whom == "the client" else -signal.SIGKILL)
        async with user_session():
            """The next one ends what waits for an engine that was killed while it started it."""
        await wait_until(
            lambda: not processes(f"exec-{unique}") and not processes(f"service-{unique}")
        )


async def answer(port: int) -> bytes:
    """What a port of this machine says."""
    try:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            return b"".join([piece async for piece in stream])
    except (OSError, anyio.BrokenResourceError):
        return b""


async def test_a_client_that_goes_away_ends_what_it_serves(base, unique):
    service = serving(base, 7102, unique)
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]

    async def wait_answer(wanted: bytes) -> None:
        """Return when that is answered; nothing is where nobody listens."""
        with anyio.fail_after(120):
            while await answer(port) != wanted:  # noqa: ASYNC110
                await anyio.sleep(0.05)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: service.up(ports=[dagger.PortForward(backend=7102, frontend=port)])
        )
        await wait_answer(f"{unique}\n".encode())
        tasks.cancel_scope.cancel()
    await wait_answer(b"")


async def test_a_container_is_served_by_itself_and_a_taken_port_is_an_error(base, unique):
    container = base.with_exposed_port(7103)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(dagger.QueryError, match=f"port {port} of this machine"):
            await container.up(
                args=["perl", "-e", SERVER, "7103", unique],
                ports=[dagger.PortForward(backend=7103, frontend=port)],
            )


async def test_up_returns_when_the_service_ends(base, unique):
    ends = base.with_exposed_port(7104).with_default_args(
        ["sh", "-c", f'perl -e "$0" 7104 {unique} & sleep 1', SERVER]
    )
    with anyio.fail_after(120):
        await ends.as_service().up(random=True)


async def test_a_host_service_whose_port_nobody_has_refuses_those_who_ask(base, unique):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    service = dagger.dag.host().service([dagger.PortForward(backend=port, frontend=7105)])
    bound = base.with_env_variable("U", unique).with_service_binding("host", service)
    ran = bound.with_exec(["bash", "-c", "exec 3<>/dev/tcp/host/7105; cat <&3; echo end"])
    assert await ran.stdout() == "end\n"
