"""The dependencies stage: Trivy over lock files, against a list of packages read without it.

A requirements file that leaves versions open is resolved by pip, as an installation would be now,
and what that gives is scanned. Lock files among tests are not the repository's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import dagger
from dagger import dag

from ci.clock import Clock
from ci.errors import StageErrored, StageSkipped
from ci.findings import trivy as reports
from ci.stages import database as databases
from ci.stages import trivy
from ci.stages.database import VulnerabilityDatabase
from ci.stages.lockfiles import PATTERNS, Lock, canonical, is_lock, parse
from ci.stages.proof import Sample, require
from ci.stages.python_environment import SOURCE, base, run
from ci.stages.scanning import VENDORED, read, told
from ci.values import Evidence, Output, Scanner, Status

__all__ = ["dependencies"]

_SCANNED = "/scanned"
_PLANTED = "/planted"
_NOT_OURS = [f"**/{name}" for name in ("test", "tests", "testdata", "fixtures")]
_RESOLVED = "/tmp/resolved.json"  # noqa: S108 - in the container


async def dependencies(
    source: dagger.Directory,
    database: dagger.Directory | None = None,
    clock: Clock | None = None,
) -> Output[None]:
    """Look for known vulnerabilities in what the lock files pin; what counts is the gate's to say.

    Args:
        source: The repository.
        database: Trivy's vulnerability database; the official one, if not given.
        clock: Tells whether the database is current.

    Raises:
        StageSkipped: there is no lock file and no requirements file.
        StageFailed: a lock file is malformed.
        StageErrored: the database cannot be relied on, Trivy left something out or missed a planted
            package, or open versions could not be resolved.
    """
    files = source.filter(include=[*PATTERNS], exclude=[*VENDORED, *_NOT_OURS])
    paths = sorted(path for path in await files.glob("**/*") if is_lock(path))
    if not paths:
        raise StageSkipped(
            "no lock file and no requirements file",
            expected="requirements*.txt, requirements*.lock, poetry.lock, uv.lock, Pipfile.lock "
            "or pylock.toml",
        )
    sound = await databases.prepare(database, clock=clock)
    texts = await read(files, paths)
    locks = [parse(path, texts[path]) for path in paths]
    locks = [await _resolved(lock, source, sound) if lock.unpinned else lock for lock in locks]
    planted = _sample(sound)
    container = trivy.container(sound).with_directory(_SCANNED, _folder(locks))
    for path, text in planted.files.items():
        container = container.with_new_file(f"{_PLANTED}/{path}", text)
    patterns = [
        f"--file-patterns=pip:^{re.escape(lock.path)}$" for lock in locks if lock.type == "pip"
    ]
    command = ["fs", *trivy.VULNERABILITIES, "--include-dev-deps"]
    ran = await trivy.scans(
        container,
        {"planted": [*command, _PLANTED], "lock-files": [*command, *patterns, _SCANNED]},
        database=sound,
    )
    found = reports.parse(ran.texts["planted"]).rules()
    proof = require(found, planted, scanner="trivy")
    report = reports.parse(ran.texts["lock-files"])
    _complete(report, locks)
    count = len({package for lock in locks for package in lock.packages})
    scanner = Scanner(
        name="trivy", version=ran.version, database=sound.value, proven=True, proof=proof
    )
    return Output(
        evidence=Evidence(
            stage="dependencies",
            status=Status.PASSED,
            summary=told(report.findings, f"{count} packages of {', '.join(paths)}"),
            findings=report.findings,
            scanners=(scanner,),
            log="\n".join(
                f"{lock.path} leaves versions open; scanned are those that pip would install now"
                for lock in locks
                if lock.unpinned
            ),
        ),
        reports={"trivy-dependencies.json": ran.texts["lock-files"]},
    )


def _folder(locks: list[Lock]) -> dagger.Directory:
    folder = dag.directory()
    for lock in locks:
        folder = folder.with_new_file(lock.path, lock.text)
    return folder


def _sample(database: VulnerabilityDatabase) -> Sample:
    """A requirements file with a package that is known to be vulnerable.

    Raises:
        StageErrored: the database knows nothing of Python packages.
    """
    advisory = database.sample("pip")
    if advisory is None or not any(bucket.startswith("pip::") for bucket in database.buckets):
        raise StageErrored(
            "vulnerability database", got="no advisories for Python packages", expected="some"
        )
    return Sample(
        title=f"a planted {advisory.package} {advisory.version}",
        files={"requirements.txt": f"{advisory.package}=={advisory.version}\n"},
        rules=frozenset({advisory.rule}),
    )


def _complete(report: reports.TrivyReport, locks: list[Lock]) -> None:
    """Raise unless Trivy saw exactly the packages that the lock files pin, file by file."""
    seen: Mapping[str, set[tuple[str, str]]] = {
        result.target: {(canonical(name), version) for name, version in result.packages}
        for result in report.scanned(kind="lang-pkgs")
    }
    for lock in locks:
        if missed := sorted(set(lock.packages) - seen.get(lock.path, set())):
            names = ", ".join(f"{name} {version}" for name, version in missed[:10])
            raise StageErrored(
                f"trivy left {len(missed)} of {len(lock.packages)} packages of {lock.path} out",
                got=f"no word of {names}",
                expected="every package looked at",
            )


async def _resolved(lock: Lock, source: dagger.Directory, database: VulnerabilityDatabase) -> Lock:
    """The lock with the versions that pip would install now: again for each new database.

    Raises:
        StageErrored: pip finds none that fit.
    """
    container = (
        base()
        .with_directory(SOURCE, source)
        .with_workdir(SOURCE)
        .with_env_variable("TOWPATH_DATABASE", database.value.digest)
    )
    command = ["pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report",
               _RESOLVED, "--requirement", lock.path]  # fmt: skip
    ran = await run(container, command, accept=(0, 1))
    if ran.code:
        raise StageErrored(
            f"{lock.path} leaves versions open, and they cannot be resolved",
            got=f"{', '.join(lock.unpinned[:5])}\n{ran.stderr.strip()}",
            expected="versions pinned by == in a lock file, or some that pip finds",
        )
    report = json.loads(await ran.container.file(_RESOLVED).contents())
    packages = {
        (canonical(item["metadata"]["name"]), item["metadata"]["version"])
        for item in report["install"]
        if "dir_info" not in item.get("download_info", {})
    }
    return Lock.of_pins(lock.path, packages, unpinned=lock.unpinned)
