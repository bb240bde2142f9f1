"""What a delivery is written against: a target that runs instances, a router that shares traffic.

Both are small enough for a Kubernetes cluster (a Deployment for each instance; Service selectors
or route weights) as well as for this machine. Every method may be called again after a crash with
the same arguments, and then finishes what the first call began.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ci.values import Release, Value

__all__ = ["Answer", "Condition", "Instance", "Router", "Runtime", "Smoke", "Target"]

#: Checks what answers at a base URL (``http://127.0.0.1:8081``); raises a CiError when it fails.
Smoke = Callable[[str], Awaitable[None]]


class Instance(Value):
    """One running copy of a release: what traffic can be sent to."""

    #: Unique in its environment, and never used again for another one.
    name: str
    release: Release


class Condition(Value):
    """How an instance is at this moment."""

    #: Its processes exist.
    live: bool = False
    #: It says itself that it can serve.
    ready: bool = False
    #: It will not become ready by waiting.
    failed: bool = False
    #: The version it answers; empty where it tells none.
    version: str = ""
    #: Where it alone answers, without the router.
    url: str = ""
    #: What a person should know: an exit status, the end of the log.
    detail: str = ""


class Answer(Value):
    """What came back through the router."""

    #: Name of the instance that answered; empty when none did.
    instance: str = ""
    ready: bool = False
    version: str = ""
    detail: str = ""


class Target(Protocol):
    """Where instances of one environment live."""

    async def prepare(self, instance: Instance) -> None:
        """Make what the instance needs before it runs: backing services, migrations.

        Instances that serve are not disturbed. Raises a CiError when a migration fails.
        """
        ...

    async def deploy(self, instance: Instance) -> None:
        """Return when the instance is being run; it gets no traffic yet and need not be ready."""
        ...

    async def status(self, instance: Instance) -> Condition:
        """How the instance is now; one that does not exist is not live."""
        ...

    async def retire(self, instance: Instance) -> None:
        """Return when nothing of the instance runs any more; it was asked to end first."""
        ...


class Router(Protocol):
    """What shares the environment's traffic among instances."""

    @property
    def url(self) -> str:
        """Where the environment answers."""
        ...

    async def weights(self) -> Mapping[str, int]:
        """Shares by the names of instances, in percent; they sum to 100, or there are none."""
        ...

    async def shift(self, weights: Mapping[str, int]) -> None:
        """Share new requests so from now on, all at once; requests in flight are not touched."""
        ...

    async def probe(self) -> Answer:
        """Ask for readiness through the router, as a client would."""
        ...

    async def drain(self, instance: Instance, *, deadline: float) -> bool:
        """Wait until no request is in flight to the instance, at most ``deadline`` seconds.

        Returns whether that came to pass.
        """
        ...


class Runtime(Protocol):
    """Runs the programs of OCI images as processes of this machine.

    The engine has one (``ci.engine.runtime``); the delivery does not import it but is given it.
    """

    def unpack(self, archive: Path, dest: Path) -> Mapping[str, Any]:
        """Write the root file system of an OCI archive to ``dest``, a path that does not exist.

        Returns the OCI image config. All that it writes can be removed by the caller's user.
        """
        ...

    def argv(
        self,
        rootfs: Path,
        config: Mapping[str, Any],
        *,
        env: Mapping[str, str],
        binds: Mapping[str, Path],
        args: Sequence[str],
    ) -> list[str]:
        """The command that runs the image's program, with ``args`` in place of its Cmd if given.

        Whoever starts the command gives it ``env`` as its whole environment. The runtime lets
        these through, over the image's Env, and puts no value of them on the command line, which
        every user of the machine can read. The program uses the network of this machine and sees
        ``binds`` (path inside to folder outside, writable). ``rootfs`` is never written to: what
        the program writes elsewhere is lost. SIGTERM, SIGINT and SIGQUIT to the command's process
        are passed to the program, and the command ends as the program does; when the command is
        killed, so is the program.
        """
        ...
