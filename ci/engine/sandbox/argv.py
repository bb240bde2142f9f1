"""The command line of bubblewrap, as a pure function of what the sandbox is to look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ci.engine.trees.passwd import Identity

__all__ = [
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
    #: It gets what Docker gives by default (``confinement.py``); else all that its root has.
    confined: bool = True
    #: It has no network but its own loopback.
    offline: bool = False
    #: Its standard streams are a terminal, which it controls.
    terminal: bool = False
    #: It joins namespaces of the session first, and so is root in a user namespace already.
    joined: bool = False
    #: A descriptor that stays open until the last process of the sandbox is gone.
    held: int | None = None


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """Numbers of the descriptors that the command line names."""

    arguments: int
    status: int
    launcher: int
    #: Of a filter of system calls for the sandbox's first process, and all others.
    seccomp: int | None = None


def overlay_options_size(overlay: Overlay) -> int:
    """Bytes of the mount options; the kernel cuts them at 4,096."""
    paths = (*overlay.lower, overlay.upper, overlay.work)
    return sum(len(path.encode()) + _LAYER_COST for path in paths) + 64


def arguments(
    plan: Plan, fds: Descriptors, *, lend_devices: bool = True
) -> tuple[list[str], list[str]]:
    """The command line without the program, and the arguments that are given by descriptor.

    The environment is among the latter, so that no ``ps`` shows it. Without ``lend_devices`` the
    launcher fills /dev and /sys.
    """
    hidden = ["--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    hidden += ["--die-with-parent", "--new-session", "--json-status-fd", str(fds.status)]
    hidden += ["--unshare-net"] if plan.offline else []
    if fds.seccomp is not None:
        hidden += ["--seccomp", str(fds.seccomp)]
    if plan.mode is Mode.ONE_UID:
        if not plan.joined:
            hidden += ["--unshare-user", "--uid", "0", "--gid", "0"]
        hidden += ["--cap-add", "ALL"]
    if plan.held is not None:
        hidden += ["--sync-fd", str(plan.held)]
    hidden += _mount(plan.root)
    hidden += ["--dev" if lend_devices else "--tmpfs", "/dev"]
    hidden += ["--perms", "1777", "--tmpfs", "/dev/shm", "--mqueue", "/dev/mqueue"]  # noqa: S108
    hidden += ["--proc", "/proc"]
    if lend_devices:
        hidden += ["--ro-bind", "/sys", "/sys"]
    for mount in plan.mounts:
        hidden += _mount(mount)
    if plan.make_workdir:
        hidden += ["--perms", "755", "--dir", plan.workdir]
    hidden += ["--hostname", "towpath", "--chdir", plan.workdir, "--clearenv"]
    for name, value in plan.env:
        hidden += ["--setenv", name, value]
    visible = ["--args", str(fds.arguments), "--", f"/proc/self/fd/{fds.launcher}", *plan.args]
    return visible, hidden


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
