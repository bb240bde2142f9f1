"""Terminals: what is typed reaches the container, as at a terminal of its own."""

from __future__ import annotations

import os
import re
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from fcntl import ioctl
from pathlib import Path

import anyio
import dagger
import pytest

CI = Path(sys.executable).with_name("ci")

PROGRAM = """
import asyncio, sys, dagger
from dagger import dag
async def main():
    async with dagger.connection():
        base = dag.container().from_("debian:bookworm-slim").with_env_variable("A", "set")
        base = base.with_workdir("/srv").with_new_file("/srv/f", "of the container")
        source = dag.directory().with_new_file("mine", "of the directory")
        after = await eval(sys.argv[1]).sync()
        print("sync:", type(after).__name__, flush=True)
asyncio.run(main())
"""


class Screen:
    """A terminal, and the program that was started in it."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid, self._fd = pid, fd
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    async def wait_for(self, pattern: str) -> str:
        """The first match in what was shown since the last one."""
        while (match := re.search(pattern, self.seen)) is None:
            with anyio.move_on_after(120) as patience:
                await anyio.wait_readable(self._fd)
            try:
                assert not patience.cancelled_caught
                self.seen += os.read(self._fd, 4096).decode(errors="replace")
            except (OSError, AssertionError):
                pytest.fail(f"no {pattern!r} in {self.seen!r}")
        self.seen = self.seen[match.end() :]
        return match[0]

    def resize(self, rows: int, columns: int) -> None:
        ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def wait_end(self) -> int:
        with anyio.fail_after(120):
            status = await anyio.to_thread.run_sync(os.waitpid, self.pid, 0)
        return os.waitstatus_to_exitcode(status[1])


@contextmanager
def at_terminal(*argv: str) -> Iterator[Screen]:
    """A program that is started in a terminal of its own."""
    pid, fd = os.forkpty()
    if pid == 0:
        os.execve(argv[0], argv, {**os.environ, "TERM": "dumb", "NO_COLOR": "1"})
    screen = Screen(pid, fd)
    screen.resize(30, 90)
    try:
        yield screen
    finally:
        os.close(fd)


def run(expression: str) -> AbstractContextManager[Screen]:
    """The expression's terminal, in ``ci engine run``."""
    return at_terminal(str(CI), "engine", "run", "--", sys.executable, "-c", PROGRAM, expression)


async def test_a_shell_of_a_container_is_at_the_callers_terminal():
    with run("base.terminal()") as screen:
        await screen.wait_for(r"# $")
        screen.type("echo $A $PWD $TERM; cat f; stty size\n")
        await screen.wait_for(r"\nset /srv dumb\r\nof the container30 90\r\n.*# $")
        screen.type("touch /srv/g; tty -s && echo a terminal\n")
        await screen.wait_for("\na terminal")
        screen.type("exit\n")
        await screen.wait_for("sync: Container")
        assert await screen.wait_end() == 0


async def test_ctrl_c_ends_what_runs_in_the_shell_and_not_the_shell():
    with run("base.terminal(cmd=['bash', '--norc'])") as screen:
        await screen.wait_for(r"\$ $|# $")
        screen.type('sh -c "echo waiting; exec sleep 1000"\n')
        await screen.wait_for("\nwaiting\r\n")
        screen.type("\x03")
        await screen.wait_for(r"\^C\s+.*[#$] $")
        screen.type("echo still he''re\n")
        await screen.wait_for("\nstill here")
        screen.resize(40, 100)
        screen.type("until test \"$(stty size)\" = '40 100'; do :; done; echo resi''zed\n")
        await screen.wait_for("\nresized")
        screen.type("exit 3\n")
        await screen.wait_for("sync: Container")
        assert await screen.wait_end() == 0


async def test_a_default_command_is_run_where_none_is_given():
    script = "echo rea''dy; read x; echo got $x"
    command = f"base.with_default_terminal_cmd(['sh', '-c', {script!r}]).terminal()"
    with run(command) as screen:
        await screen.wait_for("ready")
        screen.type("word\n")
        await screen.wait_for("\ngot word")
        await screen.wait_for("sync: Container")
        assert await screen.wait_end() == 0


async def test_a_directory_is_where_its_terminal_is():
    with run("source.terminal(container=base, cmd=['sh', '-c', 'pwd; cat mine'])") as screen:
        await screen.wait_for("/src\r\nof the directory")
        await screen.wait_for("sync: Directory")
        assert await screen.wait_end() == 0


SECRET = '.with_secret_variable("KEY", dag.set_secret("key", "hunter and prey"))'


async def test_secrets_are_masked_in_what_a_terminal_shows():
    with run(f"base{SECRET}.terminal()") as screen:
        await screen.wait_for(r"# $")
        screen.type("echo begin $KEY end; printf 'what of a hunter'; read x; echo the $KEY\n")
        await screen.wait_for(r"\nbegin \*\*\* end\r\nwhat of a hunter$")
        screen.type("answer\n")
        await screen.wait_for(r"answer\r\nthe \*\*\*\r\n# $")
        screen.type("exit\n")
        await screen.wait_for("sync: Container")
        assert await screen.wait_end() == 0


async def test_secrets_are_masked_in_the_terminal_of_a_service():
    service = f"base{SECRET}.as_service(args=['sleep', '1000']).terminal(cmd=['printenv', 'KEY'])"
    with run(service) as screen:
        await screen.wait_for(r"\*\*\*\r\n")
        await screen.wait_for("sync: Service")
        assert await screen.wait_end() == 0


async def test_a_services_terminal_is_inside_it():
    service = (
        "base.as_service(args=['sh', '-c', 'echo of the service > /tmp/it; exec sleep 1000'])"
        ".terminal()"
    )
    with run(service) as screen:
        await screen.wait_for(r"# $")
        screen.type("until cat /tmp/it; do :; done; echo $A $$; tty -s && stty size\n")
        await screen.wait_for(r"\nof the service\r\nset \d+\r\n30 90")
        screen.type("sh -c 'echo rea\"\"dy; exec sleep 1000'\n")
        await screen.wait_for(r"\nready\r\n")
        screen.type("\x03")
        await screen.wait_for(r"# $")
        screen.type("grep -c sleep.1000 /proc/1*/cmdline | wc -l; exit\n")
        await screen.wait_for("sync: Service")
        assert await screen.wait_end() == 0


async def test_the_terminal_is_as_before_when_the_engine_is_interrupted():
    with run("base.terminal()") as screen:
        await screen.wait_for(r"# $")
        flags = termios.tcgetattr(screen._fd)[3]
        assert not flags & termios.ECHO
        os.kill(screen.pid, 15)
        assert await screen.wait_end() != 0
        assert termios.tcgetattr(screen._fd)[3] & termios.ECHO


@pytest.mark.parametrize("field", ["Container.terminal", "Directory.terminal"])
async def test_without_a_terminal_the_error_names_the_field(dag, base, field):
    asked = base.terminal() if field.startswith("Container") else dag.directory().terminal()
    with pytest.raises(dagger.QueryError, match=rf"{field} needs a terminal"):
        await asked.sync()


async def test_a_program_without_a_terminal_is_told_so():
    async with await anyio.open_process(
        [str(CI), "engine", "run", "--", sys.executable, "-c", PROGRAM, "base.terminal()"],
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        told = b"".join([piece async for piece in process.stderr]).decode()
        assert await process.wait() != 0
    assert "Container.terminal needs a terminal" in told
    assert "`ci engine run`" in told
