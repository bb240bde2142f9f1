"""Query.git over ssh: a real sshd on the loopback, a real agent, nothing of the user's own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagger
import pytest

from tests.conformance.git_server import Repository

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(SSHD is None, reason="needs sshd (openssh-server)"),
]


@dataclass(frozen=True)
class Host:
    """A machine that is this one."""

    port: int
    #: Of its own key, as known_hosts holds it.
    known: str
    #: Of the agent that may log in.
    agent: str

    def url(self, path: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"


def key(path: Path) -> str:
    """A new key; its public part."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path.with_name(path.name + ".pub").read_text().strip()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A server of one key, which listens while the tests of this file run."""
    folder = tmp_path_factory.mktemp("ssh")
    own, client = key(folder / "own"), key(folder / "client")
    (folder / "authorized").write_text(client + "\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/own\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    assert SSHD is not None
    with (
        subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=-1) as server,
        agent(folder / "agent") as socket_path,
    ):
        try:
            assert server.stderr is not None
            assert b"Server listening" in server.stderr.readline()
            subprocess.run(
                ["ssh-add", "-q", str(folder / "client")],
                env={**os.environ, "SSH_AUTH_SOCK": socket_path},
                check=True,
            )
            (folder / "client").unlink()
            yield Host(port=port, known=f"[127.0.0.1]:{port} {own}\n", agent=socket_path)
        finally:
            server.terminate()


@contextmanager
def agent(path: Path) -> Iterator[str]:
    """An agent without keys, at its socket."""
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE) as lent:
        try:
            assert lent.stdout is not None
            assert str(path).encode() in lent.stdout.readline()
            yield str(path)
        finally:
            lent.terminate()


@pytest.fixture
def empty_agent(tmp_path: Path) -> Iterator[str]:
    with agent(tmp_path / "agent") as path:
        yield path


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "project")
    made.commit(a_txt="1\n")
    return made


async def test_the_agents_key_opens_a_known_host(dag, host, project):
    git = dag.git(
        host.url(project.folder),
        ssh_known_hosts=host.known,
        ssh_auth_socket=dag.host().unix_socket(host.agent),
    )
    assert await git.head().tree().file("a.txt").contents() == "1\n"


async def test_the_callers_agent_is_asked_where_none_is_named(dag, host, project, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", host.agent)
    git = dag.git(host.url(project.folder), ssh_known_hosts=host.known)
    assert await git.branches() == ["main"]


async def test_a_host_that_shows_another_key_is_not_believed(dag, host, project, tmp_path):
    other = key(tmp_path / "other")
    git = dag.git(
        host.url(project.folder),
        ssh_known_hosts=f"[127.0.0.1]:{host.port} {other}\n",
        ssh_auth_socket=dag.host().unix_socket(host.agent),
    )
    with pytest.raises(dagger.QueryError, match="hint: give sshKnownHosts with the key of the"):
        await git.branches()


async def test_without_the_key_nobody_is_let_in(dag, host, project, empty_agent):
    git = dag.git(
        host.url(project.folder),
        ssh_known_hosts=host.known,
        ssh_auth_socket=dag.host().unix_socket(empty_agent),
    )
    with pytest.raises(dagger.QueryError, match="hint: does the agent at sshAuthSocket"):
        await git.branches()
