"""The vulnerability database: given or the official one, read and judged before Trivy sees it.

Trivy says "clean" with a database that is empty, damaged or stale, so what it holds is read here
without Trivy, and every scan says by its digest which one it used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import dagger
from dagger import dag
from pydantic import AwareDatetime, Field
from pydantic.alias_generators import to_pascal

from ci.clock import Clock, SystemClock
from ci.errors import StageErrored
from ci.findings.report import read_json
from ci.stages import programs
from ci.stages.batch import Command, batch
from ci.stages.python_environment import base
from ci.stages.tools import TRIVY_DATABASES, TRIVY_IMAGE
from ci.values import Database, Value

__all__ = ["Advisory", "VulnerabilityDatabase", "prepare"]

_FOLDER = "/database"
_DOWNLOAD_SECONDS = 240
#: The official database comes every six hours, and holds for a day.
_HOURS = 6
#: The official database knows several hundred thousand; one with fewer than this is told as small.
_SMALL = 10_000
_HINT = (
    "give one by --database=FOLDER or in ci.toml; examples/trivy-db makes a small one for "
    "demonstration"
)


class Advisory(Value):
    """An advisory that the database holds, and a version of a package that it covers."""

    package: str
    version: str
    rule: str


class _Metadata(Value, extra="ignore", alias_generator=to_pascal):
    version: int
    next_update: AwareDatetime
    updated_at: AwareDatetime


class _Manifest(Value, extra="ignore"):
    small: bool
    source: str
    sha256: str
    samples: dict[str, Advisory] = Field(default_factory=dict)


class _Description(Value, extra="ignore"):
    sha256: str
    metadata: _Metadata
    manifest: _Manifest | None
    buckets: frozenset[str]
    samples: dict[str, Advisory]
    advisories: int


@dataclass(frozen=True, kw_only=True)
class VulnerabilityDatabase:
    """A database that was looked into and found sound."""

    #: Holds db/trivy.db and db/metadata.json.
    folder: dagger.Directory
    value: Database
    buckets: frozenset[str]
    #: By bucket: what a scan with it has to find.
    samples: Mapping[str, Advisory] = field(default_factory=dict)

    def sample(self, bucket: str) -> Advisory | None:
        """What to plant in order to prove that this bucket is searched."""
        return self.samples.get(bucket)


async def prepare(
    given: dagger.Directory | None, *, clock: Clock | None = None
) -> VulnerabilityDatabase:
    """The given database, or the official one, if it can be relied on.

    Raises:
        StageErrored: there is none, or it is damaged, empty, or past its next update.
    """
    clock = clock or SystemClock()
    source = "a given folder"
    if given is None:
        given, source = await _official(clock), "Trivy's official database"
    folder = await _laid_out(given)
    described = await _describe(folder)
    _judge(described, clock.now())
    manifest = described.manifest
    value = Database(
        source=manifest.source if manifest else source,
        digest=f"sha256:{described.sha256}",
        advisories=described.advisories,
        updated_at=described.metadata.updated_at,
        small=manifest.small if manifest else described.advisories < _SMALL,
    )
    samples = {**_KNOWN, **described.samples, **(manifest.samples if manifest else {})}
    return VulnerabilityDatabase(
        folder=folder, value=value, buckets=described.buckets, samples=samples
    )


#: GHSA-h5c8-rqwp-cp95.
_KNOWN = {"pip": Advisory(package="jinja2", version="3.1.2", rule="CVE-2024-22195")}


async def _laid_out(given: dagger.Directory) -> dagger.Directory:
    """The folder as Trivy's cache folder: the files in db/."""
    entries = {entry.rstrip("/") for entry in await given.entries()}
    if "db" in entries:
        return given
    if "trivy.db" in entries:
        return dag.directory().with_directory("db", given)
    raise StageErrored(
        "vulnerability database",
        got=f"a folder with {', '.join(sorted(entries)[:10]) or 'nothing'} in it",
        expected="db/trivy.db and db/metadata.json",
        hint=_HINT,
    )


async def _describe(folder: dagger.Directory) -> _Description:
    container = (
        base()
        .with_new_file("/programs/read_database.py", programs.text("read_database"))
        .with_mounted_directory(_FOLDER, folder)
    )
    command = Command(args=["python", "/programs/read_database.py", _FOLDER])
    ended = (await batch(container, {"read-database": command}))["read-database"].check(0, 1)
    if ended.code:
        raise StageErrored(
            "vulnerability database",
            got=ended.stderr.strip(),
            expected="a sound trivy.db",
            hint=_HINT,
        )
    return read_json(
        ended.stdout, _Description, subject="the vulnerability database", expected="Trivy's"
    )


def _judge(described: _Description, now: datetime) -> None:
    subject = "vulnerability database"
    missing = {"data-source", "vulnerability"} - described.buckets
    if missing or not described.advisories:
        raise StageErrored(
            subject,
            got=f"{described.advisories} advisories, buckets {sorted(described.buckets)[:10]}",
            expected="advisories",
            hint=_HINT,
        )
    if described.metadata.version != 2:
        got = f"version {described.metadata.version}"
        raise StageErrored(subject, got=got, expected="version 2, which this Trivy reads")
    if described.metadata.next_update < now:
        raise StageErrored(
            subject,
            got=f"one that was to be updated by {described.metadata.next_update:%Y-%m-%d %H:%M}",
            expected="a current one",
            hint=_HINT,
        )
    manifest = described.manifest
    if manifest and manifest.sha256 != described.sha256:
        raise StageErrored(
            subject, got=f"sha256 {described.sha256}", expected=f"{manifest.sha256} of towpath.json"
        )


async def _official(clock: Clock) -> dagger.Directory:
    """Download it, once in a while; a failure is not kept.

    Raises:
        StageErrored: none of its places answers, or not in time.
    """
    now = clock.now()
    slot = f"{now:%Y-%m-%d}/{now.hour // _HOURS}"
    tries = "; ".join(
        f"timeout {_DOWNLOAD_SECONDS} trivy image --download-db-only --no-progress "
        f"--cache-dir {_FOLDER} --db-repository {place} && exit 0"
        for place in TRIVY_DATABASES
    )
    container = dag.container().from_(TRIVY_IMAGE).with_env_variable("TOWPATH_SLOT", slot)
    try:
        return await container.with_exec(["sh", "-c", f"{tries}; exit 1"]).directory(_FOLDER).sync()
    except dagger.ExecError as error:
        said = [line for line in error.stderr.splitlines() if line.strip()]
        raise StageErrored(
            "the official vulnerability database is not to be had",
            got="\n".join(said[-4:]) or f"exit code {error.exit_code}",
            expected=f"a download from {' or '.join(TRIVY_DATABASES)}",
            hint=_HINT,
        ) from error
