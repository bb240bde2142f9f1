"""The caller's terminal, lent to one command of a container at a time.

Secrets of the command are masked in what it shows, as in all output. What could become one is held
back, but a moment later it is shown: it may be the end of a prompt that awaits an answer. Should
the rest of a secret come after that, the rest is masked. So what a command writes at a time is
masked; of what is written slowly, or typed and echoed key by key, all but the end is seen.
"""

from __future__ import annotations

import array
import fcntl
import math
import os
import signal
import termios
import threading
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager

import anyio

from ci.engine.refusal import Refusal
from ci.engine.solver.scrub import Scrubber

__all__ = ["Borrow", "Terminal", "own_terminal"]

#: Gives a descriptor of the terminal that the caller sees, for as long as the context lasts.
Borrow = Callable[[], AbstractContextManager[int]]

_CHUNK = 1 << 12
#: How long what could become a secret is held back. Seconds; longer than a pipe takes, and too
#: short to be noticed.
_MOMENT = 0.05
#: What a command that has ended has still to say. Seconds.
_LAST_WORDS = 1.0


@contextmanager
def own_terminal() -> Iterator[int]:
    """The terminal that this process was started in.

    Raises:
        OSError: there is none, or another program has it.
    """
    fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.tcgetpgrp(fd) != os.getpgrp():
            raise OSError("it belongs to another program: this one runs in the background")
        yield fd
    finally:
        os.close(fd)


class Terminal:
    """Joins the caller's terminal to that of a command.

    Args:
        borrow: None where the session's caller has none.
    """

    def __init__(self, borrow: Borrow | None) -> None:
        self._borrow = borrow
        self._turn = anyio.Lock()

    async def lend(
        self, field: str, run: Callable[[int], Awaitable[None]], secrets: Iterable[bytes]
    ) -> None:
        """Run what uses a terminal, as a descriptor, until it returns; secrets are masked.

        Raises:
            Refusal: there is none to lend; names the field that asked.
        """
        if self._borrow is None:
            raise _missing(field, "a session without one")
        async with self._turn:
            with ExitStack() as stack:
                try:
                    theirs = stack.enter_context(self._borrow())
                except OSError as error:
                    raise _missing(field, error.strerror or str(error)) from None
                ours, lent = os.openpty()
                stack.callback(os.close, ours)
                os.set_blocking(ours, False)
                stack.enter_context(_raw(theirs))
                async with _joined(theirs, ours, Scrubber(secrets)):
                    try:
                        await run(lent)
                    finally:
                        os.close(lent)


def _missing(field: str, got: str) -> Refusal:
    return Refusal(
        f"{field} needs a terminal",
        got=got,
        expected="a program that `ci engine run`, or `ci`, has started in one",
    )


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Every key goes through, Ctrl-C too."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@asynccontextmanager
async def _joined(theirs: int, ours: int, scrubber: Scrubber) -> AsyncIterator[None]:
    """Copy keys in, output out, and changes of the size, until the other end is closed."""
    silent = anyio.Event()

    async def show() -> None:
        await _show(ours, theirs, scrubber)
        silent.set()

    async with anyio.create_task_group() as tasks:
        _copy_size(theirs, ours)
        tasks.start_soon(_follow_size, theirs, ours)
        tasks.start_soon(_copy, theirs, ours)
        tasks.start_soon(show)
        yield
        with anyio.move_on_after(_LAST_WORDS):
            await silent.wait()
        tasks.cancel_scope.cancel()


async def _copy(source: int, sink: int) -> None:
    """Copy until one of the two is closed."""
    while chunk := await _read(source):
        if not await _write(sink, chunk):
            return


async def _show(source: int, sink: int, scrubber: Scrubber) -> None:
    """Copy what the scrubber lets through until one of the two is closed."""
    chunk = await _read(source)
    while chunk and await _write(sink, scrubber.feed(chunk)):
        chunk = await _read(source, _MOMENT) if scrubber.holds else b""
        if not chunk and await _write(sink, scrubber.overdue()):
            chunk = await _read(source)


async def _read(source: int, seconds: float = math.inf) -> bytes:
    """Some of what is there to read; nothing when it was closed, or nothing came in time."""
    while True:
        with anyio.move_on_after(seconds) as patience:
            await anyio.wait_readable(source)
        try:
            return os.read(source, _CHUNK)
        except BlockingIOError:
            if patience.cancelled_caught:
                return b""
        except OSError:
            return b""


async def _write(fd: int, data: bytes) -> bool:
    """Write all of it; False where nobody is there to read it."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            await anyio.wait_writable(fd)
        except OSError:
            return False
    return True


def _copy_size(source: int, target: int) -> None:
    size = array.array("H", [0] * 4)
    fcntl.ioctl(source, termios.TIOCGWINSZ, size)
    fcntl.ioctl(target, termios.TIOCSWINSZ, size)


async def _follow_size(source: int, target: int) -> None:
    """Only the main thread is told of changes; elsewhere the size stays."""
    if threading.current_thread() is not threading.main_thread():
        return
    with anyio.open_signal_receiver(signal.SIGWINCH) as changes:
        async for _ in changes:
            _copy_size(source, target)
