"""Chains of hundreds of execs, each on what the last one left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.vertices.vertex import Exec, ExecRootOutput, ImageRoot, Tree
from tests.engine.core.conftest import PLAIN, sh

REPOSITORY = Path(__file__).parents[3]
LENGTH = 500


@pytest.mark.timeout(900)
async def test_five_hundred_execs_follow_one_another(store: Store, image: ImageRoot) -> None:
    """Asked for as one; layers are merged on the way, what was removed stays so, a hit is one."""

    def chain() -> Exec:
        tree: Tree = image
        for number in range(LENGTH):
            exec_ = sh(tree, f"echo {number} > /made-{number}; rm -f /made-{number - 3} /etc/group")
            tree = ExecRootOutput(exec=exec_)
        return exec_

    async with Solver(store, host=PLAIN) as solver:
        last = ExecRootOutput(exec=chain())
        found = await solver.run(sh(last, "echo /made-* /etc/*; cat /made-498"))
        assert found.stdout == (
            "/made-497 /made-498 /made-499 /etc/hosts /etc/passwd /etc/resolv.conf\n498\n"
        )
        assert solver.counters.execs == LENGTH + 1
        assert len(await solver.snapshot(last)) < 50
    async with Solver(store, host=PLAIN) as solver:
        await solver.run(chain())
        assert (solver.counters.execs, solver.counters.hits) == (0, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has just run it")
@pytest.mark.timeout(900)
def test_they_do_as_an_ordinary_user(tmp_path: Path) -> None:
    name = test_five_hundred_execs_follow_one_another.__name__
    test = f"{Path(__file__).relative_to(REPOSITORY)}::{name}"
    ran = subprocess.run(
        [sys.executable, "-m", "tests.ordinary_user", "pytest", "-q", "-p", "no:cacheprovider",
         f"--basetemp={tmp_path}/pytest", test],
        cwd=REPOSITORY, env={**os.environ, "TOWPATH_CACHE": str(tmp_path / "cache")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 passed" in ran.stdout, ran.stdout[-3000:] + ran.stderr[-1000:]
