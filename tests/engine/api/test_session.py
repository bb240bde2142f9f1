"""A session: cancellation, its end, events, secrets, provenance."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio
import dagger
import pytest

from ci.engine.command import run
from ci.engine.session import Session
from ci.errors import ConfigError
from ci.events import EngineEvent, ExecFinished, ExecStarted, NodeOutput
from ci.settings import Settings
from tests.sdk_session import user_session


def processes_with(text: str) -> list[int]:
    """Processes of this machine whose command line holds the text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


async def wait_gone(pids: list[int]) -> None:
    """Return once none of these processes exists."""
    with anyio.fail_after(60):
        for pid in pids:
            try:
                watched = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            await anyio.wait_readable(watched)
            os.close(watched)


async def test_an_exec_that_nobody_waits_for_any_more_is_killed(session, dag, base, events, unique):
    ran = base.with_exec(["sh", "-c", f"echo begun; sleep 300 # {unique}"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ran.sync)
        await events.wait_output("begun")
        running = processes_with(unique)
        assert running
        tasks.cancel_scope.cancel()
    await wait_gone(running)
    await session.close()
    (end,) = [e for e in events if isinstance(e, ExecFinished) and not e.cached]
    assert end.exit_code is None


async def test_an_exec_that_another_still_waits_for_goes_on(dag, base, events, unique):
    ran = base.with_exec(["sh", "-c", f"echo begun; sleep 1; echo ended # {unique}"])
    outputs: list[str] = []

    async def wait() -> None:
        outputs.append(await ran.stdout())

    async with anyio.create_task_group() as patient, anyio.create_task_group() as hasty:
        hasty.start_soon(ran.sync)
        await events.wait_output("begun")
        patient.start_soon(wait)
        await anyio.sleep(0.2)
        hasty.cancel_scope.cancel()
    assert outputs == ["begun\nended\n"]
    assert len([e for e in events if isinstance(e, ExecStarted)]) == 1


async def test_a_session_ends_in_time_with_what_runs_in_it(session, dag, base, events, unique):
    ran = base.with_exec(["sh", "-c", f"trap '' TERM; echo begun; sleep 300 # {unique}"])

    async def wait() -> None:
        with pytest.raises((dagger.DaggerError, OSError)):
            await ran.sync()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await events.wait_output("begun")
        with anyio.fail_after(60):
            await session.close()
        assert not processes_with(unique)
        tasks.cancel_scope.cancel()


async def test_a_session_may_be_closed_twice(tmp_path):
    async with Session(cache=tmp_path) as session:
        await session.close()
        await session.close()


async def test_a_store_that_cannot_be_made_is_an_error_on_entry(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="file"):
        async with Session(cache=tmp_path / "file" / "cache"):
            pass


async def test_events_carry_the_trace_of_the_request(session, dag, base, events, unique):
    from opentelemetry import context, trace

    span = trace.SpanContext(
        trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1)
    )
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(span)))
    ran = base.with_exec(["sh", "-c", f"echo one; printf two # {unique}"])
    await ran.sync()
    context.detach(token)
    await base.with_env_variable("U", unique).with_exec(["true"]).sync()
    header = f"00-{0xABC:032x}-{0xDEF:016x}-01"
    mine = [e for e in events if e.trace == header]
    assert [e.text for e in mine if isinstance(e, NodeOutput)] == ["one", "two"]
    (started,) = [e for e in mine if isinstance(e, ExecStarted)]
    (finished,) = [e for e in mine if isinstance(e, ExecFinished)]
    assert (started.exec, started.command[0]) == (finished.exec, "sh")
    assert (finished.exit_code, finished.cached) == (0, False)
    assert {e.trace for e in events} == {header, ""}


async def test_a_cached_exec_is_told_of_too(ask_session, unique):
    query = (
        '{container{from(address:"debian:bookworm-slim"){withExec(args:["echo","%s"]){stdout}}}}'
    )
    events: list[EngineEvent] = []
    for _ in range(2):
        events.clear()
        async with user_session(on_event=events.append) as session:
            client = ask_session(session)
            async with client.http:
                assert await client.data(query % unique) == f"{unique}\n"
    (started,) = [e for e in events if isinstance(e, ExecStarted)]
    (finished,) = [e for e in events if isinstance(e, ExecFinished)]
    assert finished.cached
    assert started.exec == finished.exec


async def test_a_secret_is_in_no_file_of_the_store_and_no_event(dag, base, events, unique):
    value = f"hunter2-{unique}"
    secret = dag.set_secret("password", value)
    ran = (
        base.with_secret_variable("P", secret)
        .with_mounted_secret("/run/p", secret)
        .with_exec(["sh", "-c", 'echo "$P"; cat /run/p; echo "$P" | base64; echo x > /out'])
    )
    assert value not in await ran.stdout()
    with pytest.raises(dagger.ExecError):
        await ran.with_exec(["sh", "-c", 'echo "$P" >&2; exit 1']).sync()
    assert value not in json.dumps([e.model_dump(mode="json") for e in events])
    holding = []
    for path in Settings.from_environment().cache.rglob("*"):
        is_new = path.is_file() and not path.is_symlink() and path.stat().st_mtime > START
        if is_new and value.encode() in path.read_bytes():
            holding.append(path)
    assert holding == []


START = Path("/proc/self").stat().st_mtime


async def test_a_changed_secret_runs_the_exec_again_and_an_unchanged_one_does_not(
    dag, base, events, unique
):
    async def once(value: str) -> None:
        ran = base.with_secret_variable("P", dag.set_secret("p", value)).with_exec(
            ["sh", "-c", f": {unique}"]
        )
        await ran.sync()

    for value in ("one", "one", "two"):
        await once(value)
    ran = [e for e in events if isinstance(e, ExecFinished) and not e.cached]
    assert len(ran) == 2


async def test_the_session_tells_which_images_it_used(session, dag, base):
    await base.sync()
    await dag.container().from_("debian:bookworm-slim").sync()
    (use,) = session.provenance()
    assert use.address == "debian:bookworm-slim"
    assert use.digest.startswith("sha256:")


# -- ci engine run -------------------------------------------------------------------------------

PROGRAM = """
import asyncio, sys, dagger
from dagger import dag
async def main():
    async with dagger.connection():
        base = dag.container().from_("debian:bookworm-slim")
        text = await base.with_exec(["echo", "hi"]).stdout()
        sys.exit(7 if text == "hi\\n" else 1)
asyncio.run(main())
"""


async def test_a_program_that_knows_nothing_of_us_runs_and_gives_its_exit_code():
    assert await run([sys.executable, "-c", PROGRAM], user_session()) == 7


async def test_a_signal_that_ends_the_program_is_128_and_its_number(tmp_path):
    assert await run(["sh", "-c", "kill -9 $$"], Session(cache=tmp_path)) == 137


@pytest.mark.parametrize("argv", [[], ["/no/such/program"]])
async def test_no_program_is_bad_usage(argv, tmp_path):
    with pytest.raises(ConfigError):
        await run(argv, Session(cache=tmp_path))
