"""Findings become one SARIF 2.1.0 log that GitHub code scanning takes.

Same findings, same bytes: no times, everything sorted. Source:
https://docs.github.com/en/code-security/reference/code-scanning/sarif-files/sarif-support
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from ci.values import Finding, Severity

__all__ = ["write"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Mapping[Severity, str] = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.UNKNOWN: "warning",
}
#: The middle of GitHub's bands (critical 9.0 and more, high 7.0, medium 4.0).
_SCORES: Mapping[Severity, str] = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.5",
    Severity.LOW: "2.0",
}
_NO_VERSIONS: Mapping[str, str] = {}


def write(
    findings: Iterable[Finding],
    *,
    versions: Mapping[str, str] = _NO_VERSIONS,
    style: Iterable[Finding] = (),
    folder: str = "",
    category: str = "towpath",
) -> str:
    """One log with a run for each scanner, or an empty run for none.

    Args:
        findings: In any order. Waived ones are written as suppressed.
        versions: Version of each scanner that looked, by name. One that found nothing has a run,
            too: by that GitHub closes the alerts of what it found before.
        style: Those of the findings that are no matter of security: GitHub shows them as such.
        folder: Of the repository, if the source is no more than that: GitHub takes paths to be from
            the top of the repository.
        category: Tells this upload's runs from those of other analyses of the same commit.
    """
    ordered = sorted((_from_top(finding, folder) for finding in findings), key=_order)
    rules_of_style = {(finding.scanner, finding.rule) for finding in style}
    found = {
        scanner: tuple(group)
        for scanner, group in groupby(ordered, key=lambda finding: finding.scanner)
    }
    runs = [
        _run(scanner, found.get(scanner, ()), versions.get(scanner, ""), category, rules_of_style)
        for scanner in sorted({*found, *versions})
    ]
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": runs or [_run("towpath", (), "", category, rules_of_style)],
    }
    return json.dumps(log, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _from_top(finding: Finding, folder: str) -> Finding:
    if not folder or finding.place is None:
        return finding
    path = str(PurePosixPath(folder, finding.place.path))
    place = finding.place.model_copy(update={"path": path})
    return finding.model_copy(update={"place": place})


def _order(finding: Finding) -> tuple[str, str, int, str, str, str]:
    place = finding.place
    return (
        finding.scanner,
        place.path if place else "",
        (place.line or 0) if place else 0,
        finding.rule,
        finding.fingerprint,
        finding.message,
    )


def _run(
    scanner: str,
    findings: Sequence[Finding],
    version: str,
    category: str,
    rules_of_style: AbstractSet[tuple[str, str]],
) -> dict[str, Any]:
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    names = sorted(by_rule)
    driver: dict[str, Any] = {
        "name": scanner,
        "rules": [
            _rule(name, by_rule[name], is_style=(scanner, name) in rules_of_style) for name in names
        ],
    }
    if version:
        driver["version"] = version
    index = {name: position for position, name in enumerate(names)}
    return {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"{category}/{scanner}/"},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, index[finding.rule]) for finding in findings],
    }


def _rule(name: str, findings: Sequence[Finding], *, is_style: bool) -> dict[str, Any]:
    """A rule is as severe as its worst finding: GitHub shows severities by rule.

    Its description is what alerts are titled by: the message, where all have the same.
    """
    worst = max((finding.severity for finding in findings), key=lambda severity: severity.rank)
    url = next((finding.url for finding in findings if finding.url), "")
    messages = {finding.message for finding in findings}
    title = findings[0].message if findings[0].package or len(messages) == 1 else name
    text = f"{title}\n{url}" if url else title
    rule: dict[str, Any] = {
        "id": name,
        "shortDescription": {"text": title[:1024]},
        "fullDescription": {"text": title[:1024]},
        "help": {"text": text},
        "defaultConfiguration": {"level": _LEVELS[worst]},
        "properties": {"tags": ["style" if is_style else "security"]},
    }
    if worst in _SCORES and not is_style:
        rule["properties"]["security-severity"] = _SCORES[worst]
    if url:
        rule["helpUri"] = url
    return rule


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": _location(finding)}],
        "partialFingerprints": {
            "primaryLocationLineHash": finding.fingerprint,
            "towpath/v1": finding.fingerprint,
        },
    }
    if finding.waived:
        result["suppressions"] = [{"kind": "external", "justification": finding.waived}]
    return result


def _location(finding: Finding) -> dict[str, Any]:
    """GitHub shows no result without a file, so a package of an image stands for one."""
    place = finding.place
    if place is None:
        package = finding.package
        path = f"image/{package.ecosystem}/{package.name}" if package else "image"
        return {"artifactLocation": {"uri": quote(path)}, "region": {"startLine": 1}}
    region = {"startLine": place.line or 1}
    if place.line and place.column:
        region["startColumn"] = place.column
    if place.line and place.end_line and place.end_line >= place.line:
        region["endLine"] = place.end_line
    return {"artifactLocation": {"uri": quote(place.path)}, "region": region}
