"""Docker on this machine: a daemon of its own, with the engine's stand-in as base image."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from ci.engine.bootstrap.catalogue import with_stand_ins
from ci.engine.images.layout import flatten
from ci.engine.images.oci import Platform
from ci.engine.pulls import Pulls
from ci.engine.solver.secrets import Secrets, load_salt
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import FileRef, Tarball
from ci.settings import Settings

BASE = "debian:bookworm-slim"
_START_SECONDS = 120.0


@pytest.fixture(scope="package", autouse=True)
def _asked_for(request: pytest.FixtureRequest) -> None:
    """`make test` has no use for them; who runs all of a folder is told."""
    if "peers" not in (request.config.getoption("-m") or ""):
        pytest.skip("runs in `make test-peers`")


@dataclass(frozen=True)
class Docker:
    """A daemon that only tests use."""

    program: str
    host: str

    def run(self, *args: str | Path, check: bool = True) -> str:
        """What a command of the client prints."""
        env = {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1"}
        done = subprocess.run(
            [self.program, *args], env=env, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="package")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A daemon without network."""
    if shutil.which("dockerd") is None:
        pytest.skip("needs dockerd: apt-get install docker.io")
    if os.geteuid() != 0:
        pytest.skip("dockerd runs as root only")
    folder = tmp_path_factory.mktemp("dockerd")
    # Debian's client builds without a plugin; others need buildx, which may not be there.
    program = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
    docker = Docker(program, f"unix://{folder}/sock")
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", "--data-root", folder / "data", "--exec-root", folder / "run",
             "--pidfile", folder / "pid", "-H", docker.host, "--iptables=false", "--bridge=none"],
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _wait_ready(docker, daemon, folder / "log")
            yield docker
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)


def _wait_ready(docker: Docker, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not docker.run("info", "--format", "{{.ID}}", check=False).strip():
        assert daemon.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@dataclass(frozen=True)
class Base:
    """The engine's base image, for the daemon and for stores of tests' own."""

    archive: Path
    config: dict[str, Any]

    async def image_of(self, container: ContainerState, address: str) -> ContainerState:
        """A container on it, by the name that the daemon knows it by."""
        assert address == BASE
        return container.from_image(address, "sha256:peers", self.config, container.platform)

    def add_to(self, store: Store) -> None:
        """Make a store have it."""
        folder = store.temporary() / "root"
        flatten(self.archive, folder)
        store.put("image", "sha256:peers", {"layers": [store.add_layer(folder)]})


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The image that the engine resolves."""
    archive = tmp_path_factory.mktemp("base") / "base.tar"
    return Base(archive, anyio.run(_export, archive))


async def _export(target: Path) -> dict[str, Any]:
    """Write the image to an archive; its configuration."""
    with Store(Settings.from_environment().cache) as store:
        secrets = Secrets(load_salt(store.root / "salt"))
        images = with_stand_ins(store)
        async with Solver(store, secrets=secrets) as solver:
            empty = ContainerState(platform=str(Platform.of_host()))
            container = await Pulls(images, secrets).base(empty, BASE)
            config = container.image_config()
            tarball = Tarball(
                roots=(container.root,), configs=(json.dumps(config),), media_types="docker"
            )
            await solver.export_file(FileRef(tree=tarball, path="/container.tar"), target)
        await images.close()
    return config


@pytest.fixture(scope="package")
def loaded(dockerd: Docker, base: Base) -> Docker:
    """The daemon, with the engine's base image."""
    identity = dockerd.run("load", "-q", "-i", base.archive).split()[-1]
    dockerd.run("tag", identity, BASE)
    return dockerd


@dataclass(frozen=True)
class Engine:
    """The parts of the embedded engine that builds need."""

    solver: Solver
    secrets: Secrets


@pytest.fixture(scope="package")
def cache(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has nothing but the base image: what is built is built now."""
    folder = tmp_path_factory.mktemp("cache")
    with Store(folder) as store:
        base.add_to(store)
    return folder


@pytest.fixture
async def engine(cache: Path) -> AsyncIterator[Engine]:
    """An engine."""
    with Store(cache) as store:
        secrets = Secrets(load_salt(store.root / "salt"))
        async with Solver(store, secrets=secrets) as solver:
            yield Engine(solver, secrets)
