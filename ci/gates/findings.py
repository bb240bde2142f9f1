"""No scanner found anything severe, and every scanner proved that it can."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ci.gates.protocol import Acceptance, Reason, fold, unusable
from ci.values import Evidence, Finding, Outcome, Severity, Status, Verdict

__all__ = ["Findings", "accept", "reaches", "sentence", "told", "unproven"]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Judges findings in code, configuration and history; those in packages have their own gate."""

    name: str = "findings"
    #: Findings of this severity and above count. One of unknown severity counts as medium.
    fail_at: Severity = Severity.HIGH
    #: Other thresholds by scanner.
    thresholds: Mapping[str, Severity] = field(default_factory=dict)
    #: Stages that scan: one that ran and names no scanner is errored.
    scans: tuple[str, ...] = ()
    #: Waivers, a baseline.
    acceptances: tuple[Acceptance, ...] = ()
    #: How many findings of one stage are named.
    shown: int = 20

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """Passed when every scan was proven and nothing that counts is at the threshold."""
        return fold(self.name, self.reasons(evidence))

    def reasons(self, evidence: Sequence[Evidence]) -> Iterator[Reason]:
        """One for each clean scan, and one for each finding that counts, as far as shown."""
        for item in evidence:
            if not (item.scanners or item.findings or item.stage in self.scans):
                continue
            if reason := unusable(item):
                yield reason
                continue
            yield from unproven(item, is_scan=item.stage in self.scans)
            yield from self._judged(item)

    def _judged(self, item: Evidence) -> Iterator[Reason]:
        about_code = [finding for finding in item.findings if finding.package is None]
        findings, notes = accept(about_code, self.acceptances)
        yield from (Reason(None, f"{item.stage}: {note}") for note in notes)
        counted = [f for f in findings if not f.waived and reaches(f.severity, self._bar(f))]
        yield from told(item.stage, counted, shown=self.shown)
        waived = sum(1 for finding in findings if finding.waived)
        rest = len(findings) - waived - len(counted)
        if not counted and (item.scanners or item.findings):
            below = f", {rest} below" if rest else ""
            accepted = f", {waived} accepted" if waived else ""
            text = f"{item.stage}: no finding at {self.fail_at} or above{below}{accepted}"
            yield Reason(Outcome.PASSED, text)

    def _bar(self, finding: Finding) -> Severity:
        return self.thresholds.get(finding.scanner, self.fail_at)


def accept(
    findings: Iterable[Finding], acceptances: Iterable[Acceptance]
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The findings after every acceptance, and all notes."""
    marked, notes = tuple(findings), list[str]()
    for acceptance in acceptances:
        marked, more = acceptance(marked)
        notes += more
    return marked, tuple(notes)


def reaches(severity: Severity, threshold: Severity) -> bool:
    """Whether it counts at this threshold; unknown counts as medium."""
    known = Severity.MEDIUM if severity == Severity.UNKNOWN else severity
    return known.rank >= threshold.rank


def unproven(item: Evidence, *, is_scan: bool) -> Iterator[Reason]:
    """A reason for each scanner of a finished stage whose word cannot be taken."""
    if is_scan and not item.scanners and item.status == Status.PASSED:
        yield Reason(Outcome.ERRORED, f"{item.stage}: passed, and names no scanner that looked")
    for scanner in item.scanners:
        if not scanner.proven:
            text = f"{item.stage}: {scanner.name} did not prove that it finds a planted fault"
            yield Reason(Outcome.ERRORED, text)


def told(stage: str, counted: Iterable[Finding], *, shown: int) -> Iterator[Reason]:
    """A failing reason for each finding, most severe first, and one for those beyond ``shown``."""
    ordered = sorted(counted, key=lambda f: (-f.severity.rank, sentence(f), f.fingerprint))
    for finding in ordered[:shown]:
        yield Reason(Outcome.FAILED, f"{stage}: {sentence(finding)}")
    if len(ordered) > shown:
        yield Reason(Outcome.FAILED, f"{stage}: {len(ordered) - shown} more; see the report")


def sentence(finding: Finding) -> str:
    """The finding in one line: ``S307 Use of eval at app/api.py:12 (high)``."""
    at = ""
    if finding.place:
        line = f":{finding.place.line}" if finding.place.line else ""
        at = f" at {finding.place.path}{line}"
    return f"{finding.rule} {finding.message.rstrip('.')}{at} ({finding.severity})"
