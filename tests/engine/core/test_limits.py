"""Limits of a command: that they hold, and that who hits one is told."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ci.engine.sandbox.groups import ControlGroups
from ci.engine.sandbox.limits import LimitExceeded, Limits
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.vertices.execution import ExecFailed
from ci.engine.vertices.vertex import ImageRoot
from tests.engine.core.conftest import PLAIN, sh

MIB = 1 << 20

#: 200 MiB in one process, with the shell's own means.
HUNGRY = "x=0123456789abcdef; for i in $(seq 24); do x=$x$x; done; echo fed"


@pytest.fixture
async def limited(store: Store) -> AsyncIterator[Callable[..., Awaitable[Solver]]]:
    """Makes solvers whose commands have these limits."""
    async with AsyncExitStack() as stack:

        async def make(**limits) -> Solver:
            solver = Solver(store, host=PLAIN, limits=Limits(**limits))
            return await stack.enter_async_context(solver)

        yield make


@pytest.fixture
def groups() -> None:
    found = ControlGroups.open()
    if found is None:
        pytest.skip("no control groups that this user may write to")
    found.close()


@pytest.mark.usefixtures("groups")
async def test_a_command_that_wants_more_memory_is_killed_and_says_so(limited, image) -> None:
    solver = await limited(memory_bytes=64 * MIB)
    with pytest.raises(ExecFailed) as caught:
        await solver.run(sh(image, HUNGRY))
    assert caught.value.code == 137
    assert "killed for using more than 64 MiB of memory" in str(caught.value)
    assert "exit code: 137" in str(caught.value)
    assert (await solver.run(sh(image, "echo fine"))).stdout == "fine\n"


@pytest.mark.usefixtures("groups")
async def test_memory_is_that_of_all_processes_together(limited, image) -> None:
    solver = await limited(memory_bytes=64 * MIB)
    part = HUNGRY.replace("24", "21")  # 32 MiB, and as much again while it grows
    script = f"for n in 1 2 3 4; do ({part}; sleep 60) & done; wait"
    with pytest.raises(ExecFailed, match="64 MiB"):
        await solver.run(sh(image, f"{script}; exit 1"))


@pytest.mark.usefixtures("groups")
async def test_a_command_that_wants_more_processes_is_refused_them(limited, image) -> None:
    solver = await limited(processes=8)
    with pytest.raises(ExecFailed, match="had 8 processes, and may have no more"):
        await solver.run(sh(image, "for n in $(seq 20); do sleep 60 & done; exit 1"))
    assert (await solver.run(sh(image, "(echo few); (echo more)"))).stdout == "few\nmore\n"


@pytest.mark.usefixtures("groups")
async def test_no_group_outlives_the_engine(limited, store: Store, image: ImageRoot) -> None:
    async with Solver(store, host=PLAIN, limits=Limits(processes=50)) as solver:
        for number in range(3):
            await solver.run(sh(image, f"echo {number}; sleep 60 & true"))
        assert mine()
    assert mine() == []


def mine() -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/towpath-{os.getpid()}-*"))


async def test_a_process_has_no_more_open_files_than_it_may(limited, image) -> None:
    solver = await limited(open_files=20)
    assert (await solver.run(sh(image, "ulimit -n"))).stdout == "20\n"


async def test_a_command_that_takes_too_long_is_killed(limited, image) -> None:
    solver = await limited(seconds=0.2)
    with pytest.raises(LimitExceeded, match=r"no end after 0\.2 s") as caught:
        await solver.run(sh(image, "echo started; sleep 600"))
    assert "TOWPATH_EXEC_SECONDS" in str(caught.value)


async def test_where_there_are_no_groups_each_process_is_limited(
    limited, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ControlGroups, "open", classmethod(lambda _cls: None))
    solver = await limited(memory_bytes=64 * MIB)
    with pytest.raises(ExecFailed) as caught:
        await solver.run(sh(image, HUNGRY))
    assert "fed" not in caught.value.stdout


async def test_who_sets_no_limit_pays_for_none(
    solver: Solver, image: ImageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ControlGroups, "open", classmethod(lambda _cls: pytest.fail("looked")))
    assert (await solver.run(sh(image, "echo free"))).stdout == "free\n"


# -- control groups, version 2, on files that look like it ---------------------------------------


@pytest.fixture
def version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A hierarchy in which this process is in a scope that was delegated to its user."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    root = tmp_path / "cgroup"
    scope = root / "user.slice/scope"
    scope.mkdir(parents=True)
    for folder in (root, scope.parent, scope):
        (folder / "cgroup.controllers").write_text("cpu memory pids\n")
        (folder / "cgroup.subtree_control").write_text("cpu memory pids\n")
        (folder / "cgroup.procs").write_text("")
    (scope / "cgroup.type").write_text("domain\n")
    (scope / "cgroup.subtree_control").write_text("")
    (scope / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "self").write_text("0::/user.slice/scope\n")
    return root, tmp_path / "self"


def test_a_delegated_scope_is_used_and_its_process_steps_aside(version_2) -> None:
    root, membership = version_2
    (root / "user.slice/scope/engine").mkdir()
    found = ControlGroups.open(root, membership)
    assert found is not None
    assert str(found) == f"version 2 at {root}/user.slice/scope"
    assert (root / "user.slice/scope/engine/cgroup.procs").read_text() == str(os.getpid())
    assert (root / "user.slice/scope/cgroup.subtree_control").read_text() == "+memory +pids"


def test_root_uses_the_top_and_moves_nobody(version_2, monkeypatch) -> None:
    root, membership = version_2
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = ControlGroups.open(root, membership)
    assert str(found) == f"version 2 at {root}"
    assert not list(root.glob("**/engine"))


def test_limits_are_written_where_version_2_has_them(version_2, monkeypatch) -> None:
    root, membership = version_2
    found = ControlGroups.open(root, membership)
    assert found is not None
    place = next((root / "user.slice/scope").glob("towpath-*")) / "1"
    real = Path.mkdir

    def mkdir(path: Path, *args, **options) -> None:
        real(path, *args, **options)
        (path / "cgroup.procs").touch()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    group = found.make(Limits(memory_bytes=1000, processes=7), "1")
    written = {path.name: path.read_text() for path in place.iterdir() if path.name != "x"}
    assert written == {
        "memory.max": "1000", "memory.swap.max": "0", "pids.max": "7", "cgroup.procs": "",
    }  # fmt: skip
    assert group.exceeded() == ""
    (place / "pids.events").write_text("max 3\n")
    assert group.exceeded() == "had 7 processes, and may have no more"
    (place / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.exceeded() == "killed for using more than 1000 bytes of memory"
    for entrance in group.entrances:
        os.close(entrance)


def test_a_hierarchy_without_the_controllers_is_none(version_2) -> None:
    root, membership = version_2
    for path in root.glob("**/cgroup.controllers"):
        path.write_text("cpu\n")
    for path in root.glob("**/cgroup.subtree_control"):
        path.write_text("cpu\n")
    assert ControlGroups.open(root, membership) is None
