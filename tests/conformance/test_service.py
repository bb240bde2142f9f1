"""Service: started when bound, healthy before it is reached, found by its alias."""

from __future__ import annotations

import dagger
import pytest

SERVER = r"""
use IO::Socket::INET; $| = 1; $SIG{PIPE} = "IGNORE";
my ($port, $text) = @ARGV;
my $s = IO::Socket::INET->new(Listen => 5, LocalPort => $port, ReuseAddr => 1) or die $!;
print "ready\n";
while (my $c = $s->accept) { my $l = <$c>; print $c "$text\n"; close $c }
"""

ASK = "exec 3<>/dev/tcp/$0/$1; echo hello >&3; cat <&3"
ASK_ALL = 'for at in "$@"; do exec 3<>/dev/tcp/${at/:/\\/}; echo hello >&3; cat <&3; done'


def serving(container: dagger.Container, port: int, text: str) -> dagger.Container:
    """A container whose command answers every line at the port with the text."""
    return container.with_exposed_port(port).with_default_args(
        ["perl", "-e", SERVER, str(port), text]
    )


def asking(container: dagger.Container, host: str, port: int) -> dagger.Container:
    """A container that asks there."""
    return container.with_exec(["bash", "-c", ASK, host, str(port)])


def asking_all(container: dagger.Container, *addresses: str) -> dagger.Container:
    """A container that asks at every ``host:port``."""
    return container.with_exec(["bash", "-c", ASK_ALL, "ask", *addresses])


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


async def test_one_service_bound_under_two_names_runs_once(base, unique):
    script = 'exec perl -e "$0" 8089 $(cat /proc/sys/kernel/random/uuid)'
    service = (
        base.with_exposed_port(8089)
        .with_env_variable("U", unique)
        .with_default_args(["sh", "-c", script, SERVER])
        .as_service()
    )
    bound = base.with_service_binding("one", service).with_service_binding("two", service)
    first, second = (await asking_all(bound, "one:8089", "two:8089").stdout()).splitlines()
    assert first == second


async def test_an_exec_reaches_several_services(base, unique):
    bound = base
    for number in (1, 2):
        service = serving(base, 8090 + number, f"{unique}-{number}").as_service()
        bound = bound.with_service_binding(f"s{number}", service)
    ran = asking_all(bound, "s1:8091", "s2:8092")
    assert await ran.stdout() == f"{unique}-1\n{unique}-2\n"


async def test_every_exec_of_a_chain_reaches_what_is_bound(base, unique):
    bound = base.with_service_binding("web", serving(base, 8094, unique).as_service())
    chain = bound.with_exec(["bash", "-c", f"({ASK}) > /first", "web", "8094"])
    assert await asking(chain, "web", 8094).stdout() == f"{unique}\n"
    assert await chain.file("/first").contents() == f"{unique}\n"


async def test_a_service_is_reached_by_its_own_name_where_it_is_bound(base, unique):
    service = serving(base, 8095, unique).as_service()
    bound = base.with_service_binding("web", service)
    assert await asking(bound, await service.hostname(), 8095).stdout() == f"{unique}\n"


async def test_a_service_is_given_its_arguments(base, unique):
    service = base.with_exposed_port(8096).as_service(args=["perl", "-e", SERVER, "8096", unique])
    bound = base.with_service_binding("web", service)
    assert await asking(bound, "web", 8096).stdout() == f"{unique}\n"


async def test_a_service_runs_the_entrypoint_where_nothing_else_is_said(base, unique):
    container = base.with_exposed_port(8097).with_entrypoint(["perl", "-e", SERVER, "8097", unique])
    bound = base.with_service_binding("web", container.as_service())
    assert await asking(bound, "web", 8097).stdout() == f"{unique}\n"


async def test_a_services_arguments_follow_the_entrypoint_when_asked(base, unique):
    container = base.with_exposed_port(8098).with_entrypoint(["perl", "-e", SERVER, "8098"])
    service = container.as_service(args=[unique], use_entrypoint=True)
    bound = base.with_service_binding("web", service)
    assert await asking(bound, "web", 8098).stdout() == f"{unique}\n"


async def test_a_service_has_the_containers_variables_files_and_user(base, dag, unique):
    script = 'exec perl -e "$0" 8099 "$A $(cat /srv/f) $(id -un) $(pwd)"'
    service = (
        base.with_exposed_port(8099)
        .with_env_variable("A", unique)
        .with_mounted_directory("/srv", dag.directory().with_new_file("f", "file"))
        .with_user("nobody")
        .with_workdir("/srv")
        .with_default_args(["sh", "-c", script, SERVER])
        .as_service()
    )
    bound = base.with_service_binding("web", service)
    assert await asking(bound, "web", 8099).stdout() == f"{unique} file nobody /srv\n"


async def test_a_service_has_the_containers_secrets(base, dag, unique):
    script = 'exec perl -e "$0" 8100 $(printf %s "$T" | wc -c)'
    service = (
        base.with_exposed_port(8100)
        .with_secret_variable("T", dag.set_secret("service", unique))
        .with_default_args(["sh", "-c", script, SERVER])
        .as_service()
    )
    bound = base.with_service_binding("web", service)
    assert await asking(bound, "web", 8100).stdout() == f"{len(unique)}\n"


async def test_a_service_and_an_exec_share_a_cache_volume(base, dag, unique):
    volume = dag.cache_volume(unique)
    service = (
        base.with_exposed_port(8101)
        .with_mounted_cache("/c", volume)
        .with_default_args(["sh", "-c", 'echo written > /c/f; exec perl -e "$0" 8101 x', SERVER])
        .as_service()
    )
    bound = base.with_service_binding("web", service).with_mounted_cache("/c", volume)
    assert await bound.with_exec(["cat", "/c/f"]).stdout() == "written\n"


async def test_a_service_writes_nothing_to_the_container_it_came_from(base, unique):
    container = (
        base.with_exposed_port(8102)
        .with_env_variable("U", unique)
        .with_default_args(["sh", "-c", 'touch /written; exec perl -e "$0" 8102 x', SERVER])
    )
    bound = container.with_service_binding("web", container.as_service())
    ran = bound.with_exec(["sh", "-c", "test -e /written || echo not there"])
    assert await ran.stdout() == "not there\n"


async def test_a_stopped_service_starts_anew(base, unique):
    script = 'exec perl -e "$0" 8103 $(cat /proc/sys/kernel/random/uuid)'
    service = (
        base.with_exposed_port(8103)
        .with_env_variable("U", unique)
        .with_default_args(["sh", "-c", script, SERVER])
        .as_service()
    )

    async def answer(number: int) -> str:
        bound = base.with_env_variable("N", f"{unique}{number}").with_service_binding("s", service)
        return await asking(bound, "s", 8103).stdout()

    await service.start()
    first = await answer(1)
    assert await answer(2) == first
    await service.stop()
    await service.start()
    assert await answer(3) != first
    await service.stop(kill=True)


async def test_starting_a_service_twice_changes_nothing(base, unique):
    service = serving(base, 8104, unique).as_service()
    await service.start()
    await service.start()
    await service.stop()


async def test_a_service_that_was_never_started_can_be_stopped(base, unique):
    await serving(base, 8105, unique).as_service().stop()


async def test_an_endpoint_is_of_the_first_port(base, unique):
    container = (
        base.with_exposed_port(8106).with_exposed_port(8107).with_default_args(["sleep", "9"])
    )
    service = container.as_service().with_hostname("first")
    assert await service.endpoint() == "first:8106"
    assert await service.endpoint(scheme="tcp") == "tcp://first:8106"
    assert [await port.port() for port in await service.ports()] == [8106, 8107]


async def test_an_endpoint_without_ports_is_an_error(base, unique):
    service = base.with_default_args(["sleep", "9"]).as_service()
    with pytest.raises(dagger.QueryError, match="no ports exposed"):
        await service.endpoint()


async def test_a_named_service_is_another_one(base, unique):
    service = serving(base, 8108, unique).as_service()
    assert await service.hostname() != await service.with_hostname("other").hostname()


async def test_a_port_that_is_not_checked_is_not_waited_for(base, unique):
    service = (
        base.with_exposed_port(8109, experimental_skip_healthcheck=True)
        .with_env_variable("U", unique)
        .with_default_args(["sleep", "1000"])
        .as_service()
    )
    bound = base.with_service_binding("silent", service).with_exec(["echo", "ran", unique])
    assert await bound.stdout() == f"ran {unique}\n"


async def test_a_service_without_ports_can_be_bound(base, unique):
    service = base.with_env_variable("U", unique).with_default_args(["sleep", "1000"]).as_service()
    bound = base.with_service_binding("quiet", service).with_exec(["echo", "ran", unique])
    assert await bound.stdout() == f"ran {unique}\n"


async def test_a_health_check_is_waited_for(base, dag, unique):
    volume = dag.cache_volume(unique)
    service = (
        base.with_mounted_cache("/c", volume)
        .with_default_args(["sh", "-c", "sleep 1; touch /c/ready; exec sleep 1000"])
        .with_docker_healthcheck(["test", "-e", "/c/ready"], interval="200ms", retries=100)
        .as_service()
    )
    bound = base.with_mounted_cache("/c", volume).with_service_binding("checked", service)
    assert await bound.with_exec(["ls", "/c"]).stdout() == "ready\n"


async def test_a_name_that_is_not_bound_is_not_reached(base, unique):
    with pytest.raises(dagger.ExecError):
        await asking(base.with_env_variable("U", unique), "not-bound", 8110).sync()


async def test_a_result_of_an_exec_with_a_service_is_kept(base, unique):
    service = serving(base, 8111, unique).as_service()
    ran = base.with_service_binding("web", service).with_exec(
        ["sh", "-c", "cat /proc/sys/kernel/random/uuid"]
    )
    assert await ran.stdout() == await ran.stdout()


async def test_two_services_may_have_the_same_port(base, unique):
    bound = base
    for number in (1, 2):
        service = serving(base, 8093, f"{unique}-{number}").as_service()
        bound = bound.with_service_binding(f"s{number}", service)
    ran = asking_all(bound, "s1:8093", "s2:8093")
    assert await ran.stdout() == f"{unique}-1\n{unique}-2\n"
