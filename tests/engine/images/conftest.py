"""Stores, made-up images, and a real registry on loopback."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from ci.engine.images import archive
from ci.engine.store.layers import make_whiteout
from ci.engine.store.store import Store

_CONFIG = """\
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http: {{addr: 127.0.0.1:{port}, secret: none{tls}}}
{auth}
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def make_layers(folder: Path) -> list[Path]:
    """Two layer folders: the second changes and deletes what the first has."""
    lower, upper = folder / "lower", folder / "upper"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc/motd").write_text("hello\n")
    (lower / "etc/old").write_text("old\n")
    (lower / "run.sh").write_text("#!/bin/sh\n")
    (lower / "link").symlink_to("etc/motd")
    (upper / "etc").mkdir(parents=True)
    (upper / "etc/motd").write_text("goodbye\n")
    for path in [*lower.rglob("*"), *upper.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.name == "run.sh" else 0o644)
    make_whiteout(str(upper / "etc/old"))
    return [lower, upper]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An OCI archive of two small layers."""
    target = tmp_path / "image.tar"
    config = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/run.sh"]}}
    archive.write(target, platforms=[(make_layers(tmp_path / "made"), config)], epoch=0)
    return target


class RegistryServer:
    """Debian's docker-registry, started by hand."""

    def __init__(
        self,
        folder: Path,
        login: tuple[str, str] | None = None,
        *,
        certificate: Path | None = None,
        auth: str = "",
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        folder.mkdir()
        tls = (
            f", tls: {{certificate: {certificate}, key: {certificate}.key}}" if certificate else ""
        )
        self._scheme = "https" if certificate else "http"
        if login:
            hashed = subprocess.run(
                ["htpasswd", "-nbB", *login], check=True, capture_output=True, text=True
            ).stdout
            (folder / "htpasswd").write_text(hashed)
            auth = f"auth: {{htpasswd: {{realm: towpath, path: {folder}/htpasswd}}}}"
        config = folder / "config.yml"
        config.write_text(_CONFIG.format(folder=folder, port=self.port, auth=auth, tls=tls))
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=self._log, stderr=self._log
        )
        self._wait_ready()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                url = f"{self._scheme}://{self.host}/v2/"
                with urllib.request.urlopen(url, timeout=20, context=_anyone()):
                    return
            except HTTPError as answer:
                answer.close()
                return
            except URLError:
                assert self._process.poll() is None, "docker-registry ended"
                time.sleep(0.05)
        raise AssertionError("docker-registry does not answer")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._log.close()


def _anyone() -> ssl.SSLContext:
    """Whether the registry answers is all that is asked."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for loopback that signs itself; its key is beside it."""
    require("openssl")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-out", folder / "ca.crt", "-keyout", folder / "ca.crt.key"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "ca.crt"


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    require("docker-registry")
    server = RegistryServer(tmp_path_factory.mktemp("registry") / "open")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def guarded_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """One that wants the user ``ada`` with the password ``engine no. 1``."""
    require("docker-registry", "htpasswd")
    server = RegistryServer(
        tmp_path_factory.mktemp("registry") / "guarded", ("ada", "engine no. 1")
    )
    yield server
    server.stop()


def require(*programs: str) -> None:
    """Skip where one of them is not on this machine."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(
            f"needs {' and '.join(missing)}: apt-get install docker-registry apache2-utils openssl"
        )
