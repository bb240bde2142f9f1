"""What the report shows, worked out from a record; pure, so that the page only lays it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ci.records.run import ImageRecord, NodeKind, NodeRecord, RunRecord
from ci.records.summary import finding_line
from ci.records.text import age, duration
from ci.records.verdicts import Point, points, reasons_told
from ci.values import (
    Coverage,
    Database,
    DeliveryRecord,
    Evidence,
    Finding,
    Image,
    Outcome,
    Scanner,
    Severity,
    Status,
    TestCase,
    Tests,
    Verdict,
)

__all__ = [
    "Absence",
    "Bar",
    "Fault",
    "Judgement",
    "Look",
    "Page",
    "Stop",
    "Suite",
    "Tick",
    "caveats",
    "stopped_at",
    "view",
]

_BAD = (Status.FAILED, Status.ERRORED)
_SLOWEST = 8
_PLACES = 10
_INTERVALS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A landmark on the way from the commit to the last environment."""

    name: str
    #: A status or an outcome.
    state: str
    kind: str
    note: str = ""
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A node that ended badly, and where."""

    node: NodeRecord
    #: Findings and tests, a line each; what is beyond them is counted.
    places: tuple[str, ...]
    more: int


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a gate decided, by the stages that it speaks of."""

    verdict: Verdict
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A node on the time axis; offsets and widths in percent of the run."""

    node: NodeRecord
    #: Its status; of a gate that judged, its outcome.
    state: str
    left: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Absence:
    """Nodes that never began, all for the same reason."""

    names: tuple[str, ...]
    status: Status
    reason: str


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on the time axis, in percent."""

    left: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The tests of one stage."""

    stage: str
    tests: Tests
    broken: tuple[TestCase, ...]
    slowest: tuple[TestCase, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """A scanner, and the stage that it looked for."""

    stage: str
    scanner: Scanner
    findings: int
    database_age: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the template shows."""

    run: RunRecord
    headline: str
    caveats: tuple[str, ...]
    path: tuple[Stop, ...]
    faults: tuple[Fault, ...]
    bars: tuple[Bar, ...]
    absences: tuple[Absence, ...]
    ticks: tuple[Tick, ...]
    execs: int
    cached_execs: int
    judgements: tuple[Judgement, ...]
    findings: tuple[tuple[str, Finding], ...]
    severities: tuple[tuple[Severity, int], ...]
    waived: int
    looks: tuple[Look, ...]
    suites: tuple[Suite, ...]
    coverage: tuple[tuple[str, Coverage], ...]
    images: tuple[tuple[str, Image], ...]
    deliveries: tuple[DeliveryRecord, ...]
    stand_ins: tuple[ImageRecord, ...]
    databases: tuple[Database, ...]


def view(run: RunRecord) -> Page:
    """The page of this run."""
    findings = tuple(run.findings())
    counts = Counter(finding.severity for _, finding in findings)
    evidence = [(node.name, node.evidence) for node in run.nodes if node.evidence]
    looks = tuple(_looks(run))
    return Page(
        run=run,
        headline=_headline(run),
        caveats=tuple(caveats(run)),
        path=tuple(_path(run)),
        faults=tuple(_faults(run)),
        bars=tuple(_bars(run)),
        absences=tuple(_absences(run)),
        ticks=_ticks(run.seconds),
        execs=sum(node.execs for node in run.nodes),
        cached_execs=sum(node.cached_execs for node in run.nodes),
        judgements=tuple(_judgements(run)),
        findings=findings,
        severities=tuple((each, counts[each]) for each in reversed(Severity) if counts[each]),
        waived=sum(1 for _, finding in findings if finding.waived),
        looks=looks,
        suites=tuple(_suite(name, one.tests) for name, one in evidence if one.tests),
        coverage=tuple((name, one.coverage) for name, one in evidence if one.coverage),
        images=tuple((name, one.image) for name, one in evidence if one.image),
        deliveries=run.deliveries,
        stand_ins=tuple(image for image in run.images if image.stand_in),
        databases=tuple(_databases(run)),
    )


def _by_time(run: RunRecord) -> list[NodeRecord]:
    """As they began; what never began comes last."""
    return sorted(
        run.nodes,
        key=lambda node: (node.started_at is None, node.started_at or run.finished_at),
    )


def _headline(run: RunRecord) -> str:
    """One sentence: how far it came, or what stopped it."""
    ran = [node for node in run.nodes if node.status is not Status.SKIPPED]
    counted = f"{len(ran)} step{'s' * (len(ran) != 1)} in {duration(run.seconds)}"
    if run.outcome is Outcome.PASSED:
        live = [each.environment for each in run.deliveries if each.outcome is Outcome.PASSED]
        return counted + (f"; live in {_listed(live)}" if live else "")
    stopped = stopped_at(run)
    return f"Stopped at {stopped}" if stopped else run.reason or counted


def stopped_at(run: RunRecord) -> str:
    """What stopped a run that did not pass, and why; empty where no node did."""
    culprit = _culprit(run)
    if culprit is None:
        return ""
    told = {verdict.gate: reasons_told(verdict) for verdict in run.verdicts}
    said = next(
        filter(
            None,
            (
                *told.get(culprit.name, ()),
                culprit.reason.strip(),
                culprit.evidence.summary if culprit.evidence else "",
                culprit.status.value,
            ),
        )
    )
    return f"{culprit.name}: {said.splitlines()[0]}"


def _culprit(run: RunRecord) -> NodeRecord | None:
    """What began first of those that ended as the run did, or else badly at all."""
    bad = [node for node in _by_time(run) if node.status in _BAD]
    alike = [node for node in bad if node.status.value == run.outcome.value]
    return next(iter(alike or bad), None)


def _faults(run: RunRecord) -> Iterator[Fault]:
    """What ended badly, less the gates, whose reasons have a place of their own."""
    judged = {verdict.gate for verdict in run.verdicts}
    for node in _by_time(run):
        if node.status in _BAD and node.name not in judged:
            places = list(_places(node.evidence)) if node.evidence else []
            yield Fault(node=node, places=tuple(places[:_PLACES]), more=len(places[_PLACES:]))


def _places(evidence: Evidence) -> Iterator[str]:
    """Findings, the worst first, and tests that did not pass."""
    for finding in sorted(evidence.findings, key=lambda one: -one.severity.rank):
        if not finding.waived:
            yield finding_line(finding)
    for case in evidence.tests.cases if evidence.tests else ():
        if case.status in _BAD:
            said = case.message.strip().partition("\n")[0]
            yield f"{case.name}: {said}" if said else case.name


def _judgements(run: RunRecord) -> Iterator[Judgement]:
    names = [node.name for node in run.nodes]
    for verdict in run.verdicts:
        yield Judgement(verdict=verdict, points=tuple(points(verdict, names)))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if names[1:] else "") + names[-1]


def caveats(run: RunRecord) -> Iterator[str]:
    """What a reader must know before trusting the verdict."""
    if run.reason:
        yield run.reason[0].upper() + run.reason[1:]
    if run.source.dirty:
        yield "The source had changes that are not committed."
    for database in _databases(run):
        if database.small:
            count = "few" if database.advisories is None else str(database.advisories)
            yield f"The small vulnerability database was used: it knows {count} advisories."
    stand_ins = sum(1 for image in run.images if image.stand_in)
    if stand_ins:
        images = (
            "1 image was not the published one, but a stand-in"
            if stand_ins == 1
            else f"{stand_ins} images were not the published ones, but stand-ins"
        )
        yield f"{images} made from packages."
    unproven = sorted({look.scanner.name for look in _looks(run) if not look.scanner.proven})
    if unproven:
        yield f"Not proven in this run that it can see: {_listed(unproven)}."


def _path(run: RunRecord) -> Iterator[Stop]:
    """The commit, the gates, the image and the environments, in the order of the graph."""
    commit = run.source.named(9) or "no commit"
    yield Stop(name=run.source.version or commit, state="", kind="source", note=commit)
    outcomes = {verdict.gate: verdict.outcome.value for verdict in run.verdicts}
    for node in run.nodes:
        kind, evidence = node.kind, node.evidence
        if kind is NodeKind.GATE:
            state = outcomes.get(node.name, node.status.value)
            yield Stop(name=node.name, state=state, kind="gate")
        elif kind is NodeKind.DELIVERY:
            yield _arrival(node, run.deliveries)
        elif evidence and evidence.image and evidence.stage == node.name:
            yield Stop(name=node.name, state=node.status.value, kind="image")


def _arrival(node: NodeRecord, deliveries: Sequence[DeliveryRecord]) -> Stop:
    """``deploy-staging`` arrives in the environment staging."""
    own = (each for each in deliveries if f"-{node.name}".endswith(f"-{each.environment}"))
    delivery = next(own, None)
    if delivery is None:
        return Stop(name=node.name, state=node.status.value, kind="environment")
    note = delivery.release.version if delivery.release else ""
    if delivery.rolled_back:
        note = "returned to " + (delivery.previous.version if delivery.previous else "nothing")
    return Stop(
        name=delivery.environment,
        state=delivery.outcome.value,
        kind="environment",
        note=note,
        url=delivery.url,
    )


def _bars(run: RunRecord) -> Iterator[Bar]:
    total = run.seconds or 1e-9
    outcomes = {verdict.gate: verdict.outcome.value for verdict in run.verdicts}
    for node in _by_time(run):
        if node.started_at is None:
            continue
        left = 100 * (node.started_at - run.started_at).total_seconds() / total
        left = min(max(left, 0.0), 100.0)
        width = min(100 * node.seconds / total, 100 - left)
        state = outcomes.get(node.name, node.status.value)
        yield Bar(node=node, state=state, left=round(left, 3), width=round(width, 3))


def _absences(run: RunRecord) -> Iterator[Absence]:
    groups: dict[tuple[Status, str], list[str]] = {}
    for node in run.nodes:
        if node.started_at is None:
            groups.setdefault((node.status, node.reason), []).append(node.name)
    for (status, reason), names in groups.items():
        yield Absence(names=tuple(names), status=status, reason=reason)


def _ticks(seconds: float) -> tuple[Tick, ...]:
    """At most seven, at round times; the last one never touches the edge."""
    if seconds <= 0:
        return ()
    step = next((each for each in _INTERVALS if seconds / each <= 6), seconds / 6)
    count = int(0.97 * seconds / step)
    return tuple(
        Tick(left=round(100 * step * each / seconds, 3), label=_tick(step * each))
        for each in range(count + 1)
    )


def _tick(seconds: float) -> str:
    return duration(seconds).replace(".0 s", " s") if seconds else "0"


def _looks(run: RunRecord) -> Iterator[Look]:
    for node in run.nodes:
        for scanner in node.evidence.scanners if node.evidence else ():
            found = node.evidence.findings if node.evidence else ()
            updated = scanner.database.updated_at if scanner.database else None
            yield Look(
                stage=node.name,
                scanner=scanner,
                findings=sum(1 for finding in found if finding.scanner == scanner.name),
                database_age=age(run.started_at - updated) if updated else "",
            )


def _databases(run: RunRecord) -> Iterator[Database]:
    seen = set()
    for node in run.nodes:
        for scanner in node.evidence.scanners if node.evidence else ():
            if scanner.database and scanner.database.digest not in seen:
                seen.add(scanner.database.digest)
                yield scanner.database


def _suite(stage: str, tests: Tests) -> Suite:
    slowest = sorted(tests.cases, key=lambda case: -case.seconds)[:_SLOWEST]
    return Suite(
        stage=stage,
        tests=tests,
        broken=tuple(case for case in tests.cases if case.status in _BAD),
        slowest=tuple(case for case in slowest if case.seconds > 0),
    )
