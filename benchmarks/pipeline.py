"""The pipeline as a user runs it, a whole process each time, on a store of its own.

The store has the images and nothing else before the first run, so that it is the pipeline that is
measured and not the network to a registry; how long the images took is told beside it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ci.events import ExecFinished, RunStarted, parse
from ci.graph import Graph
from ci.records.run import RunRecord

TOP = Path(__file__).resolve().parent.parent
CI = Path(sys.executable).with_name("ci")
#: Everything but the deliveries.
UP_TO = "security"

PREFETCH = """
import sys, anyio, dagger
async def main():
    async with dagger.connection():
        for reference in sys.argv[1:]:
            await dagger.dag.container().from_(reference).sync()
anyio.run(main)
"""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A command that ended. In seconds and MiB; memory is of the process alone."""

    seconds: float
    cpu: float
    peak: float
    out: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All figures; in seconds and MiB."""

    images: float
    #: What the sandbox can do for this user, see ``ci doctor``.
    sandbox: str
    first: Process
    again: Sequence[Process]
    #: Seconds of the tools on the longest chain, and of all of them.
    critical_path: float
    chain: Sequence[str]
    work: float
    #: A command whose work is all in the store: `ci lint`.
    command: float
    #: The run itself, from its first event to its last: without the interpreter's start.
    run: float

    @property
    def second(self) -> float:
        return statistics.median(each.seconds for each in self.again)

    @property
    def second_cpu(self) -> float:
        return statistics.median(each.cpu for each in self.again)

    @property
    def peak(self) -> float:
        return max(each.peak for each in (self.first, *self.again))


def measure(rounds: int) -> Measured:
    """A first run, then ``rounds`` without a change."""
    with scratch() as folder:
        return _measure(folder, rounds)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder where the user's caches are, removed afterwards: stores are made in it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="towpath-bench-", dir=cache)
    try:
        yield Path(folder)
    finally:
        # Layers hold what only rm can be bothered to remove: folders without permissions.
        subprocess.run(["rm", "-rf", folder], check=True)


def _measure(scratch: Path, rounds: int) -> Measured:
    source, database = scratch / "gym-api", scratch / "trivy-db"
    left = shutil.ignore_patterns(".venv*", "__pycache__", ".towpath", ".*_cache", "*.egg-info")
    shutil.copytree(TOP / "examples" / "gym-api", source, ignore=left)
    make = [sys.executable, str(TOP / "examples" / "trivy-db" / "make.py"), str(database)]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    pipeline = ["pipeline", f"--source={source}", f"--database={database}", f"--only={UP_TO}"]

    _run(pipeline, cwd=scratch)  # on the user's own store, to learn which images are needed
    known = RunRecord.load(scratch / ".towpath" / "runs" / "latest")
    images = [each.reference for each in known.images]
    environ = {"TOWPATH_CACHE": str(scratch / "store")}
    program = ["engine", "run", "--", sys.executable, "-c", PREFETCH, *images]
    fetched = _run(program, cwd=scratch, environ=environ)
    first = _run([*pipeline, "--json"], cwd=scratch, environ=environ)
    again = [_run(pipeline, cwd=scratch, environ=environ) for _ in range(rounds)]
    lint = ["lint", f"--source={source}"]
    calls = [_run(lint, cwd=scratch, environ=environ) for _ in range(rounds)]

    needs, tools = _tools(first.out)
    chain, seconds = Graph(needs).critical_path(tools)
    events = [parse(line) for line in first.out.splitlines()]
    return Measured(
        images=fetched.seconds,
        sandbox=known.engine.sandbox,
        first=first,
        again=again,
        command=statistics.median(each.seconds for each in calls),
        critical_path=seconds,
        chain=[name for name in chain if tools.get(name)],
        work=sum(tools.values()),
        run=(events[-1].at - events[0].at).total_seconds(),
    )


def slots() -> int:
    """How many stages run at once, where ci.toml says nothing of it."""
    return max(2, os.cpu_count() or 1)


def _tools(events: str) -> tuple[Mapping[str, Sequence[str]], Mapping[str, float]]:
    """What each node needs, and the seconds of the commands that it ran."""
    needs: dict[str, Sequence[str]] = {}
    tools: dict[str, float] = {}
    for event in map(parse, events.splitlines()):
        if isinstance(event, RunStarted):
            needs = {node.name: node.needs for node in event.nodes}
        elif isinstance(event, ExecFinished) and not event.cached:
            tools[event.node] = tools.get(event.node, 0.0) + event.seconds
    return needs, tools


def _run(
    arguments: Sequence[str | Path], *, cwd: Path, environ: Mapping[str, str] | None = None
) -> Process:
    """`ci` with these arguments.

    Raises:
        SystemExit: it did not end with 0.
    """
    before = os.times()
    began = time.perf_counter()
    with subprocess.Popen(
        [CI, *arguments],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        peak = _Peak(process.pid)
        out, err = process.communicate()
        seconds = time.perf_counter() - began
        peak.stop()
    after = os.times()
    if process.returncode:
        sys.exit(f"ci {' '.join(map(str, arguments))}: exit code {process.returncode}\n{err}")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Process(seconds=seconds, cpu=cpu, peak=peak.mib, out=out)


class _Peak:
    """The high-water mark of a process's own memory, which getrusage mixes with its children's."""

    def __init__(self, pid: int) -> None:
        self.mib = 0.0
        self._status = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            try:
                text = self._status.read_text()
            except OSError:
                return
            for line in text.splitlines():
                if line.startswith("VmHWM:"):
                    self.mib = max(self.mib, int(line.split()[1]) / 1024)


def startup(rounds: int) -> dict[str, float]:
    """Median seconds of CPU of starting up and doing nothing: an interpreter, the SDK, `ci`."""
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "import dagger": [sys.executable, "-c", "import dagger"],
        "ci pipeline --help": [str(CI), "pipeline", "--help"],
    }
    return {name: _cpu(command, rounds) for name, command in commands.items()}


def _cpu(command: Sequence[str], rounds: int) -> float:
    spent = []
    for _ in range(rounds):
        before = os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        spent.append(
            after.children_user - before.children_user
            + after.children_system - before.children_system
        )  # fmt: skip
    return statistics.median(spent)
