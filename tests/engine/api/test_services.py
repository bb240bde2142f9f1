"""Services of the embedded engine: their network, their failures, their end."""

from __future__ import annotations

import http.server
import os
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import dagger
import pytest

from tests.conformance.loopback_http import answering
from tests.sdk_session import user_session

CI = Path(sys.executable).with_name("ci")

SERVER = r"""
use IO::Socket::INET; $| = 1;
my ($port, $text) = @ARGV;
my $s = IO::Socket::INET->new(Listen => 5, LocalPort => $port, ReuseAddr => 1) or die $!;
print "ready\n"; $SIG{TERM} = sub { print "bye\n"; exit 0 };
while (1) { my $c = $s->accept or next; my $l = <$c>; print $c "$text\n"; close $c }
"""

ASK = "exec 3<>/dev/tcp/$0/$1; echo hello >&3; cat <&3"


def serving(base: dagger.Container, port: int, text: str) -> dagger.Container:
    return base.with_exposed_port(port).with_default_args(["perl", "-e", SERVER, str(port), text])


def asking(base: dagger.Container, host: str, port: int) -> dagger.Container:
    return base.with_exec(["bash", "-c", ASK, host, str(port)])


async def ask(port: int) -> bytes:
    """What is answered there; nothing where nobody listens."""
    try:
        connected = await anyio.connect_tcp("127.0.0.1", port)
    except OSError:
        return b""
    async with connected as stream:
        await stream.send(b"hello\n")
        answer = b""
        async for piece in stream:
            answer += piece
        return answer


async def test_two_sessions_run_a_service_at_the_same_port(session, dag, base, unique):
    held = serving(base, 5432, "first").with_env_variable("U", unique).as_service()
    await held.start()
    async with (
        user_session() as other,
        await anyio.open_process(
            [sys.executable, "-c", OTHER, SERVER, ASK, unique],
            env={**os.environ, **other.environment()},
            stderr=None,
        ) as process,
    ):
        assert process.stdout is not None
        output = b"".join([piece async for piece in process.stdout])
    assert output == b"second\n\n"
    bound = base.with_service_binding("db", held)
    assert await asking(bound, "db", 5432).stdout() == "first\n"


OTHER = """
import asyncio, sys, dagger
from dagger import dag
server, ask, unique = sys.argv[1:]
async def main():
    async with dagger.connection():
        base = dag.container().from_("debian:bookworm-slim").with_env_variable("U", unique)
        args = ["perl", "-e", server, "5432", "second"]
        service = base.with_exposed_port(5432).with_default_args(args).as_service()
        bound = base.with_service_binding("db", service)
        print(await bound.with_exec(["bash", "-c", ask, "db", "5432"]).stdout())
asyncio.run(main())
"""


async def test_where_services_share_a_network_a_taken_port_is_an_error_that_names_its_holder(
    unique, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with user_session(private_network=False) as session:
        for name, value in session.environment().items():
            monkeypatch.setenv(name, value)
        async with dagger.connection():
            base = dagger.dag.container().from_("debian:bookworm-slim")
            await serving(base, port, unique).as_service().with_hostname("first").start()
            second = serving(base, port, unique + "2").as_service().with_hostname("second")
            with pytest.raises(dagger.QueryError, match=f"port {port} taken by the service first"):
                await second.start()


async def test_two_services_of_a_session_have_the_same_port(dag, base, unique):
    services = [serving(base, 7000, f"{unique}{n}").as_service() for n in (1, 2)]
    for service in services:
        await service.start()
    for number, service in enumerate(services, start=1):
        bound = base.with_service_binding("it", service)
        assert await asking(bound, "it", 7000).stdout() == f"{unique}{number}\n"


@pytest.mark.parametrize("healthy_seconds", [5])
async def test_a_service_that_never_answers_is_an_error_with_its_log(dag, base, unique):
    silent = base.with_exposed_port(7001).with_default_args(
        ["sh", "-c", f"echo cannot bind {unique}; exec sleep 100"]
    )
    with pytest.raises(dagger.QueryError) as caught:
        await base.with_service_binding("s", silent.as_service()).with_exec(["true"]).sync()
    assert "is not healthy after 5 s: nothing answers at port 7001" in str(caught.value)
    assert f"cannot bind {unique}" in str(caught.value)


async def test_a_service_that_ends_early_is_an_error_with_its_log_and_starts_again(
    dag, base, unique
):
    broken = base.with_exposed_port(7002).with_default_args(["sh", "-c", f"echo {unique}; exit 3"])
    for _ in range(2):
        with pytest.raises(dagger.QueryError) as caught:
            await broken.as_service().start()
        assert "exited with code 3 before it was healthy" in str(caught.value)
        assert unique in str(caught.value)


async def test_an_exec_is_stopped_when_a_service_that_it_binds_ends(dag, base, unique):
    short = base.with_exposed_port(7003).with_default_args(
        ["sh", "-c", f'echo {unique}; perl -e "$0" 7003 x & sleep 1; exit 4', SERVER]
    )
    ran = base.with_service_binding("short", short.as_service()).with_exec(
        ["sh", "-c", f"sleep 60 # {unique}"]
    )
    with anyio.fail_after(60), pytest.raises(dagger.QueryError) as caught:
        await ran.sync()
    assert "bound service 'short' exited (code 4)" in str(caught.value)
    assert unique in str(caught.value)


async def test_a_docker_health_check_decides_when_a_service_is_healthy(dag, base, unique):
    checked = base.with_env_variable("U", unique).with_default_args(["sleep", "100"])
    healthy = checked.with_docker_healthcheck(["test 1 = 1"], shell=True)
    await healthy.as_service().start()
    ill = checked.with_docker_healthcheck(["false"], interval="100ms", timeout="1s", retries=1)
    with pytest.raises(dagger.QueryError, match="its health check exits with code 1"):
        await ill.as_service().start()


async def test_services_are_told_to_end_with_the_session_and_their_logs_are_kept(
    session, dag, base, unique
):
    await serving(base, 7004, unique).as_service().with_hostname("polite").start()
    await session.close()
    assert ("polite", "ready\nbye\n") in session.service_logs()


async def test_up_serves_at_a_port_of_this_machine_until_it_is_cancelled(dag, base, unique):
    service = serving(base, 7005, unique).as_service()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: service.up(ports=[dagger.PortForward(backend=7005, frontend=7995)])
        )
        answer = b""
        with anyio.fail_after(60):
            while not answer:
                await anyio.sleep(0.05)
                answer = await ask(7995)
        tasks.cancel_scope.cancel()
    assert answer == f"{unique}\n".encode()


async def test_a_tunnel_serves_a_service_on_this_machine_until_it_is_stopped(dag, base, unique):
    tunnel = dag.host().tunnel(serving(base, 7008, unique).as_service())
    tunnel = await tunnel.start()
    endpoint = await tunnel.endpoint()
    assert endpoint.startswith("127.0.0.1:")
    port = int(endpoint.partition(":")[2])
    assert await ask(port) == f"{unique}\n".encode()
    await tunnel.stop()
    assert await ask(port) == b""


async def test_a_service_of_this_machine_is_reached_from_containers(dag, base, unique):
    async def answer(stream) -> None:
        async with stream:
            await stream.send(f"of the host {unique}\n".encode())

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        backend = listener.extra(anyio.abc.SocketAttribute.local_port)
        service = dag.host().service([dagger.PortForward(backend=backend, frontend=7009)])
        bound = base.with_env_variable("U", unique).with_service_binding("outside", service)
        assert await asking(bound, "outside", 7009).stdout() == f"of the host {unique}\n"
        tasks.cancel_scope.cancel()


async def test_a_bound_exec_reaches_the_outside_by_a_proxy_and_its_service_without(
    dag, base, unique, monkeypatch
):
    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(f"HTTP/1.0 200 OK\r\n\r\nasked for {self.path}\n".encode())

        def log_message(self, *_: object) -> None:
            pass

    with answering(Proxy) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        bound = base.with_service_binding("web", serving(base, 7006, unique).as_service())
        script = (
            "hp=${http_proxy#http://}; exec 3<>/dev/tcp/${hp%:*}/${hp#*:}; "
            "printf 'GET http://far.example/x HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3; echo $no_proxy"
        )
        output = await bound.with_exec(["bash", "-c", f"{script} # {unique}"]).stdout()
    assert "asked for http://far.example/x" in output
    assert ",web," in output


async def test_the_same_service_started_from_many_places_runs_once(session, dag, base, unique):
    script = f'cat /proc/sys/kernel/random/uuid; exec perl -e "$0" 7007 {unique}'
    service = (
        base.with_exposed_port(7007).with_default_args(["sh", "-c", script, SERVER]).as_service()
    )
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(service.start)
    await session.close()
    (log,) = [log for name, log in session.service_logs() if unique in name or "ready" in log]
    assert log.count("ready") == 1


@pytest.mark.parametrize("user", ["root", "nobody", "1234:5678"])
async def test_a_health_check_is_run_inside_the_service(dag, base, unique, user):
    """It sees the service's files and processes, as the service's user, and reaches its ports."""
    check = (
        'test "$(cat /tmp/written)" = "$U" && test "$(id -u)" = "$(cat /tmp/uid)" && pwd | grep srv'
        " && grep -q perl /proc/[0-9]*/cmdline && exec 3<>/dev/tcp/localhost/7011"
    )
    script = 'echo $U > /tmp/written; id -u > /tmp/uid; exec perl -e "$0" 7011 x'
    service = (
        base.with_env_variable("U", unique)
        .with_workdir("/srv")
        .with_user(user)
        .with_default_args(["sh", "-c", script, SERVER])
        .with_docker_healthcheck(["bash", "-c", check], interval="50ms", retries=200)
        .as_service()
    )
    await service.start()


async def test_a_health_check_has_no_more_rights_than_the_service(dag, base, unique):
    """Nor less: what the kernel says of both is the same."""
    says = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid)' /proc/self/status"
    service = (
        base.with_env_variable("U", unique)
        .with_default_args(["sh", "-c", f"{says} > /tmp/own; exec sleep 1000"])
        .with_docker_healthcheck(
            ["sh", "-c", f"{says} | diff - /tmp/own"], interval="50ms", retries=40
        )
        .as_service()
    )
    await service.start()


async def test_a_health_check_that_hangs_is_ended_after_its_timeout(dag, base, unique):
    hanging = (
        base.with_env_variable("U", unique)
        .with_default_args(["sleep", "1000"])
        .with_docker_healthcheck(["sleep", "1000"], interval="10ms", timeout="100ms", retries=2)
    )
    with pytest.raises(dagger.QueryError) as caught:
        await hanging.as_service().start()
    assert "failed 2 health checks in a row" in str(caught.value)
    assert "takes longer than 0.1 s" in str(caught.value)


async def test_a_service_that_ends_is_not_waited_for_until_its_next_health_check(dag, base, unique):
    short = (
        base.with_env_variable("U", unique)
        .with_default_args(["sh", "-c", "exit 6"])
        .with_docker_healthcheck(["false"], interval="1h")
    )
    with anyio.fail_after(60), pytest.raises(dagger.QueryError, match="exited with code 6"):
        await short.as_service().start()


POSTGRES = """
import asyncio, sys, dagger
from dagger import dag
async def main():
    async with dagger.connection():
        database = dag.container().from_("postgres:15-bookworm")
        database = database.with_env_variable("POSTGRES_PASSWORD", sys.argv[1])
        service = database.with_exposed_port(5432).as_service(use_entrypoint=True)
        await service.start()
        print("ready", flush=True)
        sys.stdin.readline()
        client = database.with_env_variable("PGPASSWORD", sys.argv[1])
        client = client.with_service_binding("db", service)
        ask = ["psql", "-h", "db", "-U", "postgres", "-Atc"]
        question = f"select '{sys.argv[1]}', inet_server_port()"
        print(await client.with_exec([*ask, question]).stdout())
asyncio.run(main())
"""


async def test_two_engines_at_once_each_have_postgresql_at_its_own_port():
    async def line(process: anyio.abc.Process, wanted: bytes) -> None:
        assert process.stdout is not None
        seen = b""
        while wanted not in seen:
            seen += await process.stdout.receive()

    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(
                await anyio.open_process(
                    [str(CI), "engine", "run", "--", sys.executable, "-c", POSTGRES, word],
                    stderr=None,
                )
            )
            for word in ("one", "two")
        ]
        for process in processes:
            await line(process, b"ready")
        for process, word in zip(processes, (b"one", b"two"), strict=True):
            assert process.stdin is not None
            await process.stdin.send(b"\n")
            await line(process, word + b"|5432")
        for process in processes:
            assert await process.wait() == 0
