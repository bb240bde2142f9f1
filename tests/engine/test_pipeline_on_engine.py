"""A pipeline of the library on the embedded engine, by the unmodified SDK."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import dagger
import pytest

from ci.engine.session import Session
from ci.events import Event, NodeOutput
from ci.flow import Feed, Pipeline, Run, Status


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's shell and its libraries, and no more."""
    root = tmp_path_factory.mktemp("rootfs")
    shell = shutil.which("sh")
    assert shell
    listing = subprocess.run(["ldd", shell], capture_output=True, text=True, check=False).stdout
    copies = {"/bin/sh": shell} | {path: path for path in re.findall(r"(/\S+) \(0x", listing)}
    for target, path in copies.items():
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    for name in ("etc", "tmp"):
        (root / name).mkdir(exist_ok=True)
    return root


def shop(rootfs: Path) -> Pipeline:
    def base() -> dagger.Container:
        return dagger.dag.container().with_rootfs(dagger.dag.host().directory(str(rootfs)))

    async def make() -> dagger.Container:
        return await base().with_exec(["sh", "-c", "echo made > /made; echo making"]).sync()

    async def use(made: dagger.Container) -> None:
        shown = made.with_exec(["sh", "-c", "read line < /made; echo used $line"])
        assert await shown.with_exec(["sh", "-c", "echo twice"]).stdout() == "twice\n"

    async def break_() -> None:
        await base().with_exec(["sh", "-c", "echo out; echo err >&2; exit 3"]).sync()

    p = Pipeline("shop")
    p.stage("use", use, p.stage("make", make))
    p.stage("break", break_)
    return p


async def run_in_a_new_session(
    rootfs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Run, list[Event]]:
    feed, events = Feed(), list[Event]()
    async with Session(cache=cache, on_event=feed) as session:
        monkeypatch.setenv("DAGGER_SESSION_PORT", str(session.port))
        monkeypatch.setenv("DAGGER_SESSION_TOKEN", session.token)
        async with dagger.connection():
            run = await shop(rootfs).run(on_event=[events.append], feed=feed)
    return run, events


async def test_commands_and_output_are_told_of_the_stage_that_asked_for_them(
    rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, events = await run_in_a_new_session(rootfs, tmp_path, monkeypatch)
    nodes = {node.name: node for node in first.record.nodes}
    assert {name: node.status for name, node in nodes.items()} == {
        "make": Status.PASSED,
        "use": Status.PASSED,
        "break": Status.ERRORED,
    }
    counts = {name: (node.execs, node.cached_execs) for name, node in nodes.items()}
    assert counts == {"make": (1, 0), "use": (2, 0), "break": (1, 0)}
    lines = {(event.node, event.text) for event in events if isinstance(event, NodeOutput)}
    assert lines == {
        ("make", "making"),
        ("use", "used made"),
        ("use", "twice"),
        ("break", "out"),
        ("break", "err"),
    }
    evidence = nodes["break"].evidence
    assert evidence
    assert evidence.log.endswith("--- stdout\nout\n--- stderr\nerr\nexit code 3")

    second, _ = await run_in_a_new_session(rootfs, tmp_path, monkeypatch)
    cached = {node.name: node.cached for node in second.record.nodes}
    assert cached == {"make": True, "use": True, "break": False}
