"""kill -9 at any moment: of the engine, of a sandbox, of what runs in it. The next run is right.

The points are drawn from a seed (``TOWPATH_SEED``), which a failure prints: each is after so many
operations on the file system, so the same seed kills at the same ones.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ci.engine.store.check import check
from ci.engine.store.prune import prune
from ci.engine.store.store import Store
from tests.engine.core.conftest import add_image
from tests.engine.core.crash_program import REFUSED, expected

REPOSITORY = Path(__file__).parents[3]
#: In each of two tests.
KILLS = 100


class Program:
    """The program, its store and what it left."""

    def __init__(self, work: Path, rootfs: Path) -> None:
        self.work = work
        #: All that ran so far.
        self.children: list[int] = []
        (work / "src").mkdir()
        (work / "src/kept").write_text("kept\n")
        (work / "src/left.no").write_text("left out\n")
        with Store(work / "cache") as store:
            add_image(store, rootfs)
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-m", "tests.engine.core.crash_program", str(work)],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, number: int, *, fault: str = "", after: int = 0, delay: float = 0.0) -> int:
        """Run the graph in a child; its wait status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"round": number, "fault": fault, "after": after, "delay": delay}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        self.children.append(int(self.process.stdout.readline()))
        return int(self.process.stdout.readline())

    def result(self) -> dict[str, Any]:
        """What the last child's graph came to."""
        found: dict[str, Any] = json.loads((self.work / "result").read_text())
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()


def wait_until_none_lives(mark: str) -> None:
    """Nothing that a sandbox ran outlives it by more than the kernel's moment."""
    for pid in processes(mark):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ready, _, _ = select.select([fd], [], [], 60)
        os.close(fd)
        assert ready, f"process {pid} lives on"


def processes(mark: str) -> list[int]:
    """Those with ``mark`` in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if mark.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found


@pytest.fixture
def program(tmp_path: Path, rootfs: Path) -> Iterator[Program]:
    program = Program(tmp_path, rootfs)
    yield program
    program.close()


def assert_clean(program: Program, told: str) -> None:
    """A run to the end left nothing of its own, and nothing of the one that was killed."""
    wait_until_none_lives(f"crash-{program.work.name}")
    root = program.work / "cache/v1"
    assert list((root / "tmp").iterdir()) == [], told
    assert list((root / "claims").iterdir()) == [], told
    assert sorted(path.name for path in (program.work / "export").iterdir()) == [
        "image.tar", "kept", "large", "note", "product",
    ], told  # fmt: skip


def assert_right(program: Program, number: int, status: int, told: str = "") -> None:
    result = program.result()
    assert status == 0, f"{told}: {result}"
    assert {name: result[name] for name in expected(number)} == expected(number), told


def seed() -> int:
    return int(os.environ.get("TOWPATH_SEED", "20"))


def kill_again_and_again(program: Program, faults: list[str], kills: int) -> None:
    """Rounds of a run that is killed, or ended before it could be, and one that is not."""
    drawn = random.Random(f"{seed()} {faults}")
    assert_right(program, 0, program.run(0))
    operations = program.result()["operations"]
    killed = number = 0
    while killed < kills:
        number += 1
        fault = drawn.choice(faults)
        # Sandboxes run in the first third.
        after = drawn.randrange(operations if fault == "engine" else operations // 3)
        delay = drawn.choice([0.0, 0.0, drawn.uniform(0, 0.02)])
        status = program.run(number, fault=fault, after=after, delay=delay)
        told = f"round {number} of seed {seed()}: {fault} after {after} and {delay:.4f} s"
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, told
            killed += 1
        elif os.waitstatus_to_exitcode(status) == REFUSED:
            assert fault != "engine", told
            killed += 1
        else:
            assert_right(program, number, status, told)
        assert_right(program, number, program.run(number), told)
        assert_clean(program, told)
    left = [path for pid in program.children for path in Path("/dev/shm").glob(f"towpath-{pid}-*")]
    assert left == []
    assert str(program.work) not in Path("/proc/self/mountinfo").read_text()
    assert number < 4 * kills


def assert_store_is_sound(work: Path) -> None:
    with Store(work / "cache") as store:
        found = check(store)
        assert found.damaged == ()
        prune(store, older_than=0)
        beside = {path.name.partition(".")[0] for path in store.layer_folder.folder.iterdir()}
        assert beside == set(map(str, store.layers()))


def test_the_run_after_a_killed_engine_is_right(program: Program) -> None:
    kill_again_and_again(program, ["engine"], KILLS)
    assert_store_is_sound(program.work)


def test_the_run_after_a_killed_sandbox_is_right(program: Program) -> None:
    faults = ["sandbox", "command"]
    kill_again_and_again(program, faults, KILLS)
    assert_store_is_sound(program.work)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("faults", [["engine"], ["engine", "sandbox", "command"]])
def test_a_thousand_kills_leave_the_next_run_right(program: Program, faults: list[str]) -> None:
    kill_again_and_again(program, faults, 1_000)
    assert_store_is_sound(program.work)
