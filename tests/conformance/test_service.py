"""Service: started when bound, healthy before it is reached, found by its alias."""

from __future__ import annotations

import dagger
import pytest

SERVER = r"""
use IO::Socket::INET; $| = 1;
my ($port, $text) = @ARGV;
my $s = IO::Socket::INET->new(Listen => 5, LocalPort => $port, ReuseAddr => 1) or die $!;
print "ready\n";
while (my $c = $s->accept) { my $l = <$c>; print $c "$text\n"; close $c }
"""

ASK = "exec 3<>/dev/tcp/$0/$1; echo hello >&3; cat <&3"


def serving(container: dagger.Container, port: int, text: str) -> dagger.Container:
    """A container whose command answers every line at the port with the text."""
    return container.with_exposed_port(port).with_default_args(
        ["perl", "-e", SERVER, str(port), text]
    )


def asking(container: dagger.Container, host: str, port: int) -> dagger.Container:
    """A container that asks there."""
    return container.with_exec(["bash", "-c", ASK, host, str(port)])


async def test_a_bound_service_is_reached_by_its_alias(base, unique):
    service = serving(base, 8080, unique).as_service()
    bound = base.with_service_binding("web", service)
    assert await asking(bound, "web", 8080).stdout() == f"{unique}\n"


async def test_a_service_is_started_once_for_all_who_bind_it(base, unique):
    script = 'cat /proc/sys/kernel/random/uuid > /id; exec perl -e "$0" 8081 $(cat /id)'
    service = (
        base.with_exposed_port(8081)
        .with_env_variable("U", unique)
        .with_default_args(["sh", "-c", script, SERVER])
        .as_service()
    )
    answers = {
        await asking(
            base.with_env_variable("N", f"{unique}{n}").with_service_binding("s", service),
            "s",
            8081,
        ).stdout()
        for n in range(2)
    }
    assert len(answers) == 1


async def test_a_service_is_healthy_before_the_exec_begins(base, unique):
    slow = (
        base.with_exposed_port(8082)
        .with_env_variable("U", unique)
        .with_default_args(["sh", "-c", 'sleep 1; exec perl -e "$0" 8082 slow', SERVER])
        .as_service()
    )
    bound = base.with_service_binding("slow", slow)
    assert await asking(bound, "slow", 8082).stdout() == "slow\n"


async def test_a_service_may_bind_another(base, unique):
    backend = serving(base, 8083, unique).as_service()
    proxy = 'exec 3<>/dev/tcp/backend/8083; echo x >&3; exec perl -e "$0" 8084 $(cat <&3)'
    frontend = (
        base.with_service_binding("backend", backend)
        .with_exposed_port(8084)
        .with_default_args(["bash", "-c", proxy, SERVER])
        .as_service()
    )
    bound = base.with_service_binding("frontend", frontend)
    assert await asking(bound, "frontend", 8084).stdout() == f"{unique}\n"


async def test_a_service_that_ends_before_it_is_healthy_fails_the_exec(base, unique):
    broken = (
        base.with_exposed_port(8085)
        .with_env_variable("U", unique)
        .with_default_args(["sh", "-c", "echo starting; exit 3"])
        .as_service()
    )
    with pytest.raises(dagger.QueryError):
        await base.with_service_binding("b", broken).with_exec(["true"]).sync()


async def test_a_service_without_a_command_is_an_error(dag):
    with pytest.raises(dagger.QueryError):
        await dag.container().as_service().start()


async def test_an_endpoint_names_host_port_and_scheme(base, unique):
    service = serving(base, 8086, unique).as_service().with_hostname("named")
    assert await service.hostname() == "named"
    assert await service.endpoint(port=8086, scheme="http") == "http://named:8086"
    assert [await port.port() for port in await service.ports()] == [8086]


async def test_a_service_is_started_and_stopped_by_hand(base, unique):
    service = serving(base, 8087, unique).as_service()
    await service.start()
    bound = base.with_service_binding("web", service)
    assert await asking(bound, "web", 8087).stdout() == f"{unique}\n"
    await service.stop()


@pytest.mark.since("0.21")
async def test_a_bound_service_that_ends_fails_the_exec(base, unique):
    short = (
        base.with_exposed_port(8088)
        .with_env_variable("U", unique)
        .with_default_args(["sh", "-c", 'perl -e "$0" 8088 x & sleep 1.5; exit 1', SERVER])
        .as_service()
    )
    ran = base.with_service_binding("short", short).with_exec(["sleep", "30"])
    with pytest.raises(dagger.QueryError):
        await ran.sync()
