"""The sbom stage: what is in the image, as CycloneDX and SPDX, each held against its own list."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

import dagger
from pydantic import Field
from pydantic.alias_generators import to_camel

from ci.findings.report import read_json
from ci.stages import trivy
from ci.stages.installed import inventory
from ci.values import Evidence, Output, Scanner, Status, Value

__all__ = ["sbom"]

_ROOT = "/image"
_EXPECTED = "a bill of materials"


class _Part(Value, extra="ignore", alias_generator=to_camel):
    pass


class _Component(_Part):
    purl: str = ""


class _CycloneDx(_Part):
    bom_format: str
    components: tuple[_Component, ...] = ()


class _Reference(_Part):
    reference_type: str = ""
    reference_locator: str = ""


class _SpdxPackage(_Part):
    external_refs: tuple[_Reference, ...] = ()


class _Spdx(_Part):
    spdx_version: str
    packages: tuple[_SpdxPackage, ...] = Field(default=())


async def sbom(image: dagger.Container) -> Output[None]:
    """List what is installed in the image: ``sbom.cdx.json`` and ``sbom.spdx.json``.

    Raises:
        StageErrored: Trivy failed, or left an installed package out of either.
    """
    root = image.rootfs()
    installed = await inventory(root)
    container = trivy.container().with_mounted_directory(_ROOT, root)
    command = ["rootfs", *trivy.OFFLINE, "--offline-scan"]
    ran = await trivy.scans(
        container,
        {
            "cyclonedx": [*command, "--format=cyclonedx", _ROOT],
            "spdx": [*command, "--format=spdx-json", _ROOT],
        },
    )
    cyclonedx = read_json(
        ran.texts["cyclonedx"], _CycloneDx, subject="the CycloneDX SBOM", expected=_EXPECTED
    )
    spdx = read_json(ran.texts["spdx"], _Spdx, subject="the SPDX SBOM", expected=_EXPECTED)
    listed = {
        "CycloneDX": [component.purl for component in cyclonedx.components],
        "SPDX": [
            reference.reference_locator
            for package in spdx.packages
            for reference in package.external_refs
            if reference.reference_type == "purl"
        ],
    }
    for name, purls in listed.items():
        installed.check_seen(
            _packages(purls, {"pypi"}),
            of_system=_packages(purls, {"deb", "apk"}),
            by=f"the {name} SBOM",
        )
    proof = f"both name all {installed}, as a list made without it does"
    return Output(
        evidence=Evidence(
            stage="sbom",
            status=Status.PASSED,
            summary=f"{installed}, as CycloneDX and as SPDX",
            scanners=(Scanner(name="trivy", version=ran.version, proven=True, proof=proof),),
        ),
        reports={"sbom.cdx.json": ran.texts["cyclonedx"], "sbom.spdx.json": ran.texts["spdx"]},
    )


def _packages(purls: Iterable[str], kinds: set[str]) -> set[tuple[str, str]]:
    """(name, version) of each package URL of these types: ``pkg:deb/debian/tar@1.34?arch=all``."""
    found = set()
    for purl in purls:
        kind, _, rest = purl.removeprefix("pkg:").partition("/")
        name, _, version = rest.partition("?")[0].rpartition("@")
        if kind in kinds:
            found.add((unquote(name.rpartition("/")[2]), unquote(version)))
    return found
