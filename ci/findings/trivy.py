"""Trivy's JSON report becomes findings, and what it says it looked at, for checks that fail closed.

Trivy ends with 0 and no findings in many cases where it saw nothing, so a caller compares
``TrivyReport.results`` (what was recognised, and which packages in it) with what it knows must be
there. Source: https://trivy.dev/docs/latest/configuration/reporting/#json (schema version 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_pascal

from ci.findings.fingerprint import Draft, seal
from ci.findings.report import ReportError, ScanReport, read_json
from ci.findings.severity import from_word
from ci.values import Finding, Package, Place, Value

__all__ = ["Scanned", "TrivyReport", "parse"]

_EXPECTED = "Trivy's JSON, schema version 2"


class Scanned(Value):
    """One thing that Trivy recognised, and the packages it read there (``--list-all-pkgs``)."""

    target: str
    #: ``os-pkgs``, ``lang-pkgs``, ``config``, ``secret``, ``license`` ...
    kind: str
    #: ``debian``, ``pip``, ``python-pkg``, ``poetry``, ``dockerfile`` ...; empty for secrets.
    type: str = ""
    #: (name, version) as Trivy read them, sorted.
    packages: tuple[tuple[str, str], ...] = ()


class TrivyReport(ScanReport):
    """Findings of one Trivy scan, and what it looked at."""

    scanner: str = "trivy"
    artifact: str = ""
    #: ``debian`` and ``12.11``; empty, or ``none``, where Trivy did not recognise the system.
    os_family: str = ""
    os_version: str = ""
    results: tuple[Scanned, ...] = ()

    #: Family word that Trivy writes for a system that it does not know.
    UNKNOWN_OS: ClassVar[str] = "none"

    def scanned(self, *, kind: str, type: str = "") -> tuple[Scanned, ...]:  # noqa: A002
        """The results of this class, and of this type where one is given."""
        return tuple(r for r in self.results if r.kind == kind and type in {"", r.type})

    def packages(self, *, kind: str, type: str = "") -> frozenset[tuple[str, str]]:  # noqa: A002
        """(name, version) of every package in those results."""
        return frozenset(p for r in self.scanned(kind=kind, type=type) for p in r.packages)

    def rules(self) -> frozenset[str]:
        """The rules and advisories found: what a planted sample is looked up in."""
        return frozenset(finding.rule for finding in self.findings)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_pascal)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: object) -> object:
        """Go writes null for what is not there."""
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


class _Package(_Part):
    name: str
    version: str = ""


class _Vulnerability(_Part):
    vulnerability_id: str = Field(alias="VulnerabilityID")
    pkg_name: str
    pkg_path: str = ""
    installed_version: str = ""
    fixed_version: str = ""
    severity: str = ""
    title: str = ""
    primary_url: str = Field(default="", alias="PrimaryURL")


class _CodeLine(_Part):
    content: str = ""
    is_cause: bool = False


class _Code(_Part):
    lines: list[_CodeLine] = Field(default_factory=list)


class _Cause(_Part):
    resource: str = ""
    start_line: int = 0
    end_line: int = 0
    code: _Code = _Code()


class _Misconfiguration(_Part):
    id: str = Field(alias="ID")
    title: str = ""
    message: str = ""
    severity: str = ""
    primary_url: str = Field(default="", alias="PrimaryURL")
    status: str = "FAIL"
    cause_metadata: _Cause = _Cause()


class _Secret(_Part):
    rule_id: str = Field(alias="RuleID")
    title: str = ""
    severity: str = ""
    start_line: int = 0
    end_line: int = 0


class _Result(_Part):
    target: str = ""
    kind: str = Field(default="", alias="Class")
    type: str = ""
    packages: list[_Package] = Field(default_factory=list)
    vulnerabilities: list[_Vulnerability] = Field(default_factory=list)
    misconfigurations: list[_Misconfiguration] = Field(default_factory=list)
    secrets: list[_Secret] = Field(default_factory=list)


class _System(_Part):
    family: str = ""
    name: str = ""


class _Metadata(_Part):
    os: _System = Field(default=_System(), alias="OS")


class _Report(_Part):
    schema_version: int
    artifact_name: str = ""
    metadata: _Metadata = _Metadata()
    trivy: dict[str, Any] = Field(default_factory=dict)
    results: list[_Result] = Field(default_factory=list)


def parse(text: str, *, subject: str = "Trivy's report") -> TrivyReport:
    """The findings of a report, sorted, and what Trivy says that it looked at.

    Raises:
        ReportError: it is no Trivy report of schema version 2.
    """
    report = read_json(text, _Report, subject=subject, expected=_EXPECTED)
    if report.schema_version != 2:
        got = f"schema version {report.schema_version}"
        raise ReportError(subject, got=got, expected=_EXPECTED)
    drafts = [draft for result in report.results for draft in _drafts(result)]
    return TrivyReport(
        version=str(report.trivy.get("Version", "")),
        findings=seal(drafts),
        artifact=report.artifact_name,
        os_family=report.metadata.os.family,
        os_version=report.metadata.os.name,
        results=tuple(
            Scanned(
                target=result.target,
                kind=result.kind,
                type=result.type,
                packages=tuple(sorted({(p.name, p.version) for p in result.packages})),
            )
            for result in report.results
        ),
    )


def _drafts(result: _Result) -> Iterator[Draft]:
    for vulnerability in result.vulnerabilities:
        yield _vulnerability(result, vulnerability)
    for misconfiguration in result.misconfigurations:
        if misconfiguration.status == "FAIL":
            yield _misconfiguration(result, misconfiguration)
    for secret in result.secrets:
        yield Draft(
            Finding(
                scanner="trivy",
                rule=secret.rule_id,
                severity=from_word(secret.severity),
                message=secret.title or secret.rule_id,
                place=_place(result.target, secret.start_line, secret.end_line),
                fingerprint="",
            )
        )


def _vulnerability(result: _Result, found: _Vulnerability) -> Draft:
    """A place only where the target is a file: what an image holds is named by its package."""
    fixed = tuple(v for part in found.fixed_version.split(",") if (v := part.strip()))
    cure = f"fixed in {' or '.join(fixed)}" if fixed else "no fixed version"
    what = f"{found.pkg_name} {found.installed_version}"
    in_file = result.kind == "lang-pkgs" and not found.pkg_path and result.target.strip()
    return Draft(
        Finding(
            scanner="trivy",
            rule=found.vulnerability_id,
            severity=from_word(found.severity),
            message=f"{what}: {found.title or found.vulnerability_id} ({cure})",
            place=Place(path=result.target) if in_file else None,
            package=Package(
                name=found.pkg_name,
                version=found.installed_version,
                ecosystem=result.type,
                fixed_versions=fixed,
            ),
            fingerprint="",
            url=found.primary_url,
        )
    )


def _misconfiguration(result: _Result, found: _Misconfiguration) -> Draft:
    cause = found.cause_metadata
    lines = tuple(line.content for line in cause.code.lines if line.is_cause)
    return Draft(
        Finding(
            scanner="trivy",
            rule=found.id,
            severity=from_word(found.severity),
            message=found.message or found.title or found.id,
            place=_place(result.target, cause.start_line, cause.end_line),
            fingerprint="",
            url=found.primary_url,
        ),
        lines or (cause.resource, found.message),
    )


def _place(target: str, start: int, end: int) -> Place:
    return Place(path=target.lstrip("/"), line=start or None, end_line=end or None)
