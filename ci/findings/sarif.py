"""SARIF 2.1.0 of ruff, Bandit, zizmor, gitleaks and others becomes findings.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from ci.findings.fingerprint import Draft, line_text, seal
from ci.findings.report import ReportError, ScanReport, read_json
from ci.findings.severity import from_level, from_score, from_word, of_python_rule
from ci.values import Finding, Place, Severity

__all__ = ["parse"]

_EXPECTED = "a SARIF 2.1.0 log with one run or more"
#: Ruff reports a file that it cannot parse as a result of this rule.
_UNREADABLE = frozenset({"invalid-syntax"})
_NO_SOURCES: Mapping[str, str] = {}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: object) -> object:
        """Tools written in Go write null for what is not there."""
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


class _Message(_Part):
    text: str = ""
    id: str = ""


class _ArtifactLocation(_Part):
    uri: str = ""
    uri_base_id: str = ""


class _Region(_Part):
    start_line: int | None = None
    start_column: int | None = None
    end_line: int | None = None
    snippet: _Message | None = None


class _PhysicalLocation(_Part):
    artifact_location: _ArtifactLocation = _ArtifactLocation()
    region: _Region = _Region()


class _Location(_Part):
    physical_location: _PhysicalLocation | None = None


class _Configuration(_Part):
    level: str = ""


class _Rule(_Part):
    id: str
    help_uri: str = ""
    default_configuration: _Configuration = _Configuration()
    message_strings: dict[str, _Message] = Field(default_factory=dict)
    properties: dict[str, Any] = Field(default_factory=dict)


class _RuleReference(_Part):
    id: str = ""
    index: int = -1


class _Suppression(_Part):
    status: str = "accepted"


class _Result(_Part):
    rule_id: str = ""
    rule_index: int = -1
    rule: _RuleReference = _RuleReference()
    kind: str = "fail"
    level: str = ""
    message: _Message
    locations: list[_Location] = Field(default_factory=list)
    properties: dict[str, Any] = Field(default_factory=dict)
    partial_fingerprints: dict[str, str] = Field(default_factory=dict)
    suppressions: list[_Suppression] | None = None
    baseline_state: str = ""


class _Driver(_Part):
    name: str
    version: str = ""
    semantic_version: str = ""
    rules: list[_Rule] = Field(default_factory=list)


class _Tool(_Part):
    driver: _Driver


class _Notification(_Part):
    level: str = "warning"
    message: _Message
    locations: list[_Location] = Field(default_factory=list)


class _Invocation(_Part):
    execution_successful: bool
    tool_execution_notifications: list[_Notification] = Field(default_factory=list)
    #: Where Bandit says which files it could not parse.
    tool_configuration_notifications: list[_Notification] = Field(default_factory=list)
    exit_code_description: str = ""


class _Run(_Part):
    tool: _Tool
    #: None says that the tool started and did not finish; that is not "no results".
    results: list[_Result] | None = None
    invocations: list[_Invocation] = Field(default_factory=list)
    original_uri_base_ids: dict[str, _ArtifactLocation] = Field(default_factory=dict)


class _Log(_Part):
    version: str
    runs: list[_Run] = Field(min_length=1)


def parse(
    text: str, *, scanner: str = "", root: str = "", sources: Mapping[str, str] = _NO_SOURCES
) -> ScanReport:
    """The findings of a SARIF log, sorted by place.

    Results that the tool itself marks as suppressed, absent or passed are left out.

    Args:
        text: The log.
        scanner: Name to give the scanner; the tool's own name where empty.
        root: Folder that the scan ran in; file URIs become relative to it.
        sources: Text of the scanned files by relative path, so that fingerprints can be made of
            the lines themselves; the log's snippets, then its messages serve where it has none.

    Raises:
        ReportError: it is no SARIF 2.1.0, or it says that the tool did not finish.
    """
    subject = f"the SARIF report of {scanner}" if scanner else "the SARIF report"
    log = read_json(text, _Log, subject=subject, expected=_EXPECTED)
    if log.version != "2.1.0":
        raise ReportError(subject, got=f"SARIF {log.version}", expected=_EXPECTED)
    drafts: list[Draft] = []
    problems: list[str] = []
    for run in log.runs:
        if cause := _unfinished(run):
            raise ReportError(subject, got=cause, expected="a finished run")
        reader = _Reader(run, scanner, root, sources)
        drafts += reader.drafts()
        problems += reader.problems()
    driver = log.runs[0].tool.driver
    name = driver.name.lower()
    return ScanReport(
        scanner=scanner or name,
        # Gitleaks writes the same version into each report, whichever it is.
        version="" if name == "gitleaks" else driver.version or driver.semantic_version,
        findings=seal(drafts),
        problems=tuple(problems),
    )


def _unfinished(run: _Run) -> str:
    """Why the tool did not finish, in its own words; empty where it did."""
    if run.results is None:
        return "a run without results"
    for invocation in run.invocations:
        if not invocation.execution_successful:
            notes = [note.message.text for note in invocation.tool_execution_notifications]
            cause = invocation.exit_code_description or "; ".join(notes) or "no cause given"
            return f"executionSuccessful: false ({cause})"
    return ""


def _counts(result: _Result) -> bool:
    suppressed = any(s.status == "accepted" for s in result.suppressions or ())
    return (
        result.kind not in {"pass", "notApplicable"}
        and result.baseline_state != "absent"
        and not suppressed
    )


class _Reader:
    """Turns the results of one run into drafts."""

    def __init__(self, run: _Run, scanner: str, root: str, sources: Mapping[str, str]) -> None:
        self._run = run
        self._rules = run.tool.driver.rules
        self._by_id = {rule.id: rule for rule in self._rules}
        self._tool = run.tool.driver.name.lower()
        self._scanner = scanner or self._tool
        self._root = root.rstrip("/")
        self._sources = sources

    def drafts(self) -> list[Draft]:
        """One for each result that counts."""
        results = self._run.results or ()
        return [self._draft(r) for r in results if _counts(r) and r.rule_id not in _UNREADABLE]

    def problems(self) -> list[str]:
        """Files that the tool could not read, and what else it calls an error of its own."""
        notes = [
            self._sentence(note.message.text, note.locations)
            for invocation in self._run.invocations
            for note in (
                *invocation.tool_execution_notifications,
                *invocation.tool_configuration_notifications,
            )
            if note.level == "error"
        ]
        unreadable = [r for r in self._run.results or () if r.rule_id in _UNREADABLE]
        return notes + [self._sentence(r.message.text, r.locations) for r in unreadable]

    def _sentence(self, message: str, locations: list[_Location]) -> str:
        place, _ = self._place(locations)
        if place is None:
            return message
        return f"{place.path}:{place.line}: {message}" if place.line else f"{place.path}: {message}"

    def _draft(self, result: _Result) -> Draft:
        rule = self._rule(result)
        name = result.rule_id or result.rule.id or (rule.id if rule else "") or "unnamed"
        message = result.message.text
        if not message and rule and result.message.id in rule.message_strings:
            message = rule.message_strings[result.message.id].text
        place, snippet = self._place(result.locations)
        finding = Finding(
            scanner=self._scanner,
            rule=name,
            severity=_severity(self._tool, result, rule, message),
            message=" ".join(message.split()) or name,
            place=place,
            fingerprint="",
            url=rule.help_uri if rule else "",
        )
        return Draft(finding, self._identity(result, place, snippet, finding.message))

    def _rule(self, result: _Result) -> _Rule | None:
        index = result.rule_index if result.rule_index >= 0 else result.rule.index
        if 0 <= index < len(self._rules):
            return self._rules[index]
        return self._by_id.get(result.rule_id or result.rule.id)

    def _place(self, locations: list[_Location]) -> tuple[Place | None, str]:
        physical = next((at.physical_location for at in locations), None)
        if physical is None or not physical.artifact_location.uri:
            return None, ""
        region = physical.region
        place = Place(
            path=self._path(physical.artifact_location),
            line=region.start_line,
            column=region.start_column,
            end_line=region.end_line,
        )
        return place, region.snippet.text if region.snippet else ""

    def _path(self, location: _ArtifactLocation) -> str:
        base = self._run.original_uri_base_ids.get(location.uri_base_id)
        uri = f"{base.uri.rstrip('/')}/{location.uri}" if base and base.uri else location.uri
        parts = urlsplit(uri)
        path = unquote(parts.path if parts.scheme in {"", "file"} else uri)
        path = posixpath.normpath(path)
        if self._root and path.startswith(self._root + "/"):
            return path[len(self._root) + 1 :]
        return path

    def _identity(
        self, result: _Result, place: Place | None, snippet: str, message: str
    ) -> tuple[str, ...]:
        if self._tool == "gitleaks":
            # The line holds the secret: not even its hash belongs in a report. A commit's content
            # never changes, so the commit tells the secrets of a history apart.
            return (result.partial_fingerprints.get("commitSha", ""),)
        line = line_text(self._sources, place.path, place.line) if place else None
        first = snippet.strip().split("\n", 1)[0]
        return (line if line is not None else first or message,)


def _severity(tool: str, result: _Result, rule: _Rule | None, message: str) -> Severity:
    """By what the tool says about itself, most exact first."""
    if tool == "gitleaks":
        return Severity.HIGH  # it reports no severity; a committed secret is always serious
    python_rule = of_python_rule(result.rule_id) if tool in {"ruff", "bandit"} else None
    if tool == "ruff":
        # Ruff calls everything an error.
        seems_safe = python_rule is Severity.HIGH and "seems safe" in message
        return Severity.LOW if seems_safe else python_rule or Severity.MEDIUM
    stated = _stated(result, rule)
    if stated is None:
        default = rule.default_configuration.level if rule else ""
        return from_level(result.level or default or "warning")
    raised = python_rule if result.rule_id in {"B102", "B307"} else None
    return max(stated, raised or stated, key=lambda severity: severity.rank)


def _stated(result: _Result, rule: _Rule | None) -> Severity | None:
    for properties in (result.properties, rule.properties if rule else {}):
        score = properties.get("security-severity")
        try:
            if score is not None:
                return from_score(float(score))
        except (TypeError, ValueError):
            pass
        for key in ("issue_severity", "zizmor/severity"):
            if isinstance(word := properties.get(key), str):
                return from_word(word)
    return None
