"""When work is done and errors come: not when a chain is built, but when a value is asked for."""

from __future__ import annotations

import dagger
import pytest


async def test_a_chain_that_would_fail_can_be_built_and_configured(base):
    chain = base.with_exec(["false"]).with_workdir("/after").with_env_variable("A", "1")
    assert await chain.workdir() == "/after"
    assert await chain.env_variable("A") == "1"


@pytest.mark.parametrize("asked", ["sync", "stdout", "stderr", "exit_code"])
async def test_whatever_is_asked_of_a_failed_chain_is_its_exec_error(base, asked):
    chain = base.with_exec(["sh", "-c", "exit 5"])
    with pytest.raises(dagger.ExecError) as caught:
        await getattr(chain, asked)()
    assert caught.value.exit_code == 5


async def test_a_file_of_a_failed_exec_cannot_be_read(base):
    chain = base.with_exec(["sh", "-c", "echo made > /f; exit 5"])
    with pytest.raises(dagger.QueryError):
        await chain.file("/f").contents()
    with pytest.raises(dagger.QueryError):
        await chain.directory("/").entries()


async def test_nothing_of_a_failed_exec_is_exported(base, tmp_path):
    chain = base.with_exec(["sh", "-c", "echo made > /f; exit 5"])
    with pytest.raises(dagger.QueryError):
        await chain.file("/f").export(str(tmp_path / "f"))
    assert list(tmp_path.iterdir()) == []


async def test_an_exec_that_nobody_asks_for_does_not_run(base, dag, unique):
    volume = dag.cache_volume(unique)
    mounted = base.with_mounted_cache("/c", volume)
    mounted.with_exec(["touch", "/c/unasked"])
    await mounted.with_exec(["touch", "/c/asked"]).sync()
    assert await mounted.with_exec(["ls", "/c"]).stdout() == "asked\n"


async def test_a_failed_exec_runs_again_when_it_is_asked_for_again(base, dag, unique):
    counted = base.with_mounted_cache("/c", dag.cache_volume(unique)).with_exec(
        ["sh", "-c", "echo x >> /c/runs; test $(wc -l < /c/runs) -ge 2"]
    )
    with pytest.raises(dagger.ExecError):
        await counted.sync()
    assert await counted.exit_code() == 0


async def test_a_chain_goes_on_from_a_value_that_was_asked_for(base, unique):
    first = base.with_exec(["sh", "-c", f"cat /proc/sys/kernel/random/uuid > /id # {unique}"])
    noted = await first.file("/id").contents()
    assert await first.with_exec(["cat", "/id"]).stdout() == noted


async def test_another_variable_makes_it_another_exec(base, unique):
    async def run(value: str) -> str:
        container = base.with_env_variable("A", value)
        return str(await container.with_exec(["cat", "/proc/sys/kernel/random/uuid"]).stdout())

    assert await run(unique) == await run(unique)
    assert await run(unique) != await run(unique + "x")


async def test_another_content_of_a_mounted_file_makes_it_another_exec(base, dag, unique):
    async def run(text: str) -> str:
        container = base.with_mounted_file("/in", dag.file("in", text))
        return str(await container.with_exec(["cat", "/proc/sys/kernel/random/uuid"]).stdout())

    assert await run(unique) == await run(unique)
    assert await run(unique) != await run(unique + "x")


@pytest.mark.since("0.21")
async def test_a_volatile_variable_is_seen_and_makes_no_other_exec(base, unique):
    async def run(value: str) -> str:
        container = base.with_volatile_variable("V", value)
        return str(await container.with_exec(["sh", "-c", f"echo $V # {unique}"]).stdout())

    assert await run("1") == "1\n"
    assert await run("2") == "1\n"


async def test_with_error_fails_a_directory_with_its_message(dag):
    with pytest.raises(dagger.QueryError, match="on purpose"):
        await dag.directory().with_error("on purpose").sync()


async def test_an_empty_error_is_none(dag):
    assert await dag.directory().with_error("").entries() == []


async def test_objects_are_given_again_by_their_ids(dag):
    directory = dag.directory().with_new_file("f", "1")
    again = dag.directory().with_directory("/", directory)
    assert await again.file("f").contents() == "1"


async def test_sync_of_directory_and_file_gives_them_back(dag):
    directory = await dag.directory().with_new_file("f", "1").sync()
    assert await directory.entries() == ["f"]
    file = await directory.file("f").sync()
    assert await file.contents() == "1"


async def test_the_version_is_a_version(dag):
    text = await dag.version()
    assert text.lstrip("v")[0].isdigit()
    assert "." in text
