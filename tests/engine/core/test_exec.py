"""What an exec sees, prints, and how it may end."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.trees.merged import NoSuchPath
from ci.engine.vertices.execution import ExecFailed, ExecFinished, ExecOutput, ExecStarted
from ci.engine.vertices.vertex import (
    Exec,
    ExecRootOutput,
    Expect,
    FileRef,
    ImageRoot,
    NewFile,
    Scratch,
)
from ci.errors import CiError
from tests.engine.core.conftest import PLAIN, sh


async def test_output_and_exit_code_are_told_apart(solver: Solver, image: ImageRoot) -> None:
    result = await solver.run(sh(image, "echo out; echo err >&2; exit 3", expect=Expect.ANY))
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert sorted(result.combined.split()) == ["err", "out"]
    assert not result.cached


@pytest.mark.parametrize(
    ("expect", "code", "met"),
    [
        (Expect.SUCCESS, 0, True),
        (Expect.SUCCESS, 1, False),
        (Expect.FAILURE, 0, False),
        (Expect.FAILURE, 1, True),
        (Expect.FAILURE, 127, True),
        (Expect.FAILURE, 130, False),
        (Expect.FAILURE, 192, True),
        (Expect.ANY, 0, True),
        (Expect.ANY, 7, True),
        (Expect.ANY, 128, False),
        (Expect.ANY, 191, False),
        (Expect.ANY, 255, True),
    ],
)
async def test_expect_decides_which_exit_codes_raise(
    solver: Solver, image: ImageRoot, expect: Expect, code: int, *, met: bool
) -> None:
    exec_ = sh(image, f"echo said; echo complained >&2; exit {code}", expect=expect)
    if met:
        assert (await solver.run(exec_)).exit_code == code
        return
    with pytest.raises(ExecFailed, match=f"exit code: {code}") as caught:
        await solver.run(exec_)
    assert caught.value.code == code
    assert caught.value.cmd == exec_.args
    assert (caught.value.stdout, caught.value.stderr) == ("said\n", "complained\n")


async def test_a_signal_raises_even_when_any_code_may_come(
    solver: Solver, image: ImageRoot
) -> None:
    with pytest.raises(ExecFailed, match="exit code: 137"):
        await solver.run(sh(image, "kill -9 $$", expect=Expect.ANY))


async def test_a_missing_command_ends_with_127_and_names_the_path(
    solver: Solver, image: ImageRoot
) -> None:
    exec_ = Exec(root=image, args=("no-such",), env=(("PATH", "/bin:/elsewhere"),))
    with pytest.raises(ExecFailed) as caught:
        await solver.run(exec_)
    assert caught.value.code == 127
    assert "'no-such'" in caught.value.stderr
    assert "/bin:/elsewhere" in caught.value.stderr


async def test_a_file_that_is_no_program_ends_with_126(solver: Solver, image: ImageRoot) -> None:
    with pytest.raises(ExecFailed) as caught:
        await solver.run(Exec(root=image, args=("/etc/passwd",)))
    assert caught.value.code == 126
    assert "/etc/passwd" in caught.value.stderr


async def test_the_environment_is_what_was_asked_for_and_the_usual_defaults(
    solver: Solver, image: ImageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAK", "from the host")
    result = await solver.run(
        Exec(root=image, args=("env",), env=(("A", "1"), ("B", "two words")), user="app")
    )
    seen = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert seen == {
        "A": "1",
        "B": "two words",
        "HOME": "/home/app",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD": "/",
    }


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0 0 0"),
        ("app", "1000 1001 1001 1234"),
        ("1000", "1000 1001 1001 1234"),
        ("app:extra", "1000 1234 1234"),
        ("4711", "4711 0 0"),
        ("4711:99", "4711 99 99"),
    ],
)
async def test_users_come_from_the_containers_own_files(
    solver: Solver, image: ImageRoot, user: str, expected: str
) -> None:
    script = "echo $(id -u) $(id -g) $(id -G)"
    assert (await solver.run(sh(image, script, user=user))).stdout.strip() == expected


async def test_an_unknown_user_is_named(solver: Solver, image: ImageRoot) -> None:
    with pytest.raises(CiError, match=r"user 'nobody': .*no such user.*root, app"):
        await solver.run(sh(image, "true", user="nobody"))


async def test_what_a_user_makes_belongs_to_that_user(solver: Solver, image: ImageRoot) -> None:
    made = ExecRootOutput(exec=sh(image, "echo mine > /tmp/file", user="app"))
    seen = await solver.run(
        sh(made, "stat -c '%u %g' /tmp/file; echo more >> /tmp/file", user="app")
    )
    assert seen.stdout == "1000 1001\n"
    with pytest.raises(ExecFailed):
        await solver.run(sh(image, "echo no > /etc/passwd", user="app"))


async def test_a_missing_workdir_is_made_and_stays(solver: Solver, image: ImageRoot) -> None:
    made = sh(image, "pwd; echo x > here", workdir="/deep/work dir")
    assert (await solver.run(made)).stdout == "/deep/work dir\n"
    assert (
        await solver.read(FileRef(tree=ExecRootOutput(exec=made), path="/deep/work dir/here"))
        == b"x\n"
    )


@pytest.mark.parametrize("workdir", ["/etc/passwd", "/etc/passwd/below"])
async def test_a_workdir_that_is_a_file_is_an_error(
    solver: Solver, image: ImageRoot, workdir: str
) -> None:
    with pytest.raises(CiError, match=f"workdir '{workdir}': got a file; expected a directory"):
        await solver.run(sh(image, "true", workdir=workdir))


async def test_standard_input_comes_from_text_or_a_file(solver: Solver, image: ImageRoot) -> None:
    text = "line\n" * 50_000
    assert (await solver.run(Exec(root=image, args=("wc", "-l"), stdin=text))).stdout == "50000\n"
    filed = NewFile(tree=image, path="/in", contents=b"a\nb\n")
    result = await solver.run(Exec(root=filed, args=("wc", "-l"), redirect_stdin="/in"))
    assert result.stdout == "2\n"
    assert (await solver.run(Exec(root=image, args=("cat",)))).stdout == ""


async def test_redirected_output_is_in_the_file_and_in_the_result(
    solver: Solver, image: ImageRoot
) -> None:
    exec_ = sh(
        image, "echo out; echo err >&2", redirect_stdout="/logs/out", redirect_stderr="err",
        workdir="/tmp", user="app",
    )  # fmt: skip
    result = await solver.run(exec_)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    root = ExecRootOutput(exec=exec_)
    assert await solver.read(FileRef(tree=root, path="/logs/out")) == b"out\n"
    seen = await solver.run(sh(root, "stat -c %u /tmp/err; cat /tmp/err"))
    assert seen.stdout == "1000\nerr\n"


async def test_output_that_is_no_text_is_replaced_not_refused(
    solver: Solver, image: ImageRoot
) -> None:
    result = await solver.run(sh(image, r"printf 'a\377b'"))
    assert result.stdout == "a\N{REPLACEMENT CHARACTER}b"


async def test_large_output_is_whole_in_the_result_and_its_end_in_the_error(
    solver: Solver, image: ImageRoot
) -> None:
    script = "seq 1 60000"
    assert (await solver.run(sh(image, script))).stdout.count("\n") == 60_000
    with pytest.raises(ExecFailed) as caught:
        await solver.run(sh(image, script + "; exit 1"))
    assert len(caught.value.stdout) == 100 << 10
    assert caught.value.stdout.endswith("60000\n")


async def test_events_tell_the_start_the_output_and_the_end(store: Store, image: ImageRoot) -> None:
    events: list[object] = []
    exec_ = sh(image, "echo hello")
    for _ in range(2):
        async with Solver(store, on_event=events.append, host=PLAIN) as solver:
            await solver.run(exec_)
    started, output, finished, cached = events
    assert isinstance(started, ExecStarted)
    assert isinstance(output, ExecOutput)
    assert (output.stream, output.text) == ("stdout", "hello\n")
    assert isinstance(finished, ExecFinished)
    assert (finished.exit_code, finished.cached) == (0, False)
    assert isinstance(cached, ExecFinished)
    assert cached.cached


def _processes_with(mark: str) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if mark in (folder / "cmdline").read_bytes().decode(errors="replace"):
                    found.append(folder.name)
    return found


async def test_cancelling_kills_everything_before_it_returns(
    solver: Solver, image: ImageRoot
) -> None:
    started = anyio.Event()
    solver._on_event = lambda event: started.set() if isinstance(event, ExecOutput) else None
    mark = f"86{os.getpid()}"
    script = f"setsid sleep {mark} & (setsid sleep {mark} &) ; echo go; sleep {mark}"
    async with anyio.create_task_group() as group:
        group.start_soon(solver.run, sh(image, script))
        await started.wait()
        assert len(_processes_with(mark)) >= 3
        group.cancel_scope.cancel()
    assert _processes_with(mark) == []


async def test_what_a_command_leaves_running_dies_with_it(solver: Solver, image: ImageRoot) -> None:
    mark = f"87{os.getpid()}"
    script = f"(setsid sleep {mark} >/dev/null 2>&1 &); echo done"
    assert (await solver.run(sh(image, script))).stdout == "done\n"
    assert _processes_with(mark) == []


async def test_a_time_limit_ends_a_hanging_command(solver: Solver, image: ImageRoot) -> None:
    before = time.monotonic()
    with pytest.raises(TimeoutError), anyio.fail_after(0.3):
        await solver.run(sh(image, "sleep 60"))
    assert time.monotonic() - before < 10


async def test_an_empty_root_says_what_is_missing(solver: Solver) -> None:
    with pytest.raises(ExecFailed, match="127"):
        await solver.run(Exec(root=Scratch(), args=("sh",)))


@pytest.mark.parametrize("args", [(), ("a\0b",)])
async def test_an_impossible_command_is_refused(
    solver: Solver, image: ImageRoot, args: tuple[str, ...]
) -> None:
    with pytest.raises(CiError, match="exec"):
        await solver.run(Exec(root=image, args=args))


async def test_an_image_that_is_gone_is_named(solver: Solver) -> None:
    with pytest.raises(CiError, match="image example:1"):
        await solver.run(
            Exec(root=ImageRoot(image_digest="sha256:0", reference="example:1"), args=("true",))
        )


async def test_a_missing_input_file_is_named(solver: Solver, image: ImageRoot) -> None:
    with pytest.raises(NoSuchPath, match="/absent"):
        await solver.run(Exec(root=image, args=("cat",), redirect_stdin="/absent"))
