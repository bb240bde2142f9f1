"""Docker's, Podman's or nerdctl's own images on this machine, by way of their programs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import anyio

from ci.errors import CiError

__all__ = ["PROGRAMS", "ContainerProgram", "find_program"]

#: In the order in which they are looked for.
PROGRAMS = ("docker", "podman", "nerdctl")


class ContainerProgram:
    """One that answers. It keeps images for whoever runs it."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def load(self, archive: Path, name: str) -> None:
        """Take the one image of an archive, and give it that name.

        Raises:
            CiError: it does not take it.
        """
        said = await self._run(name, "load", "-i", str(archive))
        loaded = said.strip().rpartition("\n")[2].rpartition(": ")[2]
        await self._run(name, "tag", loaded, name)

    async def save(self, name: str, archive: Path) -> None:
        """Write an image to an archive.

        Raises:
            CiError: it has none of that name.
        """
        await self._run(name, "save", "-o", str(archive), name)

    async def _run(self, image: str, *args: str) -> str:
        done = await anyio.run_process([self._path, *args], check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise CiError(
                f"image {image}, {Path(self._path).name} {args[0]}",
                got=said[-500:] or f"code {done.returncode}",
            )
        return done.stdout.decode(errors="replace")


async def find_program() -> ContainerProgram:
    """The first of ``PROGRAMS`` that is here and answers.

    Raises:
        CiError: none does.
    """
    complaints = []
    for name in PROGRAMS:
        path = shutil.which(name)
        if path is None:
            continue
        done = await anyio.run_process([path, "info"], check=False, stderr=subprocess.STDOUT)
        if done.returncode == 0:
            return ContainerProgram(path)
        said = done.stdout.decode(errors="replace").strip().rpartition("\n")[2]
        complaints.append(f"{name}, which says {said[-200:]!r}")
    raise CiError(
        "images of this machine",
        got="; ".join(complaints) or "no container program",
        expected=f"one of {', '.join(PROGRAMS)} that answers",
        hint="export the image to a file, or publish it to a registry",
    )
