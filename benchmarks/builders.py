"""Who builds: the embedded engine, and its peers Docker (BuildKit) and Podman, by hand.

Each has an engine, or a store, of its own for as long as its context lasts, which already has the
base image: what is measured is building.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import anyio
import dagger
from anyio.streams.buffered import BufferedByteReceiveStream
from dagger import dag

BASE = "debian:bookworm-slim"
#: The base, by a name that no registry is asked for.
_LOCAL = "localhost/towpath-bench:base"
_CI = Path(sys.executable).with_name("ci")
_DEADLINE = 600.0
#: Tells where the engine is, and keeps it until it is told to end.
_TELL = """
import os, sys
print(os.environ["DAGGER_SESSION_PORT"], os.environ["DAGGER_SESSION_TOKEN"], flush=True)
sys.stdin.read()
"""


class Builder(Protocol):
    """Builds the Dockerfile of a folder."""

    name: str
    #: As many builds at once as are worth trying.
    most: int

    async def build(self, folder: Path) -> None:
        """Return when it is built.

        Raises:
            RuntimeError: it cannot be built; the text says why.
        """
        ...

    def peak(self) -> float:
        """MiB: the highest so far of all processes that stay from build to build."""
        ...


class Towpath:
    """The embedded engine, in a process of its own, asked by the SDK over an open connection."""

    name = "Towpath"
    most = 100

    def __init__(self, pid: int) -> None:
        self._pid = pid

    async def build(self, folder: Path) -> None:
        await built(folder).sync()

    def peak(self) -> float:
        return high_water(self._pid)


def built(folder: Path) -> dagger.Container:
    """The image of a folder's Dockerfile."""
    # Read anew each time, as the peers do: else a session reads a folder once.
    source = dag.host().directory(str(folder), no_cache=True)
    return source.docker_build(build_args=[dagger.BuildArg("BASE", BASE)])


class WholeProcess:
    """The embedded engine as a command: start, build, end."""

    name = "Towpath, whole process"
    most = 1

    def __init__(self, store: Path) -> None:
        self._store = store

    async def build(self, folder: Path) -> None:
        program = [sys.executable, "-m", "benchmarks.builders", str(folder)]
        environ = {"TOWPATH_CACHE": str(self._store)}
        await run([str(_CI), "engine", "run", "--", *program], environ=environ)

    def peak(self) -> float:
        return 0.0


class Docker:
    """BuildKit in dockerd, asked by ``docker build``."""

    name = "docker build (BuildKit)"
    most = 100

    def __init__(self, socket: Path, pids: list[int]) -> None:
        self._environ = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "1"}
        self._pids = pids

    async def command(self, *arguments: str) -> str:
        return await run(["/usr/bin/docker", *arguments], environ=self._environ)

    async def build(self, folder: Path) -> None:
        options = ["--quiet", "--network=host", f"--build-arg=BASE={_LOCAL}"]
        await self.command("build", *options, str(folder))

    def peak(self) -> float:
        return sum(high_water(pid) for pid in self._pids)


class Podman:
    """Buildah in ``podman build``: no daemon, a process for each build."""

    name = "podman build"
    most = 10  # each waits for the others' locks: 100 take minutes

    def __init__(self, folder: Path, state: str) -> None:
        self.root = folder / "root"
        self._options = [f"--root={self.root}", f"--runroot={state}",
                         "--cgroup-manager=cgroupfs", "--runtime=runc"]  # fmt: skip

    async def command(self, *arguments: str) -> str:
        return await run(["podman", *self._options, *arguments])

    async def build(self, folder: Path) -> None:
        options = ["--quiet", "--network=host", "--layers", f"--build-arg=BASE={_LOCAL}"]
        await self.command("build", *options, str(folder))

    def peak(self) -> float:
        return 0.0


# -- their lives ----------------------------------------------------------------------------------


@asynccontextmanager
async def towpath(scratch: Path) -> AsyncIterator[Towpath]:
    """An engine on a store of its own; ``dagger.dag`` is connected to it."""
    async with await anyio.open_process(
        [str(_CI), "engine", "run", "--", sys.executable, "-c", _TELL],
        env={**os.environ, "TOWPATH_CACHE": str(scratch / "store")},
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1000)
            port, token = line.decode().split()
            os.environ |= {"DAGGER_SESSION_PORT": port, "DAGGER_SESSION_TOKEN": token}
            async with dagger.connection():
                await dag.container().from_(BASE).sync()
                yield Towpath(process.pid)
        finally:
            os.environ.pop("DAGGER_SESSION_PORT", None)
            os.environ.pop("DAGGER_SESSION_TOKEN", None)
            await process.stdin.aclose()
            await process.wait()


async def base_archive(folder: Path) -> Path:
    """The base image as an archive that the peers load."""
    archive = folder / "base.tar"
    types = dagger.ImageMediaTypes.DockerMediaTypes
    await dag.container().from_(BASE).export(str(archive), media_types=types)
    return archive


@asynccontextmanager
async def docker(scratch: Path, base: Path) -> AsyncIterator[Docker]:
    """A dockerd started by hand, that reaches no network and is reached by none."""
    folder = scratch / "docker"
    folder.mkdir()
    socket, pidfile = folder / "sock", folder / "pid"
    command = ["dockerd", f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}",
               f"--pidfile={pidfile}", f"--host=unix://{socket}", "--iptables=false",
               "--bridge=none"]  # fmt: skip
    async with await anyio.open_process(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as daemon:
        try:
            one = Docker(socket, [daemon.pid])
            with anyio.fail_after(60):
                while not (socket.exists() and children(daemon.pid)):  # noqa: ASYNC110
                    await anyio.sleep(0.1)
            one = Docker(socket, [daemon.pid, *children(daemon.pid)])
            loaded = await one.command("load", "--input", str(base))
            await one.command("tag", identity(loaded), _LOCAL)
            yield one
        finally:
            daemon.send_signal(signal.SIGTERM)
            with anyio.CancelScope(shield=True):
                await daemon.wait()


@asynccontextmanager
async def podman(scratch: Path, base: Path) -> AsyncIterator[Podman]:
    """A storage of its own for Podman."""
    with tempfile.TemporaryDirectory(prefix="towpath-") as state:  # 50 characters at most
        one = Podman(scratch / "podman", state)
        loaded = await one.command("load", "--input", str(base))
        await one.command("tag", identity(loaded), _LOCAL)
        try:
            yield one
        finally:
            await anyio.run_process(["umount", "--lazy", str(one.root / "overlay")], check=False)


def missing(*programs: str) -> str:
    """Why a peer cannot run here, or nothing."""
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed"
    return "" if os.geteuid() == 0 else "it needs root"


# -- processes ------------------------------------------------------------------------------------


async def run(command: list[str], *, environ: dict[str, str] | None = None) -> str:
    """Its standard output. Raises RuntimeError with the end of what it said, where it failed."""
    with anyio.fail_after(_DEADLINE):
        done = await anyio.run_process(command, check=False, env={**os.environ, **(environ or {})})
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise RuntimeError(said[-300:])
    return done.stdout.decode()


def identity(said: str) -> str:
    """The image that a command says it loaded."""
    found = re.search(r"sha256:[0-9a-f]{64}", said)
    if found is None:
        raise RuntimeError(f"no image in {said!r}")
    return found[0].removeprefix("sha256:")


def children(pid: int) -> list[int]:
    """Of a process, its direct children."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    text = " ".join((task / "children").read_text() for task in tasks)
    return [int(word) for word in text.split()]


def high_water(pid: int) -> float:
    """MiB of resident memory at its highest."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


async def _alone(folder: Path) -> None:
    async with dagger.connection():
        await built(folder).sync()


if __name__ == "__main__":
    anyio.run(_alone, Path(sys.argv[1]))
