"""The image scan: Trivy over what is installed in the image, against a list made without it."""

from __future__ import annotations

import dagger

from ci.clock import Clock
from ci.errors import StageErrored
from ci.findings import trivy as reports
from ci.stages import database as databases
from ci.stages import trivy
from ci.stages.database import Advisory, VulnerabilityDatabase
from ci.stages.installed import Installed, System, inventory
from ci.stages.proof import Sample, require, with_sample
from ci.stages.scanning import told
from ci.values import Evidence, Image, Output, Scanner, Status

__all__ = ["scan"]

_ROOT = "/image"
_PLANTED = "/planted"


async def scan(
    image: dagger.Container,
    database: dagger.Directory | None = None,
    clock: Clock | None = None,
) -> Output[None]:
    """Look for known vulnerabilities in the image; what counts is the gate's to say.

    Args:
        image: What to scan.
        database: Trivy's vulnerability database; the official one, if not given.
        clock: Tells whether the database is current.

    Raises:
        StageErrored: the database cannot be relied on or knows nothing of the image's system, or
            Trivy left something out or missed a planted package.
    """
    sound = await databases.prepare(database, clock=clock)
    root = image.rootfs()
    installed = await inventory(root)
    sample = _sample(sound, installed)
    container = trivy.container(sound).with_mounted_directory(_ROOT, root)
    container = with_sample(container, _PLANTED, sample)
    for name in installed.identity:
        container = container.with_file(f"{_PLANTED}/{name}", root.file(name))
    command = ["rootfs", *trivy.VULNERABILITIES]
    ran = await trivy.scans(
        container, {"planted": [*command, _PLANTED], "image": [*command, _ROOT]}, database=sound
    )
    proof = require(reports.parse(ran.texts["planted"]).rules(), sample, scanner="trivy")
    report = reports.parse(ran.texts["image"])
    if installed.of_system and report.os_family != installed.system.id:
        raise StageErrored(
            "trivy did not recognise the image's system",
            got=report.os_family or "none",
            expected=str(installed.system),
        )
    installed.check_seen(
        report.packages(kind="lang-pkgs", type="python-pkg"),
        of_system=report.packages(kind="os-pkgs"),
        by="trivy",
    )
    scanner = Scanner(
        name="trivy", version=ran.version, database=sound.value, proven=True, proof=proof
    )
    return Output(
        evidence=Evidence(
            stage="scan",
            status=Status.PASSED,
            summary=told(report.findings, str(installed)),
            findings=report.findings,
            image=await _image(image),
            scanners=(scanner,),
        ),
        reports={"trivy-image.json": ran.texts["image"]},
    )


def _sample(database: VulnerabilityDatabase, installed: Installed) -> Sample:
    """Packages known to be vulnerable, one for each part of the database that is searched.

    Raises:
        StageErrored: the database knows nothing of the image's system, or nothing can be planted.
    """
    files: dict[str, str] = {}
    rules: set[str] = set()
    names: list[str] = []
    advisories: list[tuple[Advisory, dict[str, str]]] = []
    if not installed.of_system and (installed.system.id or not installed.python):
        raise StageErrored(
            "nothing in the image tells what is installed in it",
            got=str(installed),
            expected="packages of dpkg, of apk, or of Python on no system at all",
            hint="Trivy would call such an image clean",
        )
    if installed.of_system:
        advisory = _of_system(database, installed.system)
        planted = _dpkg(advisory) if installed.dpkg else _apk(advisory)
        advisories.append((advisory, planted))
    if python := database.sample("pip"):
        advisories.append((python, _wheel(python)))
    for advisory, planted in advisories:
        files |= planted
        rules.add(advisory.rule)
        names.append(f"{advisory.package} {advisory.version}")
    return Sample(
        title=f"a planted {' and a planted '.join(names)}", files=files, rules=frozenset(rules)
    )


def _of_system(database: VulnerabilityDatabase, system: System) -> Advisory:
    bucket = system.bucket
    if bucket is None or bucket not in database.buckets:
        known = sorted(name for name in database.buckets if name.split(" ")[0] == system.id)
        raise StageErrored(
            f"the vulnerability database knows nothing of {system}",
            got=", ".join(known) or "no release of it",
            expected=bucket or "a system whose packages can be checked",
            hint="Trivy would call such an image clean; use another base image or database",
        )
    advisory = database.sample(bucket)
    if advisory is None:
        raise StageErrored(
            f"the vulnerability database has no advisory of {bucket} that can be planted"
        )
    return advisory


def _dpkg(advisory: Advisory) -> dict[str, str]:
    return {
        "var/lib/dpkg/status": (
            "Package: planted\nStatus: install ok installed\nArchitecture: all\n"
            "Maintainer: planted <planted@example.invalid>\n"
            f"Source: {advisory.package}\nVersion: {advisory.version}\nDescription: planted\n\n"
        )
    }


def _apk(advisory: Advisory) -> dict[str, str]:
    return {
        "lib/apk/db/installed": (
            f"P:{advisory.package}\nV:{advisory.version}-r0\nA:noarch\no:{advisory.package}\n\n"
        )
    }


def _wheel(advisory: Advisory) -> dict[str, str]:
    name, version = advisory.package, advisory.version
    folder = f"usr/lib/python3/site-packages/{name}-{version}.dist-info"
    return {f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}


async def _image(image: dagger.Container) -> Image:
    """Whom it runs as, and the labels that say what it is."""
    found: dict[str, str] = {}
    for name in ("title", "version", "revision"):
        label = f"org.opencontainers.image.{name}"
        if value := await image.label(label):
            found[label] = value
    return Image(user=await image.user(), labels=tuple(sorted(found.items())))
