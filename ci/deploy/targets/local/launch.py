"""Run a program by a private file, so that neither its variables nor its arguments are public.

Stand-alone on purpose: ``python -I launch.py LAUNCH`` imports nothing but the standard library.
LAUNCH is JSON, readable by its owner only: ``{"argv": [...], "env": {...}, "record": path}``. The
process records who it is (``pid start-time boot-id``) and then *becomes* the program, so the
supervisor's signals reach it, and a later command can tell it from a stranger with its pid.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def identity(pid: int | str) -> str | None:
    """``pid start-time boot-id`` of a living process; None of one that is dead or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{pid} {rest[18]} {boot}"


def main(path: str) -> None:
    """Become the program."""
    launch = json.loads(Path(path).read_text())
    record = Path(launch["record"])
    fresh = record.with_name(f".{record.name}.{os.getpid()}")
    fresh.write_text(identity(os.getpid()) or "")
    fresh.replace(record)
    os.execve(launch["argv"][0], launch["argv"], launch["env"])  # noqa: S606 - an argv, no shell


if __name__ == "__main__":
    main(sys.argv[1])
