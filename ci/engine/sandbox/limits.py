"""Limits: what one command may use of the machine."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass

from ci.errors import CiError

__all__ = ["LimitExceeded", "Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """For each command, with all that it starts; 0 is no limit."""

    memory_bytes: int = 0
    processes: int = 0
    #: Of one process.
    open_files: int = 0
    #: Until it is killed; services run as long as they are needed.
    seconds: float = 0.0

    @property
    def need_groups(self) -> bool:
        """They hold for a command as a whole only where there are control groups."""
        return bool(self.memory_bytes or self.processes)

    def of_process(self, *, grouped: bool) -> tuple[tuple[int, int], ...]:
        """(resource, value) that each process gets; without control groups they must do."""
        wanted = [(resource.RLIMIT_NOFILE, self.open_files)]
        if not grouped:
            wanted.append((resource.RLIMIT_DATA, self.memory_bytes))
            wanted.append((resource.RLIMIT_NPROC, self.processes))
        return tuple((number, _possible(number, value)) for number, value in wanted if value)


def _possible(number: int, value: int) -> int:
    """The value, or less where this process may have no more itself."""
    hard = resource.getrlimit(number)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


class LimitExceeded(CiError):
    """A command took longer than it may; it was killed."""

    def __init__(self, cmd: Sequence[str], seconds: float) -> None:
        super().__init__(
            f"command {' '.join(cmd)!r}",
            got=f"no end after {seconds:g} s, so it was killed",
            hint="the limit is TOWPATH_EXEC_SECONDS, or exec_seconds under [engine] in ci.toml",
        )
