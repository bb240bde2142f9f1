"""The command line of bubblewrap, as a pure function of what the sandbox is to look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ci.engine.sandbox.launcher import Identity

__all__ = [
    "DOCKER_CAPABILITIES",
    "Bind",
    "Data",
    "Descriptors",
    "Mode",
    "MountPlan",
    "Overlay",
    "Plan",
    "Tmpfs",
    "arguments",
    "overlay_options_size",
]

#: What Docker and BuildKit give root, less MKNOD: without a device cgroup it opens the disk.
DOCKER_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
    "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip

#: Where root of the host could change the kernel: read-only, as in Docker.
_KERNEL = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
#: What one layer adds to its path in the mount options: bwrap's prefix and a colon.
_LAYER_COST = len("/oldroot:")


class Mode(StrEnum):
    """How the sandbox comes by the owners of files."""

    #: Real root, no user namespace: owners are what they are.
    ROOT = "root"
    #: A user namespace with one uid: changes of ownership succeed without effect.
    ONE_UID = "one-uid"


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """Layers merged at ``target``. Without ``upper`` it is read-only, unless ``in_memory``."""

    target: str
    #: Folders, lowest first; at least one.
    lower: tuple[str, ...]
    upper: str = ""
    work: str = ""
    #: What is written goes to memory and is lost at the end.
    in_memory: bool = False


@dataclass(frozen=True, kw_only=True)
class Bind:
    """A file or folder of the host at ``target``."""

    target: str
    source: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Tmpfs:
    """An empty file system in memory at ``target``."""

    target: str
    mode: int = 0o1777
    size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Data:
    """A read-only file in memory at ``target``; its content comes by an open descriptor."""

    target: str
    descriptor: int
    mode: int = 0o400


MountPlan = Overlay | Bind | Tmpfs | Data


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One sandbox: its file systems, its process, its rights."""

    mode: Mode
    root: Overlay
    #: In the order in which they are mounted: parents before children.
    mounts: tuple[MountPlan, ...] = ()
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"
    #: Make the workdir, and its parents, where they are missing.
    make_workdir: bool = False
    user: Identity = field(default_factory=Identity)
    all_capabilities: bool = False
    #: Keep it from the kernel's own settings: where its root is the host's, nothing else does.
    guarded: bool = True
    #: Files of /proc that show nothing, where it is guarded. They must be there.
    masked: tuple[str, ...] = ()
    #: It joins namespaces of the session first, and so is root in a user namespace already.
    joined: bool = False


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """Numbers of the descriptors that the command line names."""

    arguments: int
    status: int
    launcher: int
    seccomp: int | None = None


def overlay_options_size(overlay: Overlay) -> int:
    """Bytes of the mount options; the kernel cuts them at 4,096."""
    paths = (*overlay.lower, overlay.upper, overlay.work)
    return sum(len(path.encode()) + _LAYER_COST for path in paths) + 64


def arguments(plan: Plan, fds: Descriptors) -> tuple[list[str], list[str]]:
    """The command line without the program, and the arguments that are given by descriptor.

    The environment is among the latter, so that no ``ps`` shows it.
    """
    hidden = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    hidden += ["--die-with-parent", "--new-session", "--json-status-fd", str(fds.status)]
    hidden += _rights(plan, fds)
    hidden += _mount(plan.root)
    hidden += ["--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108
    hidden += ["--mqueue", "/dev/mqueue", "--proc", "/proc", "--ro-bind", "/sys", "/sys"]
    if plan.guarded:
        for path in _KERNEL:
            hidden += ["--ro-bind-try", path, path]
        for path in plan.masked:
            hidden += ["--ro-bind", "/dev/null", path]
    for mount in plan.mounts:
        hidden += _mount(mount)
    if plan.make_workdir:
        hidden += ["--perms", "755", "--dir", plan.workdir]
    hidden += ["--hostname", "towpath", "--chdir", plan.workdir, "--clearenv"]
    for name, value in plan.env:
        hidden += ["--setenv", name, value]
    visible = ["--args", str(fds.arguments), "--", f"/proc/self/fd/{fds.launcher}", *plan.args]
    return visible, hidden


def _rights(plan: Plan, fds: Descriptors) -> list[str]:
    """User namespace, capabilities and seccomp."""
    found: list[str] = []
    if plan.mode is Mode.ONE_UID and (not plan.joined or plan.user.uid or plan.user.gid):
        found += ["--unshare-user", "--uid", str(plan.user.uid), "--gid", str(plan.user.gid)]
    if fds.seccomp is not None:
        found += ["--seccomp", str(fds.seccomp)]
    if plan.mode is Mode.ROOT and not plan.all_capabilities:
        found += ["--cap-drop", "ALL"]
        for capability in DOCKER_CAPABILITIES:
            found += ["--cap-add", capability]
    elif plan.user.uid == 0:
        found += ["--cap-add", "ALL"]
    return found


def _mount(mount: MountPlan) -> list[str]:
    match mount:
        case Bind():
            return ["--ro-bind" if mount.read_only else "--bind", mount.source, mount.target]
        case Data():
            content = str(mount.descriptor)
            return ["--perms", f"{mount.mode:o}", "--ro-bind-data", content, mount.target]
        case Tmpfs():
            size = ["--size", str(mount.size_bytes)] if mount.size_bytes else []
            return ["--perms", f"{mount.mode:o}", *size, "--tmpfs", mount.target]
        case Overlay():
            return _overlay(mount)


def _overlay(mount: Overlay) -> list[str]:
    sources = _flags("--overlay-src", mount.lower)
    if mount.upper:
        return [*sources, "--overlay", mount.upper, mount.work, mount.target]
    if mount.in_memory:
        return [*sources, "--tmp-overlay", mount.target]
    if len(mount.lower) == 1:  # bwrap wants two for an overlay
        return ["--ro-bind", mount.lower[0], mount.target]
    return [*sources, "--ro-overlay", mount.target]


def _flags(name: str, values: Sequence[str]) -> list[str]:
    return [item for value in values for item in (name, value)]
