"""Container.withExec: what a command sees, what it leaves, how it fails."""

from __future__ import annotations

import anyio
import dagger
import pytest


async def test_output_streams_are_apart(base):
    ran = base.with_exec(["sh", "-c", "echo out; echo err >&2"])
    assert (await ran.stdout(), await ran.stderr()) == ("out\n", "err\n")
    assert await ran.exit_code() == 0


async def test_no_exec_means_no_output(base):
    with pytest.raises(dagger.QueryError, match="no command has been set"):
        await base.stdout()


async def test_output_is_of_the_last_exec(base):
    chain = base.with_exec(["echo", "one"]).with_exec(["echo", "two"])
    assert await chain.stdout() == "two\n"
    assert await chain.with_new_file("/x", "").stdout() == "two\n"


async def test_arguments_reach_the_command_as_they_are(base):
    args = ["a b", "", "$HOME", "*", "'\"\\", "é✓", "line\nbreak"]
    ran = base.with_exec(["printf", "<%s>", *args])
    assert await ran.stdout() == "".join(f"<{arg}>" for arg in args)


async def test_expand_replaces_variables_in_arguments(base):
    ran = base.with_env_variable("A", "1").with_exec(["echo", "$A ${A}x $NONE"], expand=True)
    assert await ran.stdout() == "1 1x \n"


async def test_files_persist_from_exec_to_exec(base):
    ran = base.with_exec(["sh", "-c", "mkdir -p /d && echo 1 > /d/f"])
    ran = ran.with_exec(["sh", "-c", "echo 2 >> /d/f; ln -s f /d/l; rm /etc/debian_version"])
    assert await ran.file("/d/f").contents() == "1\n2\n"
    assert await ran.with_exec(["readlink", "/d/l"]).stdout() == "f\n"
    assert not await ran.exists("/etc/debian_version")


async def test_the_parent_is_not_changed_by_an_exec(base):
    before = base.with_new_file("/f", "before")
    after = before.with_exec(["sh", "-c", "echo after > /f"])
    assert await after.file("/f").contents() == "after\n"
    assert await before.file("/f").contents() == "before"


async def test_environment_workdir_and_user_are_what_was_set(base):
    ran = (
        base.with_env_variable("A", "x y")
        .with_workdir("/made/for/this")
        .with_user("nobody")
        .with_exec(["sh", "-c", 'echo "$A"; pwd; id -un'])
    )
    assert (await ran.stdout()).splitlines() == ["x y", "/made/for/this", "nobody"]


async def test_a_user_may_be_a_number_with_a_group(base):
    ran = base.with_user("1234:4321").with_exec(["sh", "-c", "id -u; id -g"])
    assert await ran.stdout() == "1234\n4321\n"


async def test_the_default_directory_is_the_root(base):
    assert await base.without_workdir().with_exec(["pwd"]).stdout() == "/\n"


async def test_stdin_is_read(base):
    assert await base.with_exec(["cat"], stdin="from stdin").stdout() == "from stdin"
    assert await base.with_exec(["cat"]).stdout() == ""


async def test_redirected_output_is_in_the_file_and_in_the_result(base):
    ran = base.with_exec(
        ["sh", "-c", "echo out; echo err >&2"], redirect_stdout="/o", redirect_stderr="/e"
    )
    assert await ran.file("/o").contents() == "out\n"
    assert await ran.file("/e").contents() == "err\n"


async def test_default_args_run_where_none_are_given(base):
    ran = base.with_default_args(["echo", "default"]).with_exec([])
    assert await ran.stdout() == "default\n"


async def test_the_entrypoint_is_used_only_when_asked(base):
    container = base.with_entrypoint(["echo", "entry"])
    assert await container.with_exec(["echo", "bare"]).stdout() == "bare\n"
    assert await container.with_exec(["arg"], use_entrypoint=True).stdout() == "entry arg\n"


async def test_a_failure_tells_command_code_and_output(base):
    with pytest.raises(dagger.ExecError) as caught:
        await base.with_exec(["sh", "-c", "echo out; echo err >&2; exit 7"]).sync()
    error = caught.value
    assert error.command == ["sh", "-c", "echo out; echo err >&2; exit 7"]
    assert (error.exit_code, error.stdout, error.stderr) == (7, "out", "err")
    assert "exit code: 7" in str(error)


async def test_a_failure_stops_the_chain(base):
    chain = base.with_exec(["false"]).with_exec(["echo", "never"])
    with pytest.raises(dagger.ExecError) as caught:
        await chain.stdout()
    assert caught.value.command == ["false"]


async def test_a_command_that_is_not_there_is_an_error(base):
    with pytest.raises(dagger.QueryError):
        await base.with_exec(["/no/such/program"]).sync()


@pytest.mark.parametrize(
    ("expect", "code", "is_met"),
    [
        ("SUCCESS", 0, True),
        ("SUCCESS", 1, False),
        ("FAILURE", 1, True),
        ("FAILURE", 0, False),
        ("ANY", 0, True),
        ("ANY", 127, True),
        ("ANY", 200, True),
        ("ANY", 143, False),
    ],
)
async def test_expect_says_which_exit_codes_are_met(base, expect, code, is_met):
    ran = base.with_exec(["sh", "-c", f"exit {code}"], expect=dagger.ReturnType[expect])
    if is_met:
        assert await ran.exit_code() == code
    else:
        with pytest.raises(dagger.ExecError):
            await ran.exit_code()


async def test_files_of_a_failed_exec_are_there_when_failure_is_expected(base):
    ran = base.with_exec(["sh", "-c", "echo report > /r; exit 3"], expect=dagger.ReturnType.ANY)
    assert await ran.exit_code() == 3
    assert await ran.file("/r").contents() == "report\n"


async def test_an_exec_runs_once_for_the_same_recipe(base, unique):
    ran = base.with_exec(["sh", "-c", f"cat /proc/sys/kernel/random/uuid # {unique}"])
    first = await ran.stdout()
    assert await ran.stdout() == first
    again = base.with_exec(["sh", "-c", f"cat /proc/sys/kernel/random/uuid # {unique}"])
    assert await again.stdout() == first


async def test_the_same_exec_asked_for_at_once_runs_once(base, unique):
    ran = base.with_exec(["sh", "-c", f"sleep 0.3; cat /proc/sys/kernel/random/uuid # {unique}"])
    found: set[str] = set()

    async def ask() -> None:
        found.add(await ran.stdout())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
    assert len(found) == 1


async def test_execs_run_at_the_same_time(base, unique):
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                ran = base.with_exec(["sh", "-c", f"sleep 1 # {unique} {number}"])
                tasks.start_soon(ran.sync)


async def test_large_output_is_whole(base):
    ran = base.with_exec(["sh", "-c", "seq 1 200000"])
    assert len((await ran.stdout()).splitlines()) == 200_000


async def test_combined_output_has_both_streams_in_order(base):
    ran = base.with_exec(["sh", "-c", "echo 1; sleep 0.2; echo 2 >&2; sleep 0.2; echo 3"])
    assert await ran.combined_output() == "1\n2\n3\n"
