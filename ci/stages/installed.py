"""What is installed in an image, listed without Trivy, and whether Trivy saw it all."""

from __future__ import annotations

import re
from collections.abc import Iterable

import dagger

from ci.errors import StageErrored
from ci.findings.report import read_json
from ci.stages import programs
from ci.stages.batch import Command, batch
from ci.stages.lockfiles import canonical
from ci.stages.python_environment import base
from ci.values import Value

__all__ = ["Installed", "System", "inventory"]

_ROOT = "/root-of-image"
_PROGRAM = "/programs/inventory.py"
#: Systems by the ID of os-release, and which part of the release names their advisories.
_RELEASES = {"debian": 1, "ubuntu": 2, "alpine": 2, "wolfi": 0, "chainguard": 0}

Packages = frozenset[tuple[str, str]]


class System(Value):
    """ID and VERSION_ID of os-release."""

    id: str
    version: str

    def __str__(self) -> str:
        return f"{self.id} {self.version}".strip() or "an unknown system"

    @property
    def bucket(self) -> str | None:
        """Where the database keeps the advisories of this release; None where not known."""
        if self.id not in _RELEASES:
            return None
        parts = self.version.split(".")[: _RELEASES[self.id]]
        return f"{self.id} {'.'.join(parts)}".strip()


class Installed(Value):
    """What is installed, as (name, version)."""

    system: System
    #: Files by which a scanner tells the system and its release.
    identity: tuple[str, ...]
    dpkg: Packages
    apk: Packages
    python: Packages

    @property
    def of_system(self) -> Packages:
        """Packages of the distribution."""
        return self.dpkg | self.apk

    def __str__(self) -> str:
        return f"{len(self.of_system)} packages of {self.system} and {len(self.python)} of Python"

    def check_seen(
        self, seen: Iterable[tuple[str, str]], *, of_system: Iterable[tuple[str, str]], by: str
    ) -> None:
        """Return if ``seen`` has every Python package and ``of_system`` every other.

        Epochs, and revisions where ``of_system`` has none, are not compared: Trivy reports them
        apart.

        Raises:
            StageErrored: something was left out.
        """
        python = {(canonical(name), version) for name, version in seen}
        system = {*of_system}
        missed = {p for p in self.python if (canonical(p[0]), p[1]) not in python}
        missed |= {p for p in self.of_system if not {(p[0], v) for v in spellings(p[1])} & system}
        if missed:
            names = ", ".join(f"{name} {version}" for name, version in sorted(missed)[:10])
            raise StageErrored(
                f"{by} left {len(missed)} of {len(self.python | self.of_system)} packages out",
                got=f"no word of {names}",
                expected="every installed package looked at",
            )


async def inventory(root: dagger.Directory) -> Installed:
    """List what is installed below the root of an image."""
    container = (
        base()
        .with_new_file(_PROGRAM, programs.text("inventory"))
        .with_mounted_directory(_ROOT, root)
    )
    command = Command(args=["python", _PROGRAM, _ROOT])
    ended = (await batch(container, {"inventory": command}))["inventory"].check(0)
    return read_json(ended.stdout, Installed, subject="the inventory", expected="lists of packages")


def spellings(version: str) -> set[str]:
    """A version of a distribution's package without epoch, with and without its revision."""
    bare = re.sub(r"^\d+:", "", version)
    return {bare, bare.rpartition("-")[0] or bare}
