"""Container: configuration and its getters."""

from __future__ import annotations

import dagger
import pytest


async def test_variables_are_set_replaced_and_removed(dag):
    container = (
        dag.container()
        .with_env_variable("A", "1")
        .with_env_variable("B", "2")
        .with_env_variable("A", "3")
        .without_env_variable("B")
    )
    assert await container.env_variable("A") == "3"
    assert await container.env_variable("B") is None


async def test_variables_are_listed_with_names_and_values(dag):
    container = dag.container().with_env_variable("A", "1").with_env_variable("B", "2")
    found = {await v.name(): await v.value() for v in await container.env_variables()}
    assert found == {"A": "1", "B": "2"}


async def test_expansion_uses_what_was_set_before(dag):
    container = (
        dag.container()
        .with_env_variable("A", "1")
        .with_env_variable("B", "${A}-$A-$NONE", expand=True)
        .with_env_variable("C", "$A")
    )
    assert await container.env_variable("B") == "1-1-"
    assert await container.env_variable("C") == "$A"


async def test_an_image_brings_its_variables(base):
    assert "/usr/bin" in (await base.env_variable("PATH") or "")


async def test_a_relative_working_directory_joins_the_one_before(dag):
    container = dag.container().with_workdir("/srv").with_workdir("app")
    assert await container.workdir() == "/srv/app"
    assert await container.with_workdir("/other").workdir() == "/other"


async def test_user_is_set_and_removed(dag):
    container = dag.container().with_user("nobody:nogroup")
    assert await container.user() == "nobody:nogroup"
    assert await container.without_user().user() == ""


async def test_an_entrypoint_clears_default_args_unless_they_are_kept(dag):
    container = dag.container().with_default_args(["a", "b"])
    assert await container.with_entrypoint(["e"]).default_args() == []
    kept = container.with_entrypoint(["e"], keep_default_args=True)
    assert (await kept.entrypoint(), await kept.default_args()) == (["e"], ["a", "b"])
    assert await kept.without_entrypoint(keep_default_args=True).entrypoint() == []
    assert await kept.without_default_args().default_args() == []


async def test_labels_are_set_listed_and_removed(dag):
    container = dag.container().with_label("a", "1").with_label("b", "2").without_label("a")
    assert await container.label("a") is None
    assert await container.label("b") == "2"
    assert [(await x.name(), await x.value()) for x in await container.labels()] == [("b", "2")]


async def test_ports_are_exposed_and_removed(dag):
    container = (
        dag.container()
        .with_exposed_port(80, description="web")
        .with_exposed_port(53, protocol=dagger.NetworkProtocol.UDP)
        .with_exposed_port(81)
        .without_exposed_port(81)
    )
    found = [
        (await p.port(), (await p.protocol()).name, await p.description())
        for p in await container.exposed_ports()
    ]
    assert sorted(found) == [(53, "UDP", found[1][2]), (80, "TCP", "web")]


async def test_platform_is_what_was_asked_for(dag):
    default = await dag.default_platform()
    assert await dag.container().platform() == default
    other = dag.container(platform=dagger.Platform("linux/arm64"))
    assert str(await other.platform()).startswith("linux/arm64")


async def test_the_image_reference_has_a_digest(base):
    assert "@sha256:" in await base.image_ref()


async def test_different_containers_have_different_ids(dag):
    container = dag.container().with_env_variable("A", "1")
    assert await container.id() != await dag.container().with_env_variable("A", "2").id()


async def test_sync_gives_a_container_that_goes_on(base):
    container = await base.with_exec(["sh", "-c", "echo hi > /f"]).sync()
    assert await container.file("/f").contents() == "hi\n"


async def test_with_error_fails_the_chain_with_its_message(dag):
    with pytest.raises(dagger.QueryError, match="on purpose"):
        await dag.container().with_error("on purpose").sync()


async def test_an_image_that_does_not_exist_is_an_error(dag):
    with pytest.raises(dagger.QueryError):
        await dag.container().from_("localhost:1/no/such:image").sync()


async def test_a_variable_of_a_container_is_another_in_another(dag):
    first = dag.container().with_env_variable("A", "1")
    second = first.with_env_variable("A", "2")
    assert (await first.env_variable("A"), await second.env_variable("A")) == ("1", "2")


async def test_a_label_is_replaced(dag):
    container = dag.container().with_label("a", "1").with_label("a", "2")
    assert await container.label("a") == "2"
    assert len(await container.labels()) == 1


async def test_a_port_is_replaced_and_keeps_apart_from_the_other_protocols(dag):
    container = (
        dag.container()
        .with_exposed_port(80, description="old")
        .with_exposed_port(80, description="new")
        .with_exposed_port(80, protocol=dagger.NetworkProtocol.UDP)
    )
    found = {
        (await p.protocol()).name: await p.description() for p in await container.exposed_ports()
    }
    assert set(found) == {"TCP", "UDP"}
    assert found["TCP"] == "new"
    left = container.without_exposed_port(80)
    assert [(await p.protocol()).name for p in await left.exposed_ports()] == ["UDP"]


async def test_a_port_tells_whether_it_is_waited_for(dag):
    container = dag.container().with_exposed_port(80, experimental_skip_healthcheck=True)
    (port,) = await container.exposed_ports()
    assert await port.experimental_skip_healthcheck() is True


async def test_a_health_check_is_told_and_removed(dag):
    container = dag.container().with_docker_healthcheck(
        ["check", "it"], interval="5s", timeout="2s", start_period="1s", retries=4
    )
    check = container.docker_healthcheck()
    assert await check.args() == ["check", "it"]
    assert await check.retries() == 4
    assert await check.shell() is False


async def test_default_args_are_replaced_and_removed(dag):
    container = dag.container().with_default_args(["a"]).with_default_args(["b", "c"])
    assert await container.default_args() == ["b", "c"]
    assert await container.without_default_args().default_args() == []


async def test_an_entrypoint_is_removed_with_the_default_args(dag):
    container = dag.container().with_entrypoint(["e"]).with_default_args(["a"])
    bare = container.without_entrypoint()
    assert (await bare.entrypoint(), await bare.default_args()) == ([], [])


async def test_an_image_is_found_by_its_digest_too(base, dag):
    again = dag.container().from_(await base.image_ref())
    assert await again.file("/etc/debian_version").contents() == (
        await base.file("/etc/debian_version").contents()
    )


async def test_a_container_without_an_image_has_no_reference(dag):
    with pytest.raises(dagger.QueryError):
        await dag.container().image_ref()


async def test_configuration_survives_an_exec(base):
    ran = (
        base.with_label("l", "1")
        .with_entrypoint(["e"])
        .with_default_args(["d"])
        .with_exposed_port(80)
        .with_exec(["true"])
    )
    assert await ran.label("l") == "1"
    assert (await ran.entrypoint(), await ran.default_args()) == (["e"], ["d"])
    assert [await p.port() for p in await ran.exposed_ports()] == [80]
