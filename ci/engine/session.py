"""Session: the embedded engine for as long as an ``async with`` lasts.

Within it, any program that uses a Dagger SDK connects by the variables of ``environment()``.
"""

from __future__ import annotations

import asyncio
import secrets as entropy
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Self

import anyio
import structlog

from ci.clock import Clock, SystemClock
from ci.engine.api.context import Context
from ci.engine.bootstrap.catalogue import with_stand_ins
from ci.engine.images.oci import Platform
from ci.engine.images.sources import Sources
from ci.engine.pulls import ImageUse, Pulls
from ci.engine.queries import Queries
from ci.engine.relay import Relay
from ci.engine.sandbox.argv import Mode
from ci.engine.sandbox.limits import Limits
from ci.engine.server import Server
from ci.engine.services.services import HEALTHY_SECONDS, Services
from ci.engine.services.tunnels import Tunnels
from ci.engine.solver.secrets import Secrets, load_salt
from ci.engine.solver.solver import Solver
from ci.engine.store.store import Store, StoreError
from ci.engine.store.upkeep import tend
from ci.engine.terminal import Borrow, Terminal
from ci.engine.why.describe import describe
from ci.engine.why.history import History
from ci.events import EngineEvent

__all__ = ["API_VERSION", "Session"]

#: How long the end of a session may take over what its commands depended on.
_REMEMBER_SECONDS = 2.0

_log = structlog.get_logger(__name__)

#: The Dagger release whose API this is like; what ``version`` answers.
API_VERSION = "v0.21.8"


class Session:
    """A GraphQL server on loopback, with the store, solver, secrets and services behind it.

    It lives in a task of its own, so it may be left in another task than it was entered in.

    Args:
        cache: the store's folder.
        cache_max: bytes that it may take up, which is seen to at the end; None: any.
        sources: where images may come from.
        workdir: where relative host paths start; the default is the current folder.
        on_event: gets what happens, from any thread.
        environ: what ``env://`` secrets are read from; the default is the process's own.
        private_network: give services a network of their own where the machine allows it.
        terminal: lends the caller's terminal to the fields that need one; None has none.
        healthy_seconds: how long a service may take until it answers at its ports.
        clock: tells times and waits.
        limits: what each command may use; services have all but the time limit.
    """

    def __init__(
        self,
        *,
        cache: Path,
        cache_max: int | None = None,
        sources: Sources | None = None,
        workdir: Path | None = None,
        on_event: Callable[[EngineEvent], None] | None = None,
        environ: Mapping[str, str] | None = None,
        private_network: bool = True,
        terminal: Borrow | None = None,
        healthy_seconds: float = HEALTHY_SECONDS,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._cache = cache
        self._cache_max = cache_max
        self._sources = sources
        self._workdir = (workdir or Path.cwd()).absolute()
        self._on_event = on_event
        self._environ = environ
        self._private_network = private_network
        self._terminal = Terminal(terminal)
        self._healthy_seconds = healthy_seconds
        self._clock = clock or SystemClock()
        self._limits = limits
        self._images: Pulls | None = None
        self._services: Services | None = None
        self._solver: Solver | None = None
        self._closing = asyncio.Event()
        self._stages: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self.token = entropy.token_hex(24)
        self.port = 0

    async def __aenter__(self) -> Self:
        """Start; requests are answered on return.

        Raises:
            CiError: the store or the sandbox cannot be used.
        """
        started = asyncio.Event()
        self._task = asyncio.create_task(self._live(started), name="towpath-session")
        ready = asyncio.create_task(started.wait())
        try:
            await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            ready.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End: cancel requests, stop services, kill sandboxes."""
        await self.close()

    async def close(self) -> None:
        """End, and return when all is over, even where the caller is cancelled meanwhile."""
        self._closing.set()
        if self._task is None:
            return
        cancelled = False
        while not self._task.done():
            try:
                await asyncio.wait({self._task})
            except asyncio.CancelledError:
                cancelled = True
        with suppress(asyncio.CancelledError):
            self._task.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _live(self, started: asyncio.Event) -> None:
        """The session from start to end."""
        async with AsyncExitStack() as stack:
            server = await self._start(stack)
            self.port = server.port
            started.set()
            await self._closing.wait()

    async def _start(self, stack: AsyncExitStack) -> Server:
        """Bring up the parts; the stack takes them down in reverse order."""
        store = stack.enter_context(Store(self._cache))
        stack.push_async_callback(_in_thread, partial(tend, store, self._cache_max))
        with store.guard():
            salt = load_salt(store.root / "salt")
        secrets = Secrets(salt, environ=self._environ)
        relay = Relay(self._on_event, self._clock) if self._on_event is not None else None
        solver = await stack.enter_async_context(
            Solver(store, secrets=secrets, on_event=relay, limits=self._limits)
        )
        self._solver = solver
        stack.push_async_callback(self._remember, solver, secrets, salt)
        services = await stack.enter_async_context(
            Services(
                solver,
                clock=self._clock,
                private=self._private_network,
                healthy_seconds=self._healthy_seconds,
            )
        )
        solver.services = self._services = services
        solver.tunnels = tunnels = await stack.enter_async_context(Tunnels(services))
        images = with_stand_ins(store, self._sources)
        stack.push_async_callback(images.close)
        self._images = Pulls(images, secrets, awaited=relay.image_awaited if relay else None)
        context = Context(
            solver=solver,
            secrets=secrets,
            services=services,
            tunnels=tunnels,
            images=self._images,
            terminal=self._terminal,
            platform=str(Platform.of_host()),
            workdir=self._workdir,
            temporary=store.temporary,
            version=API_VERSION,
        )
        server = Server(Queries(store), context, self.token)
        await stack.enter_async_context(server.serving())
        return server

    async def _remember(self, solver: Solver, secrets: Secrets, salt: bytes) -> None:
        """Keep what the commands depended on, for ``ci engine why``."""
        if not solver.outcomes:
            return

        def scrub(text: str) -> str:
            scrubber = secrets.scrubber(secrets.known())
            clean = scrubber.feed(text.encode("utf-8", "surrogateescape")) + scrubber.finish()
            return clean.decode("utf-8", "replace")

        with anyio.move_on_after(_REMEMBER_SECONDS, shield=True):
            steps = await describe(solver, salt=salt, scrub=scrub, stages=self._stages)
            history = History(solver.store, str(self._workdir))
            await _in_thread(partial(history.add, steps))

    def name_stage(self, exec_digest: str, stage: str) -> None:
        """Say which stage asked for an exec (``ExecFinished.exec``), for ``ci engine why``."""
        self._stages[exec_digest] = stage

    def environment(self) -> dict[str, str]:
        """Variables by which a Dagger SDK connects to this session."""
        return {"DAGGER_SESSION_PORT": str(self.port), "DAGGER_SESSION_TOKEN": self.token}

    def sandbox_mode(self) -> Mode:
        """How sandboxes come by the owners of files: as root, or as an ordinary user."""
        if self._solver is None:
            raise RuntimeError("the session has not started")
        return self._solver.sandbox.mode()

    def provenance(self) -> tuple[ImageUse, ...]:
        """The images that were used: digests, and what stood in for which."""
        return self._images.uses() if self._images else ()

    def service_logs(self) -> list[tuple[str, str]]:
        """(name, log) of every service that ran or runs."""
        return self._services.logs() if self._services else []


async def _in_thread(work: Callable[[], object]) -> None:
    """Upkeep of the store in a thread. That it cannot be done is no fault of the session's."""
    try:
        await anyio.to_thread.run_sync(work)
    except StoreError as error:
        _log.warning("store.upkeep_failed", error=str(error))
