"""Runs one exec: prepare, sandbox, capture, keep."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import anyio

from ci.engine.sandbox.argv import Plan
from ci.engine.sandbox.box import Sandbox, SandboxError
from ci.engine.sandbox.lent import Host, Shelf
from ci.engine.sandbox.runner import Ended, Process
from ci.engine.sandbox.visit import visit
from ci.engine.solver.capture import Capture
from ci.engine.solver.prepare import Inputs, Prepared, Written, prepare
from ci.engine.store.error import full_disk, is_full
from ci.engine.store.store import Store
from ci.engine.vertices.execution import (
    ExecEvent,
    ExecFailed,
    ExecOutput,
    Namespaces,
    Secrets,
    Stream,
    meets,
)
from ci.engine.vertices.vertex import CacheMount, Exec, Sharing

__all__ = ["ExecRunner", "Finished", "ServiceProcess"]

T = TypeVar("T")

#: Bytes of output that an error carries. Source: Dagger's own limit.
_ERROR_OUTPUT = 100 << 10
_SERVICE_LOG = 1 << 20
#: Between two looks whether a sandbox has come to its command: nothing tells.
_STARTING_SECONDS = 0.01
_CANNOT_VISIT = 125
#: Output that waits for the event loop beyond this is not shown live (it is kept all the same).
_BACKLOG = 8 << 20
#: Between two tries to lock a volume that another process has: nothing tells when it is free.
_LOCK_RETRY_SECONDS = 0.05
#: Tries after which to look whether the one that has it is dead.
_BURY_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An exec that met its expectation."""

    exit_code: int
    stdout: str
    stderr: str
    combined: str
    seconds: float
    written: Written


class ExecRunner:
    """Runs execs in ``sandbox``; at most ``parallel`` at a time."""

    def __init__(
        self,
        store: Store,
        sandbox: Sandbox,
        host: Host,
        *,
        parallel: int,
        emit: Callable[[ExecEvent], None],
    ) -> None:
        self._store = store
        self._sandbox = sandbox
        self._host = host
        self._emit = emit
        self._slots = anyio.CapacityLimiter(parallel)
        self._locks: dict[str, anyio.Lock] = {}
        self._shelf = Shelf(store.temporary())
        #: Removes what execs left behind, so that nobody waits for it.
        self._sweeper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="towpath-sweeper")

    def close(self) -> None:
        """Wait until what execs left is removed."""
        self._sweeper.shutdown()

    async def run(
        self, exec_: Exec, inputs: Inputs, secrets: Secrets, keep: Callable[[Finished], T]
    ) -> T:
        """Run to the end, and give what ``keep`` makes of the result, in a thread.

        Raises:
            ExecFailed: the exit code is not what ``expect`` allows.
            CiError: it could not be run, or a service that it needs ended.
        """
        async with self._volumes(exec_) as held, self._slots:
            prepared = await anyio.to_thread.run_sync(self._prepare, exec_, inputs)
            prepared.hold(held)
            try:
                return await self._run(exec_, inputs, prepared, secrets, keep)
            finally:
                prepared.discard_secrets()
                self._sweeper.submit(prepared.discard)

    def _prepare(self, exec_: Exec, inputs: Inputs) -> Prepared:
        with self._store.guard():
            prepared = prepare(
                exec_,
                inputs,
                store=self._store,
                host=self._host,
                shelf=self._shelf,
                mode=self._sandbox.mode(),
            )
            try:
                prepared.make_plan()
            except BaseException:
                prepared.discard()
                raise
            return prepared

    async def _run(
        self,
        exec_: Exec,
        inputs: Inputs,
        prepared: Prepared,
        secrets: Secrets,
        keep: Callable[[Finished], T],
    ) -> T:
        values = tuple(inputs.secrets.values())
        live = _Live(exec_, self._emit)
        capture = Capture(
            {"stdout": secrets.scrubber(values), "stderr": secrets.scrubber(values)}, live.text
        )
        started = time.perf_counter()
        prepared.handed_over = True
        async with _unbroken(inputs):
            ended = await self._sandbox.run(
                prepared.plan,
                on_output=capture.feed,
                stdin=prepared.stdin,
                namespaces=inputs.attachment.namespaces,
            )
        capture.finish()
        code = _exit_code(ended, capture)
        seconds = time.perf_counter() - started
        if code and is_full(self._store.root):
            raise full_disk(self._store.root)  # not the command's fault, and not to be kept
        if not meets(code, exec_.expect):
            raise ExecFailed(
                exec_.args, code,
                stdout=_end_of(capture, "stdout"), stderr=_end_of(capture, "stderr"),
                reason=ended.exceeded,
            )  # fmt: skip

        def finish() -> T:
            with self._store.guard():
                written = prepared.take(capture.raw("stdout"), capture.raw("stderr"))
                return keep(
                    Finished(
                        exit_code=code,
                        stdout=capture.text("stdout"),
                        stderr=capture.text("stderr"),
                        combined=capture.text("combined"),
                        seconds=seconds,
                        written=written,
                    )
                )

        return await anyio.to_thread.run_sync(finish)

    async def interact(self, exec_: Exec, inputs: Inputs, terminal: int) -> None:
        """Run a command whose streams are a terminal to its end. What it writes is dropped.

        Raises:
            CiError: it could not be run.
        """
        async with self._volumes(exec_) as held:
            prepared = await anyio.to_thread.run_sync(self._prepare, exec_, inputs)
            prepared.hold(held)
            prepared.handed_over = True
            try:
                ended = await self._sandbox.run(
                    replace(prepared.plan, terminal=True),
                    on_output=lambda _stream, _chunk: None,
                    stdin=os.dup(terminal),
                    namespaces=inputs.attachment.namespaces,
                )
            finally:
                prepared.discard_secrets()
                self._sweeper.submit(prepared.discard)
        if ended.error is not None:
            raise SandboxError("terminal", got=str(ended.error), expected="a sandbox")

    async def start(self, exec_: Exec, inputs: Inputs, secrets: Secrets) -> ServiceProcess:
        """Start a service. What it writes is dropped when it ends."""
        async with AsyncExitStack() as stack:
            held = await stack.enter_async_context(self._volumes(exec_))
            prepared = await anyio.to_thread.run_sync(self._prepare, exec_, inputs)
            prepared.hold(held)
            stack.callback(prepared.discard)
            values = tuple(inputs.secrets.values())
            capture = Capture(
                {"stdout": secrets.scrubber(values), "stderr": secrets.scrubber(values)},
                _Live(exec_, self._emit).text,
                limit=_SERVICE_LOG,
                keep_tail=True,
            )
            namespaces = inputs.attachment.namespaces
            service = ServiceProcess(capture, stack.pop_all(), prepared.plan, namespaces)
            prepared.handed_over = True
            service.process = self._sandbox.start(
                prepared.plan,
                on_output=capture.feed,
                on_end=service.ended,
                stdin=prepared.stdin,
                namespaces=namespaces,
            )
            return service
        raise AssertionError  # the stack swallows no errors

    # -- cache volumes ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _volumes(self, exec_: Exec) -> AsyncIterator[Sequence[int]]:
        """Hold the cache volumes of an exec, each as its sharing asks, always in one order.

        Gives the locks (of those that are not shared) that the sandbox is to hold, too: where this
        process is killed, it outlives it by a moment.
        """
        held: list[int] = []
        mounts = {m.volume: m for m in exec_.mounts if isinstance(m, CacheMount)}
        async with AsyncExitStack() as stack:
            for identity in sorted(mounts):
                shared = mounts[identity].sharing is Sharing.SHARED
                if not shared:
                    lock = self._locks.setdefault(identity, anyio.Lock())
                    await stack.enter_async_context(lock)
                path = self._store.volume_lock(self._store.volume_folder(identity))
                with self._store.guard():
                    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(_unlock, fd)
                held += [] if shared else [fd]
                await self._flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield held

    async def _flock(self, fd: int, kind: int) -> None:
        """Lock between processes; within this one no two execs compete for it."""
        tries = 0
        while True:
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                tries += 1
                if tries % _BURY_EVERY == 0:  # a sandbox that was just starting holds it for ever
                    await anyio.to_thread.run_sync(partial(self._store.bury, search=True))
                await anyio.sleep(_LOCK_RETRY_SECONDS)
            else:
                return


def _unlock(fd: int) -> None:
    """Free at once, also where a sandbox that is all but gone has a copy of the descriptor."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


@asynccontextmanager
async def _unbroken(inputs: Inputs) -> AsyncIterator[None]:
    """Cancel the body, and raise the error, when a bound service ends before it does."""
    broken = inputs.attachment.broken
    if broken is None:
        yield
        return
    errors: list[Exception] = []

    async def watch() -> None:
        errors.append(await broken())
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, out of the group
            errors.append(error)
        group.cancel_scope.cancel()
    if errors:
        raise errors[0]


class _Live:
    """Passes output on to the event loop as events, in the context of the call that asked."""

    def __init__(self, exec_: Exec, emit: Callable[[ExecEvent], None]) -> None:
        self._exec = exec_
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._waiting = 0

    def text(self, stream: Stream, text: str) -> None:
        """Called in the runner's thread."""
        if self._waiting > _BACKLOG:
            return
        self._waiting += len(text)
        self._loop.call_soon_threadsafe(self._deliver, stream, text, context=self._context)

    def _deliver(self, stream: Stream, text: str) -> None:
        self._waiting -= len(text)
        self._emit(ExecOutput(exec=self._exec, stream=stream, text=text))


def _exit_code(ended: Ended, capture: Capture) -> int:
    """The command's exit code. Raises SandboxError when the command never ran."""
    if ended.exit_code is not None:
        return ended.exit_code
    said = str(ended.error) if ended.error else capture.text("stderr").strip()
    raise SandboxError(
        "sandbox", got=said[-2000:] or "it was killed from outside", expected="a sandbox"
    )


def _end_of(capture: Capture, name: str) -> str:
    """The last 100 KiB of a stream."""
    raw = capture.raw(name)
    return raw[-_ERROR_OUTPUT:].decode("utf-8", "replace")


class ServiceProcess:
    """A service that runs. Implements ``execution.Running``."""

    def __init__(
        self,
        capture: Capture,
        cleanup: AsyncExitStack,
        plan: Plan,
        namespaces: Namespaces | None,
    ) -> None:
        self._capture = capture
        self._cleanup = cleanup
        self._plan = plan
        self._namespaces = namespaces
        self._loop = asyncio.get_running_loop()
        self._over = anyio.Event()
        self._cleaned = anyio.Lock()
        self._code: int | None = None
        self.process: Process | None = None

    def ended(self, ended: Ended) -> None:
        """Called once, in the runner's thread."""
        code = ended.exit_code
        if code is None:
            code = 128 + signal.SIGKILL if ended.killed else 125
        self._capture.finish()
        self._loop.call_soon_threadsafe(self._end, code)

    def _end(self, code: int) -> None:
        self._code = code
        self._over.set()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._code

    def log(self) -> str:
        """The last 1 MiB of its output, scrubbed."""
        return self._capture.text("combined")

    async def wait(self) -> int:
        """Wait for its end, and for what it left to be removed."""
        await self._over.wait()
        async with self._cleaned:
            with anyio.CancelScope(shield=True):
                await self._cleanup.aclose()
        assert self._code is not None  # noqa: S101 - it is over
        return self._code

    async def visit(self, args: Sequence[str], *, terminal: int | None = None) -> int:
        """Run a program inside it, once its own is running."""
        assert self.process is not None  # noqa: S101 - set as soon as it is made
        while not self.process.is_running():
            with anyio.move_on_after(_STARTING_SECONDS):
                await self._over.wait()
                return _CANNOT_VISIT
        return await visit(
            self.process.init_pid,
            self._plan,
            args,
            namespaces=self._namespaces,
            terminal=terminal,
        )

    async def stop(self, *, grace: float = 10.0, kill: bool = False) -> int:
        """SIGTERM, then SIGKILL after ``grace`` seconds, or at once."""
        assert self.process is not None  # noqa: S101 - set as soon as it is made
        if not kill and not self._over.is_set():
            self.process.signal(signal.SIGTERM)
            with anyio.move_on_after(grace):
                return await self.wait()
        self.process.kill()
        return await self.wait()
