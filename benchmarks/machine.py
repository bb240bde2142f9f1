"""The kind of machine that the figures are of; nothing that tells which one."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def kind() -> str:
    """One line."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    gib = int(memory[1]) / 1024**2 if memory else 0.0
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    return (
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {gib:.0f} GiB, {release},"
        f" kernel {kernel}, Python {platform.python_version()}"
    )


def load() -> float:
    """How many processes wanted a core in the last minute."""
    return os.getloadavg()[0]
