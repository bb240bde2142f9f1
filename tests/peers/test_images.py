"""Images go out to Docker, Podman and skopeo and come back from them: the same files and config."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagger
import pytest
import zstandard

from ci.engine.images.layout import flatten
from tests.engine.api.test_registries import give
from tests.engine.images.conftest import RegistryServer, registry
from tests.peers.conftest import Docker
from tests.sdk_session import embedded_session

__all__ = ["registry"]

pytestmark = [pytest.mark.peers, pytest.mark.timeout(900)]

BASE = "debian:bookworm-slim"

#: One of everything that a layer can hold.
MAKE = r"""
set -eu
mkdir -p /srv/app/deep /srv/sticky
echo data > /srv/app/file; ln /srv/app/file /srv/app/hard; ln -s ../app/file /srv/app/soft
chown 1000:1001 /srv/app/file; chown -h 1000:1001 /srv/app/soft; chown 7:8 /srv/app/deep
chmod 1777 /srv/sticky; chmod 0750 /srv/app/deep
cp /bin/true /srv/setuid; chmod 4711 /srv/setuid; chmod 2755 /srv/app
mkfifo -m 0600 /srv/fifo
printf x > "/srv/$(printf 'n%.0s' $(seq 1 200))"
printf x > "/srv/sp ace and ünïcode"
truncate -s 3M /srv/sparse; printf end >> /srv/sparse
"""
#: Then, upon it, in another layer: deletions and replacements.
CHANGE = r"""
set -eu
rm /etc/debian_version; rm -r /usr/share/doc; mkdir /usr/share/doc; echo new > /usr/share/doc/new
rm /srv/app/hard; ln /srv/app/file /srv/linked-across; rm -r /srv/sticky; echo file > /srv/sticky
"""


@pytest.fixture(scope="module")
def docker(dockerd: Docker) -> Callable[..., str]:
    """The client of the tests' own daemon."""
    return dockerd.run


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Podman over a store of its own."""
    if shutil.which("podman") is None:
        pytest.skip("needs podman: apt-get install podman")
    folder = tmp_path_factory.mktemp("podman")

    def run(*args: str | Path) -> str:
        return call(
            "podman", "--root", folder / "root", "--runroot", folder / "run", "--runtime", "runc",
            "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay", *args,
        )  # fmt: skip

    yield run
    run("rmi", "--all", "--force")
    subprocess.run(["umount", folder / "root/overlay"], capture_output=True, check=False)


def call(*args: str | Path, **options: Any) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        args, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with embedded_session():
        yield


@pytest.fixture
async def image(session: None) -> Any:
    """A container with one of everything in it."""
    async with dagger.connection():
        yield (
            dagger.dag.container()
            .from_(BASE)
            .with_exec(["sh", "-c", MAKE])
            .with_exec(["sh", "-c", CHANGE])
            .with_env_variable("GREETING", "hello, ünïcode")
            .with_label("org.opencontainers.image.title", "everything")
            .with_annotation("org.opencontainers.image.description", "one of everything")
            .with_exposed_port(8080)
            .with_user("www-data")
            .with_workdir("/srv/app")
            .with_entrypoint(["/bin/sh", "-c"])
            .with_default_args(["id -u; pwd; cat file; echo $GREETING"])
        )


# -- what is compared ----------------------------------------------------------------------------

#: What a runtime makes by itself, or mounts over.
_OWN = {".dockerenv", "dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf",
        "etc/mtab", "run/.containerenv", "run"}  # fmt: skip

Facts = dict[str, tuple[Any, ...]]


def facts_of_tar(path: Path) -> Facts:
    """By name: kind, permissions, owner, content, target."""
    found: Facts = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = member.name.removeprefix("./").rstrip("/")
            if name in _OWN or not name or name.startswith(("dev/", "proc/", "sys/", "run/")):
                continue
            if member.islnk():
                found[name] = found[member.linkname.removeprefix("./")]
                continue
            file = tar.extractfile(member) if member.isreg() else None
            digest = hashlib.sha256(file.read()).hexdigest() if file else ""
            kind = {b"0": "f", b"5": "d", b"2": "l", b"6": "p"}[member.type]
            mode = 0 if kind == "l" else member.mode & 0o7777
            found[name] = (kind, mode, member.uid, member.gid, digest, member.linkname)
    return found


def facts_of_folder(folder: Path) -> Facts:
    found: Facts = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name in _OWN or name.startswith(("dev/", "proc/", "sys/", "run/")):
            continue
        status = path.lstat()
        kind = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}[
            stat.S_IFMT(status.st_mode)
        ]
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if kind == "f" else ""
        target = str(path.readlink()) if kind == "l" else ""
        mode = 0 if kind == "l" else stat.S_IMODE(status.st_mode)
        found[name] = (kind, mode, status.st_uid, status.st_gid, digest, target)
    return found


def differences(one: Facts, other: Facts) -> dict[str, Any]:
    return {
        name: (one.get(name), other.get(name))
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    }


def plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration an image is run by; how nothing is written does not matter."""
    keys = ("User", "WorkingDir", "Entrypoint", "Cmd", "Env", "Labels", "ExposedPorts", "Volumes",
            "StopSignal", "Healthcheck")  # fmt: skip
    return {key: config[key] for key in keys if config.get(key)}


async def exported(image: Any, path: Path, **options: Any) -> tuple[Facts, dict[str, Any]]:
    """Files and configuration of the archive that the engine writes to ``path``."""
    await image.export(str(path), **options)
    rootfs = path.with_suffix(".rootfs")
    config = flatten(path, rootfs)
    return facts_of_folder(rootfs), plain_config(config["config"])


def facts_of(run: Callable[..., str], name: str, folder: Path) -> Facts:
    """Of an image in Docker or Podman."""
    container = run("create", name).strip()
    target = folder / "exported.tar"
    run("export", "-o", target, container)
    run("rm", container)
    return facts_of_tar(target)


# -- out -------------------------------------------------------------------------------------------

OCI = dagger.ImageMediaTypes.OCIMediaTypes
DOCKER = dagger.ImageMediaTypes.DockerMediaTypes
GZIP = dagger.ImageLayerCompression.Gzip
ZSTD = dagger.ImageLayerCompression.Zstd
PLAIN = dagger.ImageLayerCompression.Uncompressed

#: Podman's default limits are above what a machine may allow.
LIMITS = ("--rm", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
SAID = "33\n/srv/app\ndata\nhello, ünïcode\n"


def loaded(run: Callable[..., str], archive: Path) -> str:
    """Load an archive; the name or ID by which the image can be had."""
    return run("load", "-i", archive).strip().splitlines()[-1].rpartition(": ")[2]


@pytest.mark.parametrize(("media_types", "compression"), [(OCI, GZIP), (DOCKER, PLAIN)])
async def test_docker_loads_and_runs_what_the_engine_exports(
    image, docker, tmp_path, media_types, compression
):
    archive = tmp_path / "image.tar"
    files, config = await exported(
        image, archive, media_types=media_types, forced_compression=compression
    )
    name = loaded(docker, archive)
    assert differences(facts_of(docker, name, tmp_path), files) == {}
    assert plain_config(json.loads(docker("inspect", name))[0]["Config"]) == config
    assert docker("run", "--rm", "--network=none", name) == SAID


@pytest.mark.parametrize(
    ("media_types", "compression"), [(OCI, GZIP), (OCI, ZSTD), (DOCKER, PLAIN)]
)
async def test_podman_loads_and_runs_what_the_engine_exports(
    image, podman, tmp_path, media_types, compression
):
    archive = tmp_path / "image.tar"
    files, config = await exported(
        image, archive, media_types=media_types, forced_compression=compression
    )
    name = loaded(podman, archive)
    assert differences(facts_of(podman, name, tmp_path), files) == {}
    assert plain_config(json.loads(podman("inspect", name))[0]["Config"]) == config
    assert podman("run", *LIMITS, name) == SAID


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
async def test_skopeo_inspects_and_copies_what_the_engine_exports(image, tmp_path, transport):
    archive = tmp_path / "image.tar"
    files, config = await exported(image, archive)
    told = json.loads(call("skopeo", "inspect", "--config", f"{transport}:{archive}"))
    assert plain_config(told["config"]) == config
    raw = json.loads(call("skopeo", "inspect", "--raw", f"oci-archive:{archive}"))
    assert raw["annotations"] == {"org.opencontainers.image.description": "one of everything"}
    call("skopeo", "--insecure-policy", "copy", f"{transport}:{archive}", f"oci:{tmp_path}/oci:x")
    flatten(tmp_path / "oci", tmp_path / "copied")
    assert differences(facts_of_folder(tmp_path / "copied"), files) == {}


# -- back -----------------------------------------------------------------------------------------

DOCKERFILE = """\
FROM base
USER root
COPY make.sh change.sh /
RUN /bin/sh /make.sh
RUN /bin/sh /change.sh && rm /make.sh /change.sh
ENV GREETING="hello, ünïcode" OTHER="a b=c"
LABEL org.opencontainers.image.title="everything"
EXPOSE 8080 53/udp
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD true
USER www-data
WORKDIR /srv/app
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["id -u; pwd; cat file; echo $GREETING"]
"""


@pytest.fixture
async def context(image: Any, tmp_path: Path) -> Path:
    """A folder with that Dockerfile, and ``base.tar``."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "make.sh").write_text(MAKE)
    (folder / "change.sh").write_text(CHANGE)
    await dagger.dag.container().from_(BASE).export(str(tmp_path / "base.tar"))
    return folder


async def taken_back(archive: Path, **options: Any) -> tuple[str, Facts, dict[str, Any]]:
    """What the engine makes of another's archive: output, files and configuration."""
    container = dagger.dag.container().import_(dagger.dag.host().file(str(archive)), **options)
    said = await container.with_exec([], use_entrypoint=True).stdout()
    again = archive.with_suffix(".again.tar")
    return said, *(await exported(container, again))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
async def test_the_engine_runs_what_docker_built_and_saved(docker, context, tmp_path, compress):
    docker("tag", loaded(docker, tmp_path / "base.tar"), "base")
    docker("build", "--network=none", "-t", "peer:1", context)
    saved = tmp_path / "saved.tar"
    docker("save", "-o", saved, "base", "peer:1")
    saved.write_bytes(compress(saved.read_bytes()))
    said, files, config = await taken_back(saved, tag="peer:1")
    assert said == SAID
    assert differences(files, facts_of(docker, "peer:1", tmp_path)) == {}
    assert config == plain_config(json.loads(docker("inspect", "peer:1"))[0]["Config"])


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
async def test_the_engine_runs_what_podman_built_and_saved(podman, context, tmp_path, form):
    podman("tag", loaded(podman, tmp_path / "base.tar"), "localhost/base")
    podman("build", "--network=host", "--isolation=chroot", "--format=docker",
           "-t", "localhost/peer:1", context)  # fmt: skip
    saved = tmp_path / "saved.tar"
    podman("save", "--format", form, "-o", saved, "localhost/peer:1")
    said, files, config = await taken_back(saved)
    assert said == SAID
    assert differences(files, facts_of(podman, "localhost/peer:1", tmp_path)) == {}
    told = json.loads(podman("inspect", "localhost/peer:1"))[0]
    # OCI has no health checks, and Podman shows them elsewhere.
    health = {"Healthcheck": told["Healthcheck"]} if form == "docker-archive" else {}
    assert config == plain_config({**told["Config"], **health})


# -- by a registry ---------------------------------------------------------------------------------


async def test_docker_and_podman_pull_what_the_engine_published(
    image, docker, podman, registry: RegistryServer, tmp_path
):
    arm = dagger.dag.container(platform=dagger.Platform("linux/arm64")).with_new_file("/arm", "64")
    published = await dagger.dag.container().publish(
        f"{registry.host}/peer/out:1", platform_variants=[image, arm]
    )
    address, _, digest = published.partition("@")
    assert digest.startswith("sha256:")
    files, config = await exported(image, tmp_path / "image.tar")
    for run, more in ((docker, ()), (podman, ("--tls-verify=false",))):
        run("pull", *more, published)
        assert differences(facts_of(run, published, tmp_path), files) == {}
        told = json.loads(run("inspect", published))[0]
        assert plain_config(told["Config"]) == config
        assert f"{registry.host}/peer/out@{digest}" in told["RepoDigests"]
    index = json.loads(
        call("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{address}")
    )
    assert [entry["platform"] for entry in index["manifests"]] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64"},
    ]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "zstd:chunked"])
async def test_the_engine_pulls_what_others_pushed(
    docker, podman, context, registry: RegistryServer, tmp_path, compression
):
    name = f"{registry.host}/peer/{compression.replace(':', '-')}:1"
    podman("tag", loaded(podman, tmp_path / "base.tar"), name)
    podman("push", "--tls-verify=false", "--format=oci", "--compression-format", compression, name)
    pulled = dagger.dag.container().from_(name)
    files, config = await exported(pulled, tmp_path / "again.tar")
    assert differences(files, facts_of(podman, name, tmp_path)) == {}
    assert config == plain_config(json.loads(podman("inspect", name))[0]["Config"])
    assert (await pulled.with_exec(["cat", "/etc/debian_version"]).stdout()).startswith("12.")


# -- to this machine -------------------------------------------------------------------------------


async def test_an_image_goes_to_docker_itself_and_comes_back(
    image, dockerd: Docker, tmp_path, monkeypatch
):
    monkeypatch.setenv("DOCKER_HOST", dockerd.host)
    files, config = await exported(image, tmp_path / "image.tar")
    await give(image, "towpath/given:1")
    assert differences(facts_of(dockerd.run, "towpath/given:1", tmp_path), files) == {}
    taken = dagger.dag.host().container_image("towpath/given:1")
    assert await exported(taken, tmp_path / "again.tar") == (files, config)
    with pytest.raises(dagger.QueryError, match=r"image towpath/none:1, docker save: got "):
        await dagger.dag.host().container_image("towpath/none:1").sync()
