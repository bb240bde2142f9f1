"""What the solver gives and takes: results, events, and what secrets and services must offer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ci.engine.vertices.vertex import Exec, Expect, SecretRef, ServiceSpec
from ci.errors import CiError

__all__ = [
    "DEFAULT_PATH",
    "Attachment",
    "ExecEvent",
    "ExecFailed",
    "ExecFinished",
    "ExecOutput",
    "ExecResult",
    "ExecStarted",
    "Namespaces",
    "NoSecrets",
    "NoServices",
    "Running",
    "Scrubber",
    "Secrets",
    "Services",
    "Stream",
    "meets",
]

Stream = Literal["stdout", "stderr"]

#: What PATH is where neither the image nor the user says.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# -- results -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """How an exec ended. ``stdout`` and ``stderr`` are scrubbed of secrets and whole."""

    exit_code: int
    stdout: str
    stderr: str
    #: Both streams, in the order in which they were read.
    combined: str
    #: It was not run now: its result came from the store.
    cached: bool
    #: Of the run that made the result.
    seconds: float


class ExecFailed(CiError):
    """An exec ended with an exit code that its ``expect`` does not allow."""

    exit_code = 1

    def __init__(
        self, cmd: Sequence[str], code: int, *, stdout: str = "", stderr: str = "", reason: str = ""
    ) -> None:
        self.cmd = tuple(cmd)
        #: Exit code of the command (``exit_code`` is that of the ``ci`` process).
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        #: What the machine knows of it: a limit that was hit.
        self.reason = reason
        told = f"exit code: {code}" + (f" ({reason})" if reason else "")
        super().__init__(f"command {' '.join(self.cmd)!r}", got=told)


def meets(code: int, expect: Expect) -> bool:
    """Whether an exec may end with ``code``; 128 to 191 (signals) never meet.

    Source: ReturnType of Dagger's schema.
    """
    if 128 <= code <= 191:
        return False
    if expect is Expect.SUCCESS:
        return code == 0
    return expect is Expect.ANY or code != 0


# -- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExecStarted:
    """An exec is about to run (not sent for a result from the store)."""

    exec: Exec


@dataclass(frozen=True, kw_only=True)
class ExecOutput:
    """Scrubbed output as it comes, not cut at lines."""

    exec: Exec
    stream: Stream
    text: str


@dataclass(frozen=True, kw_only=True)
class ExecFinished:
    """An exec ended, or was found in the store. ``exit_code`` is None when it was stopped."""

    exec: Exec
    exit_code: int | None
    cached: bool
    seconds: float


ExecEvent = ExecStarted | ExecOutput | ExecFinished


# -- secrets -------------------------------------------------------------------------------------


class Scrubber(Protocol):
    """Replaces secrets in one stream, across the borders of its chunks."""

    def feed(self, chunk: bytes) -> bytes:
        """What of the stream so far is certain and was not returned yet."""
        ...

    def finish(self) -> bytes:
        """The rest, at the end of the stream."""
        ...


class Secrets(Protocol):
    """The session's secrets. No method's result may be logged or stored, but ``fingerprint``'s."""

    async def value(self, secret: SecretRef) -> bytes:
        """The plain value. Raises CiError when there is none."""
        ...

    async def fingerprint(self, secret: SecretRef) -> str:
        """A salted hash of the value that is stable on this machine: an input of cache keys."""
        ...

    def scrubber(self, values: Sequence[bytes]) -> Scrubber:
        """A new scrubber of one stream for these plain values."""
        ...


class NoSecrets:
    """A session without secrets: asking for one is an error, and scrubbing changes nothing."""

    class _Through:
        def feed(self, chunk: bytes) -> bytes:
            return chunk

        def finish(self) -> bytes:
            return b""

    async def value(self, secret: SecretRef) -> bytes:
        """Raise: there is none."""
        raise CiError(f"secret {secret.name!r}", got="no such secret in this session")

    async def fingerprint(self, secret: SecretRef) -> str:
        """Raise: there is none."""
        raise CiError(f"secret {secret.name!r}", got="no such secret in this session")

    def scrubber(self, values: Sequence[bytes]) -> Scrubber:  # noqa: ARG002 - the protocol's
        """One that changes nothing."""
        return self._Through()


# -- services ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Namespaces:
    """Open descriptors of namespaces for a sandbox to join: user first, where there is one."""

    net: int
    user: int | None = None


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """How an exec reaches the network and its services."""

    #: (address, name) lines for /etc/hosts.
    hosts: tuple[tuple[str, str], ...] = ()
    #: Address of the name server; empty is the host's own.
    resolver: str = ""
    #: None is the host's network.
    namespaces: Namespaces | None = None
    #: Variables for execs that do not set them, such as ``http_proxy``; in no cache key.
    env: tuple[tuple[str, str], ...] = ()
    #: Returns, with the error to raise, when a bound service ended before the exec did.
    broken: Callable[[], Awaitable[CiError]] | None = field(default=None, compare=False)


class Services(Protocol):
    """Runs the services that execs bind."""

    def attach(
        self, services: tuple[tuple[str, ServiceSpec], ...]
    ) -> AbstractAsyncContextManager[Attachment]:
        """Start what is bound and not running, wait until it is healthy, and tell the way.

        Called for execs that bind nothing too, with an empty tuple.
        """
        ...


class _HostNetwork:
    async def __aenter__(self) -> Attachment:
        return Attachment()

    async def __aexit__(self, *exc: object) -> None:
        return None


class NoServices:
    """No service can be bound; execs use the host's network."""

    def attach(
        self, services: tuple[tuple[str, ServiceSpec], ...]
    ) -> AbstractAsyncContextManager[Attachment]:
        """The host's network. Raises CiError when something is bound."""
        if services:
            raise CiError("services", got="a bound service", expected="a session that runs them")
        return _HostNetwork()


class Running(Protocol):
    """A service's process: started by ``Solver.start``, its writes are kept nowhere."""

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        ...

    def log(self) -> str:
        """Its scrubbed output so far, both streams (the last 1 MiB of it)."""
        ...

    async def wait(self) -> int:
        """Wait for its end and return the exit code (128 + n for signal n)."""
        ...

    async def visit(self, args: Sequence[str], *, terminal: int | None = None) -> int:
        """Run a program inside it to its end; the exit code (125 where it cannot get in).

        Output goes to the terminal, or nowhere.
        """
        ...

    async def stop(self, *, grace: float = 10.0, kill: bool = False) -> int:
        """SIGTERM, then SIGKILL after ``grace`` seconds (at once with ``kill``); wait; exit code.

        All that it started is gone on return. Stopping again changes nothing.
        """
        ...
