"""Starts sandboxes from one long-lived thread, reads what they print, and sees them to their end.

One thread, because the kernel's parent-death signal follows the *thread* that started bubblewrap:
from a pool it would come when the pool shrinks. It serves all sandboxes with one selector.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import IO

from ci.engine.store.orphans import OWNER
from ci.engine.vertices.execution import Namespaces, Stream

__all__ = ["Command", "Ended", "Process", "Runner"]

_CHUNK = 1 << 16
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, kw_only=True)
class Command:
    """A bubblewrap command line and what it inherits."""

    argv: tuple[str, ...]
    #: Read end of the pipe that bubblewrap tells its status by.
    status_read: int
    #: Names who starts it; see ``store/orphans.py``.
    owner: str = ""
    #: All descriptors that the command line names; closed here once it is started.
    inherited: tuple[int, ...]
    #: Closed likewise. None is nothing to read.
    stdin: int | None = None
    #: Standard input is a terminal, and output goes there too.
    terminal: bool = False
    #: Descriptor of the program, if not the first argument is it. Stays open.
    program_copy: int | None = None
    #: Where the program's own libraries are, if not beside it.
    libraries: str = ""
    namespaces: Namespaces | None = None
    on_output: Callable[[Stream, bytes], None]
    #: Called once, when the sandbox and all in it are gone; in the runner's thread.
    on_end: Callable[[Ended], None]

    def close_inherited(self) -> None:
        """Close this process's copies of what the sandbox inherited."""
        for fd in (*self.inherited, *([self.stdin] if self.stdin is not None else [])):
            os.close(fd)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a sandbox ended."""

    #: Of the command, 128 + n for signal n; None when it never ran or was killed from outside.
    exit_code: int | None
    #: It was killed by ``Process.kill``.
    killed: bool
    #: It could not be started at all, or ``on_output`` failed.
    error: Exception | None = None
    #: The limit that it hit, in words.
    exceeded: str = ""


@dataclass(eq=False)
class Process:
    """A sandbox that was started or is about to be."""

    command: Command
    _runner: Runner
    #: Of the sandbox's init, in the host's numbers; 0 until bubblewrap tells.
    init_pid: int = 0
    #: Open while the end of init is awaited; -1 before and after.
    init_fd: int = -1
    killed: bool = False
    #: As bubblewrap tells it; it tells nothing of a command that a signal ended before its start.
    exit_code: int | None = None
    error: Exception | None = None
    #: The last signal that was sent to the command; 0 for none.
    _signalled: int = 0
    _popen: subprocess.Popen[bytes] | None = None
    _status: bytearray = field(default_factory=bytearray)
    _open: set[int] = field(default_factory=set)

    def kill(self) -> None:
        """Kill all of it at once. ``on_end`` still comes."""
        self._runner.call(self._kill)

    def is_running(self) -> bool:
        """The sandbox is made, and its command runs in it."""
        return bool(self.init_pid) and bool(_children(self.init_pid))

    def signal(self, number: int) -> None:
        """Send a signal to the command itself (not to the sandbox's init)."""
        self._runner.call(lambda: self._signal(number))

    def _kill(self) -> None:
        self.killed = True
        if self.init_pid:
            with suppress(ProcessLookupError):
                os.kill(self.init_pid, signal.SIGKILL)
        self._end_group()

    def _end_group(self) -> None:
        """Kill bubblewrap, and its child as long as that is not a session of its own.

        A child that has not yet asked to die with its parent would wait for it for ever.
        """
        if self._popen is not None and self._popen.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for pid in _children(self.init_pid) if self.init_pid else []:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                self._signalled = number

    def _outcome(self) -> Ended:
        code = self.exit_code
        if code is None and self._signalled:
            code = 128 + self._signalled
        return Ended(exit_code=None if self.killed else code, killed=self.killed, error=self.error)


def _children(pid: int) -> list[int]:
    """Direct children of a process."""
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]
    return []


def _is_alone(init_pid: int) -> bool:
    """Whether a sandbox's init is its last process, and its layers may be mounted elsewhere."""
    if _layers_are_exclusive():
        return False
    try:
        with open(f"/proc/{init_pid}/task/{init_pid}/children", encoding="ascii") as file:
            return not file.read().strip()
    except OSError:
        return False


@cache
def _layers_are_exclusive() -> bool:
    """Whether overlayfs refuses a layer whose last mount is not gone yet."""
    try:
        with open("/sys/module/overlay/parameters/index", encoding="ascii") as file:
            return file.read().strip() != "N"
    except OSError:
        return True


class Runner:
    """Runs sandboxes. Its thread is started with the first and ends with ``close``."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._nothing = _empty_pipe()
        self._processes: set[Process] = set()
        self._closing = False

    def call(self, function: Callable[[], None]) -> None:
        """Have the runner's thread call ``function`` soon."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="towpath-runner", daemon=True
                )
                self._thread.start()
        self._calls.append(function)
        os.eventfd_write(self._wake, 1)

    def start(self, command: Command) -> Process:
        """Start a sandbox soon; every outcome comes by its callbacks."""
        process = Process(command, self)
        self.call(lambda: self._start(process))
        return process

    def close(self) -> None:
        """Kill what runs, wait until it is gone, and end the thread."""
        if self._wake < 0:
            return
        if self._thread is not None:
            self.call(self._shut)
            self._thread.join()
        self._selector.close()
        os.close(self._wake)
        os.close(self._nothing)
        self._wake = -1

    # -- in the thread -------------------------------------------------------------------------

    def _serve(self) -> None:
        while self._processes or not self._closing:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.eventfd_read(self._wake)
                elif self._selector.get_map().get(key.fd) is key:  # no earlier event ended it
                    self._handle(*key.data)
            while self._calls:
                self._calls.popleft()()

    def _handle(self, process: Process, ready: Callable[[], None]) -> None:
        """One event. What goes wrong in it is this process's misfortune and no other's."""
        try:
            ready()
        except Exception as error:  # noqa: BLE001 - told by ``on_end``
            process.error = process.error or error
            process._kill()  # noqa: SLF001 - one unit

    def _shut(self) -> None:
        self._closing = True
        for process in self._processes:
            process._kill()  # noqa: SLF001 - one unit

    def _start(self, process: Process) -> None:
        command = process.command
        if process.killed or self._closing:
            self._abandon(process, Ended(exit_code=None, killed=True))
            return
        try:
            popen = _spawn(command, self._nothing)
        except OSError as error:
            self._abandon(process, Ended(exit_code=None, killed=False, error=error))
            return
        command.close_inherited()
        self._processes.add(process)
        process._popen = popen  # noqa: SLF001
        if popen.stdout is not None and popen.stderr is not None:
            self._watch_stream(process, popen.stdout, "stdout")
            self._watch_stream(process, popen.stderr, "stderr")
        self._watch(process, command.status_read, lambda: self._read_status(process))
        pidfd = os.pidfd_open(popen.pid)
        self._watch(process, pidfd, lambda: self._reap(process, pidfd))

    def _abandon(self, process: Process, ended: Ended) -> None:
        process.command.close_inherited()
        os.close(process.command.status_read)
        self._tell(process, ended)

    @staticmethod
    def _tell(process: Process, ended: Ended) -> None:
        with suppress(RuntimeError):  # the event loop that waited is closed
            process.command.on_end(ended)

    def _watch(self, process: Process, fd: int, ready: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, (process, ready))
        process._open.add(fd)  # noqa: SLF001

    def _done(self, process: Process, fd: int, *, close: bool = True) -> None:
        """Stop watching; with the last one the process is over."""
        self._selector.unregister(fd)
        process._open.remove(fd)  # noqa: SLF001
        if close:
            os.close(fd)
        if not process._open:  # noqa: SLF001
            self._processes.discard(process)
            self._tell(process, process._outcome())  # noqa: SLF001

    def _watch_stream(self, process: Process, pipe: IO[bytes], stream: Stream) -> None:
        fd = os.dup(pipe.fileno())
        pipe.close()

        def ready() -> None:
            chunk = os.read(fd, _CHUNK)
            if not chunk:
                self._done(process, fd)
            elif process.error is None:
                process.command.on_output(stream, chunk)

        self._watch(process, fd, ready)

    def _read_status(self, process: Process) -> None:
        """Take in what bubblewrap tells: a JSON object a line, in pieces maybe."""
        fd = process.command.status_read
        chunk = os.read(fd, _CHUNK)
        process._status += chunk  # noqa: SLF001
        *lines, rest = bytes(process._status).split(b"\n")  # noqa: SLF001
        process._status[:] = rest  # noqa: SLF001
        for line in filter(None, lines):
            self._take_status(process, json.loads(line))
        if not chunk:
            self._done(process, fd)

    def _take_status(self, process: Process, status: dict[str, int]) -> None:
        if "child-pid" in status:
            process.init_pid = status["child-pid"]
            try:
                pidfd = os.pidfd_open(process.init_pid)
            except ProcessLookupError:
                return
            process.init_fd = pidfd
            self._watch(process, pidfd, lambda: self._init_ended(process))
            if process.killed:
                process._kill()  # noqa: SLF001
        if "exit-code" in status:
            process.exit_code = status["exit-code"]

    def _init_ended(self, process: Process) -> None:
        pidfd, process.init_fd = process.init_fd, -1
        self._done(process, pidfd)

    def _reap(self, process: Process, pidfd: int) -> None:
        """Bubblewrap ended, so the command has.

        The sandbox's init ends after it: it unmounts the overlay, which syncs the whole file
        system. That is not waited for where the command left no process that could still write.
        """
        assert process._popen is not None  # noqa: S101, SLF001 - it was started
        process._end_group()  # noqa: SLF001
        process._popen.wait()  # noqa: SLF001
        if process.init_fd >= 0 and not process.killed and _is_alone(process.init_pid):
            self._init_ended(process)
        self._done(process, pidfd)


def _empty_pipe() -> int:
    """Something to read that has ended, and is no file of the machine."""
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def _spawn(command: Command, nothing: int) -> subprocess.Popen[bytes]:
    """Start bubblewrap, in a session of its own: a Ctrl-C in the terminal is ours to handle."""
    copy = command.program_copy
    output = command.stdin if command.terminal else subprocess.PIPE
    return subprocess.Popen(
        command.argv,
        executable=None if copy is None else f"/proc/self/fd/{copy}",
        env={
            **({"LD_LIBRARY_PATH": command.libraries} if command.libraries else {}),
            **({OWNER: command.owner} if command.owner else {}),
        },
        stdin=nothing if command.stdin is None else command.stdin,
        stdout=output,
        stderr=output,
        pass_fds=(*command.inherited, *(() if copy is None else (copy,))),
        start_new_session=True,
        preexec_fn=_joiner(command.namespaces) if command.namespaces else None,  # noqa: PLW1509
        cwd="/",
    )


def _joiner(namespaces: Namespaces) -> Callable[[], None]:
    """What the child does before it becomes bubblewrap: enter the session's namespaces."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    wanted = [(namespaces.net, _CLONE_NEWNET)]
    if namespaces.user is not None:
        wanted.insert(0, (namespaces.user, _CLONE_NEWUSER))

    def join() -> None:
        for fd, kind in wanted:
            if setns(fd, kind) != 0:
                os._exit(125)

    return join
