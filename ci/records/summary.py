"""A run in plain text: a line for each node, and for what did not pass why and where."""

from __future__ import annotations

from ci.records.run import NodeKind, NodeRecord, RunRecord
from ci.records.verdicts import reasons_told
from ci.values import Evidence, Finding, Status

__all__ = ["shown", "summarise"]

_SHOWN_FINDINGS = 20
_SHOWN_LOG_LINES = 40


def summarise(record: RunRecord) -> str:
    """The run as text that a terminal, a log or an error message can show."""
    lines = [_headline(record), ""]
    width = max((len(node.name) for node in record.nodes), default=0)
    for node in record.nodes:
        lines.append(_node_line(node, width))
        lines += [f"{'':12}{line}" for line in _details(node)]
    for verdict in record.verdicts:
        lines.append(f"  {verdict.outcome.value:<9} gate {verdict.gate}")
        lines += [f"{'':12}{reason}" for reason in reasons_told(verdict)]
    for delivery in record.deliveries:
        version = f" {delivery.release.version}" if delivery.release else ""
        lines.append(
            f"  {delivery.outcome.value:<9} {delivery.environment}{version} {delivery.url}".rstrip()
        )
        lines += [f"{'':12}{delivery.reason}"] if delivery.reason else []
    for image in record.images:
        if image.stand_in:
            lines.append(f"  stand-in  {image.reference}: {image.stand_in}")
    return "\n".join(lines) + "\n"


def shown(evidence: Evidence) -> str:
    """What a person wants to see of a stage that did not pass: findings, else the tool's output."""
    return "\n".join(_finding_lines(evidence)) or evidence.log


def _headline(record: RunRecord) -> str:
    commit = f" at {named}" if (named := record.source.named(12)) else ""
    reason = f": {record.reason}" if record.reason else ""
    return (
        f"{record.pipeline}{commit}: {record.outcome.value} in {record.seconds:.1f} s"
        f" (exit code {record.exit_code}){reason}"
    )


def _node_line(node: NodeRecord, width: int) -> str:
    said = node.evidence.summary if node.evidence and node.evidence.summary else node.reason
    cached = " (cached)" if node.cached else ""
    first = said.splitlines()[0] if said else ""
    return f"  {node.status.value:<9} {node.name:<{width}}  {first}{cached}".rstrip()


def _details(node: NodeRecord) -> list[str]:
    """Why a node did not pass: reason, findings, failed tests, the tail of its log."""
    if node.status in (Status.PASSED, Status.SKIPPED) or node.kind is NodeKind.GATE:
        return []
    lines = node.reason.splitlines() if node.evidence and node.evidence.summary else []
    lines += node.reason.splitlines()[1:] if not lines else []
    if node.evidence:
        lines += _evidence_lines(node.evidence)
    return lines


def _evidence_lines(evidence: Evidence) -> list[str]:
    lines = _finding_lines(evidence)
    cases = evidence.tests.cases if evidence.tests else ()
    for case in cases:
        if case.status in (Status.FAILED, Status.ERRORED):
            lines.append(f"{case.suite}::{case.name}")
            lines += [f"  {line}" for line in case.message.splitlines()[:10]]
    if not lines and evidence.log:
        lines += evidence.log.splitlines()[-_SHOWN_LOG_LINES:]
    return lines


def _finding_lines(evidence: Evidence) -> list[str]:
    worst_first = sorted(evidence.findings, key=lambda finding: -finding.severity.rank)
    lines = [finding_line(finding) for finding in worst_first[:_SHOWN_FINDINGS]]
    hidden = len(evidence.findings) - _SHOWN_FINDINGS
    return [*lines, f"... and {hidden} more"] if hidden > 0 else lines


def finding_line(finding: Finding) -> str:
    """``app/api.py:12: S307 use of eval (high)``, or the package where it is about one."""
    if finding.place:
        line = f":{finding.place.line}" if finding.place.line else ""
        where = f"{finding.place.path}{line}: "
    elif finding.package:
        where = f"{finding.package.name} {finding.package.version}: "
    else:
        where = ""
    cure = (
        f"; fixed in {', '.join(finding.package.fixed_versions)}"
        if finding.package and finding.package.fixed_versions
        else ""
    )
    message = finding.message.splitlines()[0] if finding.message else ""
    return f"{where}{finding.rule} {message} ({finding.severity.value}){cure}"
