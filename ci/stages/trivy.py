"""Runs Trivy so that "clean" can be believed.

Trivy ends with 0 in many cases where it saw nothing. So all scans of one stage, the planted and the
real, run in one container on one private copy of the database, whose digest is taken before and
after; every warning that is not known to be harmless is an error; and whoever calls compares what
Trivy says that it saw with what it knows to be there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import anyio
import dagger
from dagger import dag

from ci.errors import StageErrored
from ci.stages.database import VulnerabilityDatabase
from ci.stages.python_environment import run
from ci.stages.tools import TRIVY_IMAGE

__all__ = ["OFFLINE", "VULNERABILITIES", "Scans", "check_log", "container", "scans"]

_CACHE = "/cache"
_OUT = "/out"
#: Where Trivy stands: it would read trivy.yaml and .trivyignore from there.
_EMPTY = "/empty"
_IGNORED = f"{_EMPTY}/ignored"
#: Nothing is fetched, and no file of the repository switches rules off.
OFFLINE = (
    "--cache-dir", _CACHE, "--skip-check-update", "--ignorefile", _IGNORED,
)  # fmt: skip
VULNERABILITIES = (
    *OFFLINE, "--skip-db-update", "--skip-java-db-update", "--offline-scan",
    "--scanners=vuln", "--list-all-pkgs", "--format=json",
)  # fmt: skip
_TROUBLE = re.compile(r"^\S+\t(?:WARN|ERROR|FATAL)\t")
#: Warnings that leave nothing out of a search for vulnerabilities or misconfigurations.
_HARMLESS = (
    "License detection is skipped",
    # Wheels bring SBOMs of the libraries in them; what those add is found besides the rest.
    "Third-party SBOM may lead to inaccurate vulnerability detection",
    "Recommend using Trivy to generate SBOMs",
    "[sbom] Ignore the OS package as no OS is detected",
    "Using severities from other vendors for some vulnerabilities",
)
_TAIL = 4000


@dataclass(frozen=True)
class Scans:
    """What the scans of one container wrote, by their names."""

    version: str
    texts: Mapping[str, str]


def container(database: VulnerabilityDatabase | None = None) -> dagger.Container:
    """Trivy, with a copy of the database that is its own."""
    made = (
        dag.container()
        .from_(TRIVY_IMAGE)
        .with_user("root")
        .with_new_file(_IGNORED, "")
        .with_workdir(_EMPTY)
    )
    return made.with_directory(_CACHE, database.folder) if database else made


async def scans(
    container: dagger.Container,
    commands: Mapping[str, Sequence[str]],
    *,
    database: VulnerabilityDatabase | None = None,
) -> Scans:
    """Run the named Trivy commands, one after another, in one container.

    Args:
        container: From ``container``, with what is to be scanned.
        commands: Arguments of each, without ``--output``.
        database: The one that the container has.

    Raises:
        StageErrored: one of them failed or warned, or changed the database.
    """
    ran = await run(container, ["sh", "-c", _script(commands)], accept=(0,))
    out = ran.container.directory(_OUT)
    written: dict[str, str] = {}

    async def read(name: str) -> None:
        written[name] = await out.file(name).contents()

    async with anyio.create_task_group() as tasks:
        for name in await out.entries():
            tasks.start_soon(read, name)
    for name in commands:
        check_log(name, int(written[f"{name}.code"]), written[f"{name}.log"])
    if database:
        _check_database(database, written["before"], written["after"])
    return Scans(
        version=written["version"].splitlines()[0].removeprefix("Version:").strip(),
        texts={name: written[f"{name}.report"] for name in commands},
    )


def _script(commands: Mapping[str, Sequence[str]]) -> str:
    """A shell script; each command leaves NAME.report, NAME.log and NAME.code."""
    digest = f"sha256sum {_CACHE}/db/trivy.db 2>&1 | cut -d' ' -f1"
    lines = ["set -u", f"mkdir {_OUT}", f"trivy --version > {_OUT}/version"]
    lines.append(f"{digest} > {_OUT}/before")
    for name, arguments in commands.items():
        place = PurePosixPath(_OUT, name)
        command = shlex.join(["trivy", *arguments, "--output", f"{place}.report"])
        lines.append(f"{command} 2> {place}.log < /dev/null; echo $? > {place}.code")
    lines.append(f"{digest} > {_OUT}/after")
    return "\n".join(lines)


def check_log(name: str, code: int, log: str) -> None:
    """Raise if a command failed, or said something that may mean that it left something out."""
    lines = [line for line in log.splitlines() if _TROUBLE.match(line)]
    trouble = [line for line in lines if not any(known in line for known in _HARMLESS)]
    if code or trouble:
        said = "\n".join(line.partition("\t")[2] for line in trouble) or log
        raise StageErrored(
            f"trivy ({name})",
            got=f"exit code {code}\n{said[-_TAIL:].strip()}",
            expected="exit code 0, and no warning that may mean that something was left out",
        )


def _check_database(database: VulnerabilityDatabase, before: str, after: str) -> None:
    expected = database.value.digest.removeprefix("sha256:")
    if not before.strip() == after.strip() == expected:
        raise StageErrored(
            "vulnerability database",
            got=f"sha256 {before.strip()} before the scan, {after.strip()} after it",
            expected=f"{expected} all the time",
        )
