"""Runs the machine's ``git``: no configuration of the user, no hooks, no prompts.

What git is to know of credentials is in a configuration that exists in memory only, as a file
descriptor that its children inherit: in no argument, no variable and no file.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import IO, TYPE_CHECKING

import anyio

from ci.errors import CiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import ByteReceiveStream, Process

__all__ = ["REMOTE_PROTOCOLS", "Git", "GitError"]

#: What a remote, or a submodule of one, may be reached by.
REMOTE_PROTOCOLS = ("https", "http", "ssh", "git")

#: Bytes of output that are kept; lists of refs are well below.
_OUTPUT = 256 << 20
#: Bytes of what git says of an error.
_SAID = 2_000

#: Of the environment of this process, what git and its transports need.
_PASSED = (
    "PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip

_SETTINGS: Mapping[str, str] = {
    "advice.detachedHead": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.logAllRefUpdates": "false",
    "core.quotePath": "false",
    "credential.helper": "",
    "gc.auto": "0",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "init.defaultBranch": "main",
    "maintenance.auto": "false",
    "protocol.version": "2",
    "safe.directory": "*",
    "uploadpack.allowAnySHA1InWant": "true",
    "uploadpack.allowFilter": "true",
    "user.email": "towpath@localhost",
    "user.name": "Towpath",
}

_USERINFO = re.compile(rb"(://)[^/\s@']+@")


class GitError(CiError):
    """Git could not do what it was asked for, or is not there."""


@dataclass(frozen=True, kw_only=True)
class Git:
    """The program, and what it is told at each call.

    Args:
        config: Settings beside the standing ones; their values may be secret.
        environ: Variables beside the scrubbed environment.
        protocols: The only ones that are spoken.
        secrets: Values that no error may show.
    """

    config: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    environ: tuple[tuple[str, str], ...] = ()
    protocols: tuple[str, ...] = ()
    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    async def run(
        self,
        *arguments: str,
        cwd: Path,
        about: str = "",
        stdin: bytes = b"",
        stdout: IO[bytes] | None = None,
        codes: Sequence[int] = (0,),
    ) -> bytes:
        """What it prints. ``about`` names in errors what it worked on.

        Raises:
            GitError: it ended with a code that is not among ``codes``, or is not installed.
        """
        program = shutil.which("git")
        if program is None:
            raise GitError(
                "git", got="no such program on this machine", expected="git 2.31 or later",
                hint="apt-get install git (or dnf, apk, brew install git)",
            )  # fmt: skip
        with _in_memory({**_SETTINGS, **dict(self.config)}) as settings:
            async with _started(
                [program, *arguments],
                cwd=cwd,
                env=self._environment(settings),
                keep=(settings,),
                stdout=PIPE if stdout is None else stdout.fileno(),
            ) as process:
                printed, said = await _talk(process, stdin)
        if process.returncode not in codes:
            raise GitError(
                f"git {arguments[0]}{f' {about}' if about else ''}",
                got=self._told(said) or f"exit code {process.returncode}",
                hint=_hint(said),
            )
        return printed

    def _environment(self, settings: int) -> dict[str, str]:
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        if "GIT_SSL_CAINFO" not in passed and "SSL_CERT_FILE" in passed:
            passed["GIT_SSL_CAINFO"] = passed["SSL_CERT_FILE"]
        return {
            **passed,
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "GIT_ALLOW_PROTOCOL": ":".join(self.protocols) or "none",
            "GIT_CONFIG_GLOBAL": f"/proc/self/fd/{settings}",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            **dict(self.environ),
        }

    def _told(self, said: bytes) -> str:
        """What git said, without secrets and credentials in URLs."""
        for secret in sorted(filter(None, self.secrets), key=len, reverse=True):
            said = said.replace(secret, b"***")
        text = _USERINFO.sub(rb"\1***@", said)[-_SAID:].decode("utf-8", "replace")
        lines = [line.removeprefix("fatal: ").strip() for line in text.splitlines()]
        return "; ".join(line for line in lines if line)


_HINTS = (
    (
        (b"Authentication failed", b"could not read Username", b"could not read Password",
         b"error: 403", b"error: 401"),
        "give httpAuthToken or httpAuthHeader; git's own credential helpers are not asked",
    ),
    ((b"Host key verification failed",), "give sshKnownHosts with the key of the host"),
    ((b"Permission denied (publickey",), "does the agent at sshAuthSocket hold the key?"),
    ((b"transport '",), "only https, http, ssh and git are spoken"),
)  # fmt: skip


def _hint(said: bytes) -> str:
    return next((hint for marks, hint in _HINTS if any(mark in said for mark in marks)), "")


@contextmanager
def _in_memory(settings: Mapping[str, str]) -> Iterator[int]:
    """A configuration file that has no name."""
    descriptor = os.memfd_create("git-config")
    try:
        os.write(descriptor, b"".join(_setting(*pair) for pair in settings.items()))
        yield descriptor
    finally:
        os.close(descriptor)


def _setting(name: str, value: str) -> bytes:
    """One setting as a configuration file holds it."""
    section, _, key = name.rpartition(".")
    group, dot, subsection = section.partition(".")
    head = f'[{group} "{_escaped(subsection)}"]' if dot else f"[{group}]"
    return f'{head}\n{key} = "{_escaped(value)}"\n'.encode("utf-8", "surrogateescape")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@asynccontextmanager
async def _started(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], keep: Iterable[int], stdout: int
) -> AsyncIterator[Process]:
    """A process in a session of its own, which is over, children and all, at the end."""
    process = await anyio.open_process(
        list(command), cwd=cwd, env=dict(env), stdin=PIPE, stdout=stdout, stderr=PIPE,
        start_new_session=True, pass_fds=tuple(keep), umask=0o022,
    )  # fmt: skip
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            await process.aclose()


async def _talk(process: Process, stdin: bytes) -> tuple[bytes, bytes]:
    """Give it its input; what it wrote, when it has ended."""
    printed, said = bytearray(), bytearray()

    async def feed() -> None:
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await process.stdin.send(stdin)
        await process.stdin.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed)
        tasks.start_soon(_read, process.stdout, printed)
        tasks.start_soon(_read, process.stderr, said)
    await process.wait()
    return bytes(printed), bytes(said)


async def _read(stream: ByteReceiveStream | None, into: bytearray) -> None:
    """Read to the end.

    Raises:
        GitError: there is too much of it.
    """
    if stream is None:
        return
    async for chunk in stream:
        into += chunk
        if len(into) > _OUTPUT:
            raise GitError("git", got=f"more than {_OUTPUT >> 20} MiB of output")
