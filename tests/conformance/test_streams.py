"""Container.withExec: what goes in and comes out, and which exit codes are met."""

from __future__ import annotations

import dagger
import pytest


async def test_stdin_is_given_whole(base):
    text = "".join(f"line {number} é✓\n" for number in range(5_000))
    assert await base.with_exec(["cat"], stdin=text).stdout() == text


async def test_stdin_is_read_from_a_file(base):
    container = base.with_new_file("/in", "of a file\n")
    assert await container.with_exec(["cat"], redirect_stdin="/in").stdout() == "of a file\n"


async def test_stdin_is_read_from_what_an_earlier_exec_wrote(base):
    container = base.with_exec(["sh", "-c", "echo earlier > /made"])
    assert await container.with_exec(["cat"], redirect_stdin="/made").stdout() == "earlier\n"


async def test_two_sources_of_stdin_are_an_error(base):
    with pytest.raises(dagger.QueryError):
        await base.with_exec(["cat"], stdin="x", redirect_stdin="/etc/passwd").sync()


async def test_a_source_of_stdin_that_is_not_there_is_an_error(base):
    with pytest.raises(dagger.QueryError):
        await base.with_exec(["cat"], redirect_stdin="/none").sync()


async def test_redirected_output_goes_to_a_mounted_directory(base, dag):
    container = base.with_mounted_directory("/m", dag.directory())
    ran = container.with_exec(["echo", "there"], redirect_stdout="/m/out")
    assert await ran.directory("/m").file("out").contents() == "there\n"


async def test_redirected_output_replaces_what_was_in_the_file(base):
    container = base.with_new_file("/out", "much longer than that\n")
    ran = container.with_exec(["echo", "short"], redirect_stdout="/out")
    assert await ran.file("/out").contents() == "short\n"


async def test_redirected_streams_are_apart(base):
    ran = base.with_exec(
        ["sh", "-c", "echo 1; echo 2 >&2; echo 3"], redirect_stdout="/o", redirect_stderr="/e"
    )
    assert (await ran.file("/o").contents(), await ran.file("/e").contents()) == ("1\n3\n", "2\n")


async def test_output_of_an_exec_that_may_fail_is_redirected_too(base):
    ran = base.with_exec(
        ["sh", "-c", "echo found; exit 1"], redirect_stdout="/o", expect=dagger.ReturnType.ANY
    )
    assert await ran.file("/o").contents() == "found\n"


async def test_redirected_output_is_the_next_ones_input(base):
    first = base.with_exec(["printf", "b\\na\\n"], redirect_stdout="/list")
    assert await first.with_exec(["sort"], redirect_stdin="/list").stdout() == "a\nb\n"


async def test_output_without_a_line_end_is_kept_as_it_is(base):
    assert await base.with_exec(["printf", "no end"]).stdout() == "no end"
    assert await base.with_exec(["printf", " \\n two \\n\\n"]).stdout() == " \n two \n\n"


async def test_a_command_without_output_has_empty_streams(base):
    ran = base.with_exec(["true"])
    assert (await ran.stdout(), await ran.stderr()) == ("", "")


async def test_output_of_children_counts(base):
    ran = base.with_exec(["sh", "-c", "(echo child; echo err >&2) & wait"])
    assert (await ran.stdout(), await ran.stderr()) == ("child\n", "err\n")


@pytest.mark.parametrize(
    ("expect", "code", "is_met"),
    [
        ("SUCCESS", 255, False),
        ("FAILURE", 2, True),
        ("FAILURE", 127, True),
        ("FAILURE", 128, False),
        ("FAILURE", 191, False),
        ("FAILURE", 192, True),
        ("FAILURE", 255, True),
        ("ANY", 1, True),
        ("ANY", 128, False),
        ("ANY", 191, False),
        ("ANY", 192, True),
        ("ANY", 255, True),
    ],
)
async def test_exit_codes_come_in_classes(base, expect, code, is_met):
    ran = base.with_exec(["sh", "-c", f"exit {code}"], expect=dagger.ReturnType[expect])
    if is_met:
        assert await ran.exit_code() == code
    else:
        with pytest.raises(dagger.ExecError) as caught:
            await ran.exit_code()
        assert caught.value.exit_code == code


async def test_a_command_that_a_signal_ended_fails_whatever_is_expected(base):
    ran = base.with_exec(["sh", "-c", "kill -KILL $$"], expect=dagger.ReturnType.ANY)
    with pytest.raises(dagger.ExecError) as caught:
        await ran.sync()
    assert caught.value.exit_code == 137


async def test_the_error_names_the_command_that_ran_with_its_entrypoint(base):
    container = base.with_entrypoint(["sh", "-c"])
    with pytest.raises(dagger.ExecError) as caught:
        await container.with_exec(["exit 4"], use_entrypoint=True).sync()
    assert caught.value.command == ["sh", "-c", "exit 4"]
    assert caught.value.exit_code == 4


async def test_the_error_of_a_later_exec_has_only_its_own_output(base):
    chain = base.with_exec(["echo", "earlier"]).with_exec(["sh", "-c", "echo later; exit 1"])
    with pytest.raises(dagger.ExecError) as caught:
        await chain.sync()
    assert (caught.value.stdout, caught.value.stderr) == ("later", "")


async def test_the_output_in_an_error_is_bounded_and_ends_with_the_end(base):
    with pytest.raises(dagger.ExecError) as caught:
        await base.with_exec(["sh", "-c", "seq 1 200000; exit 1"]).sync()
    assert len(caught.value.stdout) < 110 * 1024
    assert caught.value.stdout.endswith("200000")


async def test_an_exec_error_is_a_query_error_with_a_message(base):
    with pytest.raises(dagger.QueryError) as caught:
        await base.with_exec(["sh", "-c", "exit 3"]).sync()
    assert isinstance(caught.value, dagger.ExecError)
    assert "exit code: 3" in str(caught.value)


async def test_the_output_of_a_met_failure_is_there(base):
    ran = base.with_exec(
        ["sh", "-c", "echo out; echo err >&2; exit 9"], expect=dagger.ReturnType.FAILURE
    )
    assert (await ran.stdout(), await ran.stderr(), await ran.exit_code()) == ("out\n", "err\n", 9)


async def test_a_chain_goes_on_after_a_failure_that_was_expected(base):
    ran = base.with_exec(["sh", "-c", "echo 1 > /f; exit 1"], expect=dagger.ReturnType.ANY)
    assert await ran.with_exec(["cat", "/f"]).stdout() == "1\n"
