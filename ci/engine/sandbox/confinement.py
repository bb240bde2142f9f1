"""Confinement: what is taken from a command just before it runs, as system calls of the launcher.

bubblewrap makes the namespaces and mounts the container. What it leaves open is closed from inside,
where a call costs a few microseconds: device nodes of the machine, the kernel's own files,
capabilities, system calls. As Docker's default; a command with ``insecureRootCapabilities`` keeps
all of it. Pure, but for ``Kernel.here``.
"""

from __future__ import annotations

import os
import platform
import stat
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from ci.engine.sandbox.argv import Mode, Overlay, Plan
from ci.engine.sandbox.launcher import CODE, Call, Table, table
from ci.engine.sandbox.seccomp import filter_program
from ci.engine.sandbox.syscalls import MADE
from ci.engine.trees.passwd import Identity
from ci.errors import CiError

__all__ = ["DOCKER_CAPABILITIES", "Kernel", "Restrictions", "confinement"]

#: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
#: sys_chroot, mknod, audit_write, setfcap. Source: Docker's documentation of ``docker run``.
DOCKER_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})

#: Source: the masked and read-only paths of Docker (moby's oci/defaults.go).
_MASKED_FILES = (
    "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/timer_list", "/proc/timer_stats",
)  # fmt: skip
_MASKED_FOLDERS = (
    "/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
#: Shows every control group of the machine, unless it is one's own.
_CONTROL_GROUPS = "/sys/fs/cgroup"

#: Name to major and minor number.
_DEVICES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
    "tty": (5, 0),
}  # fmt: skip

_DEVICE_LINKS = {
    "core": "/proc/kcore", "fd": "/proc/self/fd", "ptmx": "pts/ptmx",
    "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
}  # fmt: skip
_TERMINALS = "newinstance,ptmxmode=0666,mode=0620,gid=5"

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC = 1, 2, 4, 8, 0x1000, 0x4000
_LOCKED_DOWN = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
_ATTR_RDONLY, _ATTR_NODEV = 1, 4
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_CLONE_NEWCGROUP, _CLONE_NEWUSER = 0x02000000, 0x10000000
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 47, 4
_SECCOMP_SET_MODE_FILTER = 1
_CAPABILITY_VERSION = 0x20080522
_UMASK = 0o022
#: The first descriptor, once all that was inherited is closed.
_FIRST = 3


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What of a machine's kernel bears on confinement."""

    machine: str
    #: Its processes of uid 0 are root of the machine, not of a user namespace.
    initial: bool
    last_capability: int
    masked_files: tuple[str, ...] = ()
    masked_folders: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()

    @classmethod
    @cache
    def here(cls) -> Kernel:
        """This machine's.

        Raises:
            CiError: there is no launcher for its kind.
        """
        machine = platform.machine()
        if machine not in CODE:
            raise CiError(
                "sandbox", got=f"a machine of kind {machine!r}", expected=" or ".join(sorted(CODE))
            )
        uid_map = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
        last = Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii")
        return cls(
            machine=machine,
            initial=uid_map == ["0", "0", "4294967295"],
            last_capability=int(last),
            masked_files=tuple(path for path in _MASKED_FILES if os.path.exists(path)),
            masked_folders=tuple(path for path in _MASKED_FOLDERS if os.path.isdir(path)),
            read_only=tuple(path for path in _READ_ONLY if os.path.exists(path)),
        )

    def owns_devices(self, restrictions: Restrictions) -> bool:
        """Root of the sandbox is root of the machine: it can make its own, and must."""
        return restrictions.confined and restrictions.mode is Mode.ROOT and self.initial


@dataclass(frozen=True, kw_only=True)
class Restrictions:
    """What of a sandbox's plan bears on confinement: few plans differ in it."""

    mode: Mode
    confined: bool
    user: Identity
    #: (resource, value) of each process.
    limits: tuple[tuple[int, int], ...]
    #: Where overlays are mounted.
    overlays: tuple[str, ...]
    #: The command is given something to read; else it reads /dev/null.
    has_stdin: bool
    #: Its standard streams are a terminal, which it controls.
    terminal: bool
    #: It comes into a sandbox that another launcher has closed already.
    is_visitor: bool
    #: Descriptors of the ``cgroup.procs`` files of control groups to enter.
    groups: tuple[int, ...]

    @classmethod
    def of(
        cls,
        plan: Plan,
        *,
        has_stdin: bool = False,
        limits: tuple[tuple[int, int], ...] = (),
        groups: tuple[int, ...] = (),
    ) -> Restrictions:
        """Those of a plan."""
        below = (mount.target for mount in plan.mounts if isinstance(mount, Overlay))
        return cls(
            mode=plan.mode,
            confined=plan.confined,
            user=plan.user,
            limits=limits,
            overlays=("/", *below),
            has_stdin=has_stdin,
            terminal=plan.terminal,
            is_visitor=False,
            groups=groups,
        )


@lru_cache(maxsize=64)
def confinement(restrictions: Restrictions, kernel: Kernel) -> Table:
    """All calls, in their order."""
    make = _Maker(restrictions, kernel)
    calls = [*make.entered()]
    calls.append(make.call("close_range", _FIRST, 0xFFFFFFFF, 0))
    calls.append(make.call("umask", 0))
    if restrictions.confined and not restrictions.is_visitor:
        calls += make.file_systems()
    calls.append(make.call("umask", _UMASK))
    if not restrictions.has_stdin:
        calls += make.empty_stdin()
    if restrictions.terminal:
        calls += make.terminal()
    calls += make.limits()
    if restrictions.mode is Mode.ONE_UID and (restrictions.user.uid or restrictions.user.gid):
        calls += make.nested_user()
    calls += make.rights()
    return table(kernel.machine, calls)


class _Maker:
    """Makes the calls."""

    def __init__(self, restrictions: Restrictions, kernel: Kernel) -> None:
        self._to = restrictions
        self._kernel = kernel
        self._numbers = MADE[kernel.machine]

    def call(
        self, name: str, *args: int | str | bytes | tuple[bytes, bytes], purpose: str = ""
    ) -> Call:
        """A call by name; texts are paths."""
        packed = tuple(os.fsencode(arg) + b"\0" if isinstance(arg, str) else arg for arg in args)
        return Call(number=self._numbers[name], args=packed, purpose=purpose)

    # -- control groups and descriptors ----------------------------------------------------------

    def entered(self) -> Iterator[Call]:
        """Enter control groups, and see them as the root of all."""
        for descriptor in self._to.groups:
            yield self.call("write", descriptor, b"0", 1, purpose="enter its control group")
        yield self.call("unshare", _CLONE_NEWCGROUP)

    def empty_stdin(self) -> Iterator[Call]:
        """Standard input is the sandbox's own /dev/null: an inherited one is the machine's."""
        yield self.call("openat", _AT_FDCWD, "/dev/null", os.O_RDWR, purpose="open /dev/null")
        yield self.call("dup3", _FIRST, 0, 0)
        yield self.call("close", _FIRST)

    def terminal(self) -> Iterator[Call]:
        """Lead a session of its own, of which the terminal is: so Ctrl-C reaches the command."""
        yield self.call("setsid")
        yield self.call("ioctl", 0, termios.TIOCSCTTY, 0, purpose="control its terminal")

    def limits(self) -> Iterator[Call]:
        """Limits that a process hands down to its children."""
        for number, value in self._to.limits:
            packed = struct.pack("<QQ", value, value)
            purpose = f"limit resource {number} to {value}"
            yield self.call("prlimit64", 0, number, packed, 0, purpose=purpose)

    # -- file systems ----------------------------------------------------------------------------

    def file_systems(self) -> Iterator[Call]:
        """Hide the machine's devices and what its kernel tells."""
        kernel = self._kernel
        if kernel.owns_devices(self._to):
            yield self.call("mkdirat", _AT_FDCWD, "/sys", 0o755)
            yield self._mount("sysfs", "/sys", "sysfs", _LOCKED_DOWN)
            if self._to.groups:
                yield self._mount("cgroup2", _CONTROL_GROUPS, "cgroup2", _LOCKED_DOWN, must=False)
            for target in self._to.overlays:
                yield self._attributes(target, also=_ATTR_NODEV)
            yield from self._devices()
        else:
            yield self._mount("tmpfs", _CONTROL_GROUPS, "tmpfs", _LOCKED_DOWN, must=False)
            for name in _DEVICES:
                yield self._attributes(f"/dev/{name}", also=_ATTR_RDONLY)
        for path in kernel.read_only:
            yield self._mount(path, path, "", _MS_BIND | _MS_REC)
            yield self._attributes(path, also=_ATTR_RDONLY, below=True)
        for path in kernel.masked_files:
            yield self._mount("/dev/null", path, "", _MS_BIND)
        for path in kernel.masked_folders:
            yield self._mount("tmpfs", path, "tmpfs", _LOCKED_DOWN)

    def _devices(self) -> Iterator[Call]:
        """Device nodes of the sandbox's own: what is done to them does not reach the machine's."""
        for name, numbers in _DEVICES.items():
            place, number = f"/dev/{name}", os.makedev(*numbers)
            mode = stat.S_IFCHR | 0o666
            yield self.call("mknodat", _AT_FDCWD, place, mode, number, purpose=f"make {place}")
            yield self._mount(place, place, "", _MS_BIND)
            yield self._attributes(place, less=_ATTR_NODEV)
        for name, target in _DEVICE_LINKS.items():
            yield self.call("symlinkat", target, _AT_FDCWD, f"/dev/{name}")
        yield self.call("mkdirat", _AT_FDCWD, "/dev/pts", 0o755)
        yield self._mount("devpts", "/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, _TERMINALS)

    def _mount(
        self, source: str, target: str, kind: str, flags: int, data: str = "", *, must: bool = True
    ) -> Call:
        purpose = f"mount {target}" if must else ""
        return self.call("mount", source, target, kind, flags, data, purpose=purpose)

    def _attributes(
        self, target: str, *, also: int = 0, less: int = 0, below: bool = False
    ) -> Call:
        attributes = struct.pack("<4Q", also, less, 0, 0)
        flags = _AT_RECURSIVE if below else 0
        return self.call(
            "mount_setattr", _AT_FDCWD, target, flags, attributes, len(attributes),
            purpose=f"restrict the mount {target}",
        )  # fmt: skip

    # -- rights ----------------------------------------------------------------------------------

    def nested_user(self) -> Iterator[Call]:
        """Become another user where there is one uid: in a user namespace that maps it."""
        user = self._to.user
        purpose = f"become uid {user.uid}, gid {user.gid}"
        yield self.call("unshare", _CLONE_NEWUSER, purpose=purpose)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user.uid} 0 1"),
            ("gid_map", f"{user.gid} 0 1"),
        ):
            path = f"/proc/self/{name}"
            yield self.call("openat", _AT_FDCWD, path, os.O_WRONLY, purpose=purpose)
            yield self.call("write", _FIRST, text.encode(), len(text), purpose=purpose)
            yield self.call("close", _FIRST)

    def rights(self) -> Iterator[Call]:
        """Capabilities, system calls and the user."""
        to = self._to
        if to.confined:
            for capability in range(self._kernel.last_capability + 1):
                if capability not in DOCKER_CAPABILITIES:
                    yield self.call(
                        "prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0,
                        purpose=f"give up capability {capability}",
                    )  # fmt: skip
            yield self.call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        program = filter_program(
            confined=to.confined,
            pretend_ownership=to.mode is Mode.ONE_UID,
            machine=self._kernel.machine,
        )
        if program is not None:
            length = struct.pack("<H6x", len(program) // 8)
            yield self.call(
                "seccomp", _SECCOMP_SET_MODE_FILTER, 0, (length, program),
                purpose="filter system calls",
            )  # fmt: skip
        if to.confined:
            yield self._capabilities(DOCKER_CAPABILITIES)
        if to.mode is Mode.ROOT:
            yield from self._identity()

    def _capabilities(self, kept: frozenset[int]) -> Call:
        """Those, and none to hand down through a program that is another user's."""
        bits = sum(1 << capability for capability in kept)
        low, high = bits & 0xFFFFFFFF, bits >> 32
        data = struct.pack("<6I", low, low, 0, high, high, 0)
        header = struct.pack("<Ii", _CAPABILITY_VERSION, 0)
        return self.call("capset", header, data, purpose="give up capabilities")

    def _identity(self) -> Iterator[Call]:
        user = self._to.user
        purpose = f"become uid {user.uid}, gid {user.gid}"
        groups = struct.pack(f"<{len(user.groups)}I", *user.groups)
        yield self.call("setgroups", len(user.groups), groups, purpose=purpose)
        yield self.call("setresgid", user.gid, user.gid, user.gid, purpose=purpose)
        yield self.call("setresuid", user.uid, user.uid, user.uid, purpose=purpose)
