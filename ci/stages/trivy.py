"""Runs Trivy so that "clean" can be believed.

Trivy ends with 0 in many cases where it saw nothing. So all scans of one stage, the planted and the
real, run in one container on one private copy of the database, whose digest is taken before and
after; every warning that is not known to be harmless is an error; and whoever calls compares what
Trivy says that it saw with what it knows to be there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagger
from dagger import dag

from ci.errors import StageErrored
from ci.stages.batch import REPORT, Command, batch
from ci.stages.database import VulnerabilityDatabase
from ci.stages.tools import TRIVY_IMAGE

__all__ = ["OFFLINE", "VULNERABILITIES", "Scans", "check_log", "container", "scans"]

_CACHE = "/cache"
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
    digest = Command(args=["sha256sum", f"{_CACHE}/db/trivy.db"])
    run = {
        name: Command(args=["trivy", *arguments, "--output", REPORT], workdir=_EMPTY)
        for name, arguments in commands.items()
    }
    # Trivy locks a database, and reads the other things at leisure.
    before = {"version": Command(args=["trivy", "--version"])} | (
        {"before": digest} if database else {}
    )
    after = {"after": digest} if database else {}
    ended = await batch(container, before | run | after, at_once=database is None)
    for name in commands:
        check_log(name, ended[name].code, ended[name].stderr)
    if database:
        _check_database(database, *(ended[name].stdout for name in ("before", "after")))
    version = ended["version"].check(0).stdout.splitlines()[0]
    return Scans(
        version=version.removeprefix("Version:").strip(),
        texts={name: ended[name].report for name in commands},
    )


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
    before, after = before.partition(" ")[0], after.partition(" ")[0]
    if not before == after == expected:
        raise StageErrored(
            "vulnerability database",
            got=f"sha256 {before or 'unknown'} before the scan, {after or 'unknown'} after it",
            expected=f"{expected} all the time",
        )
