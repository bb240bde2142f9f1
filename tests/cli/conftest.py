"""`ci` as users run it: a program of its own, in a folder of its own, on the user's own store."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
EXAMPLE = TOP / "examples" / "gym-api"
CI = Path(sys.executable).with_name("ci")

#: What tools leave behind is no part of a copy.
LEFT_BEHIND = shutil.ignore_patterns(
    ".venv*", "__pycache__", ".towpath", ".*_cache", ".hypothesis", "*.egg-info", ".coverage"
)
#: Of the machine's environment, what would change how `ci` shows or delivers.
OWN = ("CI", "NO_COLOR", "TOWPATH_STATE", "DAGGER_SESSION_PORT", "DAGGER_SESSION_TOKEN")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n-- stdout\n{self.out}\n-- stderr\n{self.err}"


@dataclass(frozen=True, kw_only=True)
class Cli:
    """Runs `ci` in one folder; local environments are in a state folder of its own."""

    folder: Path
    state: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in OWN}
        return {**kept, "TOWPATH_STATE": str(self.state), **self.environ}

    @contextmanager
    def started(self, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """`ci` with these arguments, running within the context."""
        with subprocess.Popen(
            [CI, *map(str, arguments)],
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def __call__(self, *arguments: str | Path) -> Ran:
        with self.started(*arguments) as process:
            out, err = process.communicate()
        return Ran(code=process.returncode, out=out, err=err)

    @property
    def runs(self) -> list[Path]:
        """The folders of the runs so far, oldest first."""
        return sorted((self.folder / ".towpath" / "runs").glob("2*"))

    def stop_environments(self) -> None:
        for line in self("environments").out.splitlines():
            project, _, name = line.split()[0].partition("/")
            self("stop", name, f"--project={project}")


@pytest.fixture
def ci(tmp_path: Path) -> Iterator[Cli]:
    # Sockets are in the state folder, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="tp-") as state:
        cli = Cli(folder=tmp_path, state=Path(state))
        yield cli
        if any(Path(state).iterdir()):
            cli.stop_environments()


@pytest.fixture
def gym(tmp_path: Path) -> Path:
    """A copy of examples/gym-api whose environments have ports that are free."""
    copy = tmp_path / "gym-api"
    shutil.copytree(EXAMPLE, copy, ignore=LEFT_BEHIND)
    config = copy / "ci.toml"
    text = config.read_text()
    for port, free in zip((8081, 8082, 8083), free_ports(3), strict=True):
        assert f"port = {port}\n" in text
        text = text.replace(f"port = {port}\n", f"port = {free}\n")
    config.write_text(text)
    return copy


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on, below those that the kernel gives out.

    The same ones each time, where they are free: so the copies are the same, and their stages
    come from the store. Tests that run at once choose among others.
    """
    found: list[int] = []
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in range(18081 + 300 * worker, 19081 + 300 * worker):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} free ports")


def edit(file: Path, old: str, new: str) -> None:
    """Replace the one place that says ``old``."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name} says {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new))
