"""A batch runs each command as if it were alone, and tells all that it wrote."""

from __future__ import annotations

import pytest

from ci.errors import StageErrored
from ci.stages.batch import REPORT, Command, batch


@pytest.fixture
def container(dag):
    return dag.container().from_("debian:bookworm-slim")


def shell(script: str, **kwargs) -> Command:
    return Command(args=["sh", "-c", script, "sh", REPORT], **kwargs)


async def test_codes_streams_and_reports_are_kept_apart(container):
    ended = await batch(
        container.with_new_file("/here/it's", "x"),
        {
            "a": shell("ls; echo err >&2; printf 'ä\\n\\n' > $1; exit 3", workdir="/here"),
            "b": shell('printf %s "$WORDS"', env={"WORDS": "two 'words'"}),
            "c": Command(args=["no-such-program"]),
            "d": Command(args=["cat"]),
        },
    )
    a = ended["a"]
    assert (a.code, a.stdout, a.stderr, a.report) == (3, "it's\n", "err\n", "ä\n\n")
    assert (ended["b"].code, ended["b"].stdout, ended["b"].report) == (0, "two 'words'", "")
    assert ended["c"].code == 127
    assert "no-such-program" in ended["c"].stderr
    assert (ended["d"].code, ended["d"].stdout) == (0, "")
    assert list(ended) == ["a", "b", "c", "d"]


async def test_commands_run_at_once(container):
    ended = await batch(
        container.with_exec(["mkfifo", "/tmp/pipe"]),
        {"read": shell("cat /tmp/pipe"), "write": shell("echo met > /tmp/pipe")},
    )
    assert ended["read"].stdout == "met\n"


async def test_commands_run_one_after_another_where_asked(container):
    ended = await batch(
        container,
        {"first": shell("echo one > /tmp/x; false"), "second": shell("cat /tmp/x")},
        at_once=False,
    )
    assert (ended["first"].code, ended["second"].stdout) == (1, "one\n")


async def test_an_unexpected_code_is_errored_with_the_tools_words(container):
    ended = await batch(container, {"tool": shell("echo why >&2; exit 9")})
    assert ended["tool"].check(0, 9) is ended["tool"]
    with pytest.raises(StageErrored, match=r"tool: got exit code 9\nwhy; expected one of 0, 1"):
        ended["tool"].check(0, 1)
