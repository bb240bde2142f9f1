"""Several processes on one store: what one makes the others use; locks end with their holder."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import anyio
import pytest

from ci.engine.solver.bundle import bundle
from ci.engine.solver.solver import Solver
from ci.engine.store.prune import prune
from ci.engine.store.store import Store
from ci.engine.vertices.vertex import CacheMount, Exec, ExecRootOutput, ImageRoot, Sharing
from tests.engine.core.conftest import PLAIN, add_image, sh

REPOSITORY = Path(__file__).parents[3]

#: Runs a script, with the volume that it is given, and tells when it begins and what came of it.
PROGRAM = """
import sys, anyio
from pathlib import Path
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.vertices.vertex import CacheMount, ImageRoot, Sharing
from tests.engine.core.conftest import PLAIN, sh

async def main(root, sharing, script):
    def show(event):
        if hasattr(event, "text"):
            print("said", event.text.strip(), flush=True)
    with Store(Path(root)) as store:
        async with Solver(store, host=PLAIN, on_event=show) as solver:
            mount = CacheMount(path="/volume", volume="shared", sharing=Sharing(sharing))
            exec_ = sh(ImageRoot(image_digest="sha256:test"), script, mounts=(mount,))
            print("ready", flush=True)
            sys.stdin.readline()
            result = await solver.run(exec_)
            print("execs", solver.counters.execs, "code", result.exit_code, flush=True)

anyio.run(main, *sys.argv[1:])
"""


class Other:
    """Another process on the store."""

    def __init__(self, root: Path, script: str, sharing: Sharing) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-c", PROGRAM, str(root), sharing.value, script],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.stdin: IO[str] = self.process.stdin  # type: ignore[assignment]
        self.stdout: IO[str] = self.process.stdout  # type: ignore[assignment]
        assert self.line() == "ready"

    def go(self) -> None:
        self.stdin.write("\n")
        self.stdin.flush()

    def line(self) -> str:
        return self.stdout.readline().strip()

    def rest(self) -> list[str]:
        return self.stdout.read().splitlines()


@contextmanager
def others(root: Path, *scripts: str, sharing: Sharing = Sharing.LOCKED) -> Iterator[list[Other]]:
    started = [Other(root, script, sharing) for script in scripts]
    try:
        yield started
    finally:
        for other in started:
            other.process.kill()
            other.process.communicate()


@pytest.fixture
def root(tmp_path: Path, rootfs: Path) -> Path:
    with Store(tmp_path / "cache") as store:
        add_image(store, rootfs)
    return tmp_path / "cache"


def executed(lines: list[str]) -> int:
    (last,) = [line for line in lines if line.startswith("execs")]
    assert last.endswith("code 0"), lines
    return int(last.split()[1])


#: Fails where another one is between its first and its last line at the same time.
ALONE = "for i in $(seq 20); do mkdir /volume/busy || exit 9; sleep 0.01; rmdir /volume/busy; done"


@pytest.mark.parametrize("sharing", [Sharing.LOCKED, Sharing.PRIVATE])
def test_a_locked_volume_is_one_exec_s_at_a_time_among_processes(
    root: Path, sharing: Sharing
) -> None:
    scripts = [f"{ALONE}; : {number}" for number in range(3)]
    with others(root, *scripts, sharing=sharing) as started:
        for other in started:
            other.go()
        assert [executed(other.rest()) for other in started] == [1, 1, 1]


def test_a_shared_volume_is_everyone_s_at_once(root: Path) -> None:
    """Each waits for the other, and would wait for ever were they not to run at once."""
    meet = "touch /volume/{me}; until [ -e /volume/{you} ]; do sleep 0.01; done"
    scripts = [meet.format(me=me, you=1 - me) for me in (0, 1)]
    with others(root, *scripts, sharing=Sharing.SHARED) as started:
        for other in started:
            other.go()
        assert [executed(other.rest()) for other in started] == [1, 1]


def test_a_killed_holder_s_lock_is_free_and_nothing_writes_on(root: Path) -> None:
    """The next one sees the volume at rest: the first is dead, and so is all that it ran."""
    write = "echo up; while :; do echo more >> /volume/log; done"
    see = "a=$(wc -c < /volume/log); sleep 0.2; b=$(wc -c < /volume/log); [ $a = $b ]"
    with others(root, write, see) as (holder, waiter):
        holder.go()
        assert holder.line() == "said up"
        waiter.go()
        os.kill(holder.process.pid, signal.SIGKILL)
        assert executed(waiter.rest()) == 1


def is_locked(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_bundle_of_locks_is_held_by_whoever_has_it_to_the_last(tmp_path: Path) -> None:
    """The sandbox of a killed engine goes on holding all its volumes until it is gone."""
    paths = [tmp_path / name for name in ("a", "b", "c")]
    locks = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC) for path in paths]
    for lock in locks:
        fcntl.flock(lock, fcntl.LOCK_EX)
    held = bundle(locks)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(held,)) as sandbox:
        for descriptor in (held, *locks[1:]):
            os.close(descriptor)
        assert [is_locked(path) for path in paths] == [True, True, True]
        fcntl.flock(locks[0], fcntl.LOCK_UN)  # as the engine does at the end
        assert [is_locked(path) for path in paths] == [False, True, True]
        os.close(locks[0])
        sandbox.kill()
    assert [is_locked(path) for path in paths] == [False, False, False]


def test_processes_that_want_the_same_run_it_once(root: Path) -> None:
    with others(root, *["sleep 0.5; echo done"] * 3) as started:
        for other in started:
            other.go()
        assert sum(executed(other.rest()) for other in started) == 1


def test_what_a_killed_process_had_claimed_is_run_by_the_next(root: Path) -> None:
    # Whoever has said "up" has also told the next one not to wait.
    first = (
        "if [ -e /volume/twice ]; then echo up; else touch /volume/twice; echo up; sleep 600; fi"
    )
    with others(root, first, first) as (holder, waiter):
        holder.go()
        assert holder.line() == "said up"
        waiter.go()
        os.kill(holder.process.pid, signal.SIGKILL)
        assert executed(waiter.rest()) == 1


async def test_what_fails_in_one_session_is_run_by_the_other_too(
    store: Store, image: ImageRoot
) -> None:
    counters = []

    async def run(store: Store) -> None:
        async with Solver(store, host=PLAIN) as solver:
            with pytest.raises(Exception, match="exit code: 3"):
                await solver.run(sh(image, "sleep 0.2; exit 3"))
            counters.append(solver.counters.execs)

    with Store(store.root.parent) as other:
        async with anyio.create_task_group() as group:
            group.start_soon(run, store)
            group.start_soon(run, other)
    assert counters == [1, 1]


def test_two_that_make_a_volume_at_once_have_the_same(tmp_path: Path) -> None:
    """A rename would put one folder in the place of the other as long as that is empty."""
    with Store(tmp_path) as one, Store(tmp_path) as two:

        def prepare(_: Path) -> None:
            found = two.volume("same")
            (found / "written").write_text("by two")

        assert (one.volume("same", prepare=prepare) / "written").read_text() == "by two"


async def test_pruning_takes_nothing_that_a_living_session_uses(
    store: Store, image: ImageRoot
) -> None:
    """Whatever size and age it is told to prune to, the other session's chain goes on."""
    exec_: Exec = sh(image, "echo 0 > /0")
    async with Solver(store, host=PLAIN) as solver:
        for number in range(1, 15):
            await solver.run(exec_)
            with Store(store.root.parent) as other:
                await anyio.to_thread.run_sync(lambda s: prune(s, max_bytes=0, older_than=0), other)
            volume = CacheMount(path="/volume", volume="kept")
            exec_ = sh(ExecRootOutput(exec=exec_), f"echo {number} > /{number}; date >> /volume/f",
                       mounts=(volume,))  # fmt: skip
        result = await solver.run(sh(ExecRootOutput(exec=exec_), "cat /0 /7 /14"))
        assert result.stdout == "0\n7\n14\n"
        assert solver.counters.execs == 16
