"""Control groups: limits of memory and processes for a command with all that it starts.

Version 2 where the machine has it and lets us: as root, or in a scope that was delegated to the
user (``systemd-run --user --scope -p Delegate=yes``). Version 1 where one can write to its
hierarchies.

Source: the kernel's cgroup-v2.rst; cgroup-v1/memory.rst and pids.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ci import sizes
from ci.engine.sandbox.limits import Limits

__all__ = ["ControlGroups", "Group"]

_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "towpath-"
_CONTROLLERS = ("memory", "pids")


@dataclass(frozen=True, kw_only=True)
class _Words:
    """File names of a version."""

    memory: str
    #: Swap would only put the limit off; written after memory, where it is there.
    swap: str
    #: Holds a line ``oom_kill N``.
    kills: str
    #: Holds ``max N``; empty: nothing counts.
    forks: str


_VERSION_2 = _Words(
    memory="memory.max", swap="memory.swap.max", kills="memory.events", forks="pids.events"
)
_VERSION_1 = _Words(
    memory="memory.limit_in_bytes",
    swap="memory.memsw.limit_in_bytes",
    kills="memory.oom_control",
    forks="pids.events",
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The groups of one command: one folder, or with version 1 one for each controller."""

    folders: Mapping[str, Path]
    limits: Limits
    words: _Words
    #: Open files by which a process enters; whoever starts it closes them.
    entrances: tuple[int, ...] = field(default=())

    def exceeded(self) -> str:
        """Which limit was hit, and what it is; empty: none."""
        if _count(self.folders["memory"] / self.words.kills, "oom_kill"):
            most = sizes.readable(self.limits.memory_bytes)
            return f"killed for using more than {most} of memory"
        if self.limits.processes and _count(self.folders["pids"] / self.words.forks, "max"):
            return f"had {self.limits.processes} processes, and may have no more"
        return ""

    def remove(self) -> bool:
        """Remove the folders; False while a process is still in them."""
        for folder in set(self.folders.values()):
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


class ControlGroups:
    """Makes groups beneath one of its own, which ``close`` removes."""

    _made: ClassVar[int] = 0

    def __init__(self, parents: Mapping[str, Path], words: _Words) -> None:
        self._words = words
        self._parents = parents
        self._left: list[Group] = []
        ControlGroups._made += 1
        self._name = f"{_PREFIX}{os.getpid()}-{ControlGroups._made}"
        self._own = {name: parent / self._name for name, parent in parents.items()}
        for folder in self._folders(self._own):
            folder.mkdir(exist_ok=True)
            if words is _VERSION_2:
                (folder / "cgroup.subtree_control").write_text("+memory +pids")

    @staticmethod
    def _folders(by_controller: Mapping[str, Path]) -> list[Path]:
        return list(dict.fromkeys(by_controller.values()))

    def __str__(self) -> str:
        """Which they are, for people."""
        place = ", ".join(str(folder) for folder in self._folders(self._parents))
        return f"version {2 if self._words is _VERSION_2 else 1} at {place}"

    @classmethod
    def open(
        cls, root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")
    ) -> ControlGroups | None:
        """Those of this machine, or None where it does not let us."""
        for parents, words in _candidates(root, membership):
            for folder in cls._folders(parents):
                _sweep(folder)
            with suppress(OSError):
                return cls(parents, words)
        return None

    def make(self, limits: Limits, name: str) -> Group:
        """A group with these limits. Raises OSError."""
        self._left = [group for group in self._left if not group.remove()]
        folders = {controller: own / name for controller, own in self._own.items()}
        for folder in self._folders(folders):
            folder.mkdir()
        if limits.memory_bytes:
            text = str(limits.memory_bytes)
            (folders["memory"] / self._words.memory).write_text(text)
            with suppress(OSError):  # a kernel without it has none to limit
                swap = folders["memory"] / self._words.swap
                swap.write_text("0" if self._words is _VERSION_2 else text)
        if limits.processes:
            (folders["pids"] / "pids.max").write_text(str(limits.processes))
        entrances = [
            os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            for folder in self._folders(folders)
        ]
        return Group(folders=folders, limits=limits, words=self._words, entrances=tuple(entrances))

    def leave(self, group: Group) -> None:
        """The command has ended. Its last process may need a moment more."""
        if not group.remove():
            self._left.append(group)

    def close(self) -> None:
        """Remove what is left; all commands have ended."""
        for group in self._left:
            group.remove()
        for folder in self._folders(self._own):
            with suppress(OSError):  # the next start sweeps it
                folder.rmdir()


def _candidates(root: Path, membership: Path) -> list[tuple[dict[str, Path], _Words]]:
    """Where groups could be made, the best first."""
    own = _memberships(membership)
    found: list[tuple[dict[str, Path], _Words]] = []
    if (root / "cgroup.controllers").exists():
        # Root's own may be a login's, whose processes are not ours to move: it uses the top.
        place = root if os.geteuid() == 0 else root / own.get("", "").lstrip("/")
        if _delegates(place):
            found.append((dict.fromkeys(_CONTROLLERS, place), _VERSION_2))
    elif all(name in own for name in _CONTROLLERS):
        parents = {name: root / name / own[name].lstrip("/") for name in _CONTROLLERS}
        found.append((parents, _VERSION_1))
    return found


def _memberships(path: Path) -> dict[str, str]:
    """Controller (empty for version 2) to the group that this process is in."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in path.read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            found |= dict.fromkeys(controllers.split(","), place)
    return found


def _delegates(folder: Path) -> bool:
    """Groups beneath it have the controllers, if need be once we have asked for them."""
    control = folder / "cgroup.subtree_control"
    try:
        if set(_CONTROLLERS) <= set(control.read_text().split()):
            return os.access(folder, os.W_OK)
        if not set(_CONTROLLERS) <= set((folder / "cgroup.controllers").read_text().split()):
            return False
        if (folder / "cgroup.type").exists():  # the machine's top has none, and may have processes
            _step_aside(folder)
        control.write_text("+memory +pids")
    except OSError:
        return False
    return True


def _step_aside(folder: Path) -> None:
    """Move its processes to a group beneath: one with processes hands out no controllers.

    The folder was delegated to this user, or is the top of a container.
    """
    inside = (folder / "cgroup.procs").read_text().split()
    if inside:
        (folder / "engine").mkdir(exist_ok=True)
    for pid in inside:
        with suppress(ProcessLookupError):
            (folder / "engine/cgroup.procs").write_text(pid)


def _sweep(parent: Path) -> None:
    """Remove the groups of engines that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        pid = re.match(rf"{_PREFIX}(\d+)-", folder.name)
        if pid and not Path(f"/proc/{pid[1]}").exists():
            for below in (*(each for each in folder.iterdir() if each.is_dir()), folder):
                with suppress(OSError):
                    below.rmdir()


def _count(path: Path, word: str) -> int:
    """The number after a word in a file of the kernel's."""
    with suppress(OSError):
        for line in path.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == word and number.isdigit():
                return int(number)
    return 0
