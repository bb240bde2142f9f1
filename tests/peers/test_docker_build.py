"""dockerBuild makes what ``docker build`` makes: files, modes, owners, times and config."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ci.engine.dockerfile.build import build
from ci.engine.images.oci import Platform
from ci.engine.trees.digest import owner_of
from ci.engine.trees.merged import MergedTree
from ci.engine.vertices.container import ContainerState
from ci.engine.vertices.vertex import DirectoryRef, HostDirectory
from tests.peers.conftest import Base, Docker, Engine
from tests.peers.dockerfiles import CASES, EPOCH, Case

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]

#: What Docker puts into every container, and what is mounted there.
_DOCKER_S_OWN = ("dev", "proc", "sys", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf",
                 "etc/mtab")  # fmt: skip
#: Times that a build context has, or an archive in it.
_TIMES = range(EPOCH, EPOCH + 366 * 86400)
#: What Docker writes of a container that is none of an image.
_NOT_OF_IMAGES = ("Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty",
                  "OpenStdin", "StdinOnce", "Image")  # fmt: skip

Fact = tuple[object, ...]
Facts = dict[str, Fact]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_dockerfile_gives_the_same_image(
    case: Case, loaded: Docker, base: Base, engine: Engine, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    case.write(context)
    files, config = built_by_docker(case, loaded, context, tmp_path)
    container = await built_by_engine(case, engine, base, context)
    snapshot = await engine.solver.snapshot(container.root)
    own = entries(MergedTree(engine.solver.store.layer_paths(snapshot)))
    assert differences(own, files) == {}
    assert container.image_config()["config"] == config.pop("Config")
    assert container.author == config["Author"]


def built_by_docker(
    case: Case, docker: Docker, context: Path, scratch: Path
) -> tuple[Facts, dict[str, Any]]:
    """Files and configuration of Docker's image."""
    options: list[str] = []
    for name, value in case.args.items():
        options += ["--build-arg", f"{name}={value}"]
    for name, value in case.secrets.items():
        (scratch / name).write_text(value)
        options += ["--secret", f"id={name},src={scratch / name}"]
    if case.target:
        options += ["--target", case.target]
    docker.run("build", "-q", "--network=host", "--iidfile", scratch / "id", *options, context)
    identity = (scratch / "id").read_text().strip()
    (described,) = json.loads(docker.run("image", "inspect", identity))
    container = docker.run("create", "--network=none", identity, "true").strip()
    docker.run("export", "-o", scratch / "files.tar", container)
    docker.run("rm", container)
    config = {k: v for k, v in described["Config"].items() if v and k not in _NOT_OF_IMAGES}
    return exported(scratch / "files.tar"), {"Config": config, "Author": described["Author"]}


async def built_by_engine(case: Case, engine: Engine, base: Base, context: Path) -> ContainerState:
    """The engine's container."""
    secrets = {name: engine.secrets.set(name, value) for name, value in case.secrets.items()}
    return await build(
        engine.solver,
        base.image_of,
        DirectoryRef(tree=HostDirectory(path=str(context))),
        dockerfile="Dockerfile",
        platform=str(Platform.of_host()),
        build_args=case.args,
        target=case.target,
        secrets=secrets,
        no_init=False,
    )


def exported(path: Path) -> Facts:
    """Type, permissions, owner, content and time of each file of ``docker export``."""
    found: Facts = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = member.name.rstrip("/")
            if is_docker_s_own(name):
                continue
            if member.islnk():
                found[name] = found[member.linkname]
                continue
            content = ""
            if member.isreg():
                file = tar.extractfile(member)
                assert file is not None
                content = hashlib.sha256(file.read()).hexdigest()
            kind = {tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "symlink"}.get(
                member.type, "file"
            )
            mode = 0 if member.issym() else stat.S_IMODE(member.mode)
            found[name] = facts(
                kind, mode, (member.uid, member.gid), content or member.linkname, member.mtime
            )
    return found


def entries(tree: MergedTree) -> Facts:
    """The same of a tree of the engine."""
    root = tree.root()
    assert root is not None
    found: Facts = {}
    for entry in tree.walk(root):
        name = entry.path[1:]
        if is_docker_s_own(name):
            continue
        content = ""
        if entry.kind == "file":
            content = hashlib.sha256(Path(entry.host).read_bytes()).hexdigest()
        elif entry.kind == "symlink":
            content = str(Path(entry.host).readlink())
        mode = 0 if entry.kind == "symlink" else stat.S_IMODE(entry.status.st_mode)
        time = int(entry.status.st_mtime)
        found[name] = facts(entry.kind, mode, owner_of(entry), content, time)
    return found


def is_docker_s_own(name: str) -> bool:
    return any(name == one or name.startswith(one + "/") for one in _DOCKER_S_OWN)


def facts(kind: str, mode: int, owner: tuple[int, int], content: str, time: float) -> Fact:
    """What is compared. Of times: those that a file has from the build context."""
    kept = int(time) if kind != "directory" and int(time) in _TIMES else 0
    return kind, f"{mode:o}", owner, content, kept


def differences(own: Facts, docker: Facts) -> dict[str, tuple[object, object]]:
    """What is not the same, by name: the engine's, Docker's."""
    return {
        name: (own.get(name), docker.get(name))
        for name in sorted(own.keys() | docker.keys())
        if own.get(name) != docker.get(name)
    }
