"""No package with a severe known vulnerability, by a scan and a database that can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ci.clock import Clock, SystemClock
from ci.gates.findings import accept, reaches, told, unproven
from ci.gates.protocol import Acceptance, Reason, fold, unusable
from ci.values import Database, Evidence, Finding, Outcome, Severity, Verdict

__all__ = ["Vulnerabilities"]


@dataclass(frozen=True, kw_only=True)
class Vulnerabilities:
    """Judges findings about packages. Fails closed: a scan without a sound database is errored."""

    name: str = "vulnerabilities"
    #: Vulnerabilities of this severity and above count. One of unknown severity counts as medium.
    fail_at: Severity = Severity.HIGH
    #: Only those that a newer version cures count; the others are noted.
    fixable_only: bool = False
    #: How old the database may be; None for any age. A small one for demonstration is not held to
    #: it, and is always noted.
    max_database_age: timedelta | None = timedelta(days=7)
    #: The stages that look for vulnerabilities.
    scans: tuple[str, ...] = ("dependencies", "image-scan")
    acceptances: tuple[Acceptance, ...] = ()
    #: How many vulnerabilities of one stage are named.
    shown: int = 20
    clock: Clock = field(default_factory=SystemClock)

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """Passed when every scan is sound and nothing that counts is at the threshold."""
        return fold(self.name, self.reasons(evidence))

    def reasons(self, evidence: Sequence[Evidence]) -> Iterator[Reason]:
        """One for each clean scan, each unsound one, and each vulnerability, as far as shown."""
        for item in evidence:
            is_scan = item.stage in self.scans
            found = [finding for finding in item.findings if finding.package]
            if not is_scan and not found:
                continue
            if reason := unusable(item):
                yield reason
                continue
            yield from unproven(item, is_scan=is_scan)
            yield from self._databases(item)
            yield from self._judged(item, found)

    def _judged(self, item: Evidence, found: Sequence[Finding]) -> Iterator[Reason]:
        findings, notes = accept(found, self.acceptances)
        yield from (Reason(None, f"{item.stage}: {note}") for note in notes)
        severe = [f for f in findings if not f.waived and reaches(f.severity, self.fail_at)]
        counted = [f for f in severe if not self.fixable_only or _is_fixable(f)]
        yield from told(item.stage, counted, shown=self.shown)
        if unfixed := len(severe) - len(counted):
            text = f"{item.stage}: {unfixed} at {self.fail_at} or above without a fix do not count"
            yield Reason(None, text)
        if not counted:
            waived = sum(1 for finding in findings if finding.waived)
            accepted = f", {waived} accepted" if waived else ""
            kind = "fixable vulnerability" if self.fixable_only else "vulnerability"
            text = f"{item.stage}: no {kind} at {self.fail_at} or above{accepted}"
            yield Reason(Outcome.PASSED, text)

    def _databases(self, item: Evidence) -> Iterator[Reason]:
        databases = [(s.name, s.database) for s in item.scanners if s.database]
        if not databases:
            text = f"{item.stage}: no scanner says which vulnerability database it used"
            yield Reason(Outcome.ERRORED, text)
        for scanner, database in databases:
            yield from self._database(f"{item.stage}: the database of {scanner}", database)

    def _database(self, subject: str, database: Database) -> Iterator[Reason]:
        if database.advisories == 0:
            yield Reason(Outcome.ERRORED, f"{subject} is empty")
        if not database.digest:
            yield Reason(Outcome.ERRORED, f"{subject} has no digest, so it could be any")
        if database.small:
            count = "few" if database.advisories is None else database.advisories
            text = f"{subject} is a small one for demonstration: it knows {count} advisories"
            yield Reason(None, text)
            return
        if self.max_database_age is None:
            return
        if database.updated_at is None:
            yield Reason(Outcome.ERRORED, f"{subject} does not say how old it is")
            return
        age = self.clock.now() - _in_utc(database.updated_at)
        if age > self.max_database_age:
            text = f"{subject} is {age.days} days old; {self.max_database_age.days} are allowed"
            yield Reason(Outcome.ERRORED, text)


def _is_fixable(finding: Finding) -> bool:
    return bool(finding.package and finding.package.fixed_versions)


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
