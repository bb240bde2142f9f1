"""The state of a run as its events tell it; pure, so that every way to show it agrees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from ci.events import (
    DeliveryMoved,
    Event,
    ExecFinished,
    ExecStarted,
    ImageAwaited,
    Kind,
    NodeFinished,
    NodeOutput,
    NodeRetried,
    NodeStarted,
    RunFinished,
    RunStarted,
    VerdictReached,
)
from ci.records.text import clean, command_line
from ci.values import Outcome, Status, Verdict

__all__ = ["Board", "Row"]

#: Lines of output that a running node keeps, should it be interrupted.
_KEPT_LINES = 40


@dataclass
class Row:
    """One node, as it stands."""

    name: str
    kind: Kind = "stage"
    needs: tuple[str, ...] = ()
    #: None until it ended.
    status: Status | None = None
    #: None until it began, and while it waits for another attempt.
    started_at: datetime | None = None
    attempt: int = 0
    #: What it does now: the last line of output, or the command.
    doing: str = ""
    #: How it ended.
    end: NodeFinished | None = None
    verdict: Verdict | None = None
    url: str = ""
    version: str = ""
    _output: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """It has begun and not ended."""
        return self.status is None and self.started_at is not None

    @property
    def state(self) -> str:
        """A status, ``running`` or ``waiting``; of a gate that judged, its outcome."""
        if self.verdict is not None and self.status is not None:
            return self.verdict.outcome.value
        if self.status is not None:
            return self.status.value
        return "running" if self.running else "waiting"

    @property
    def broken(self) -> bool:
        """It failed or errored."""
        return self.status in (Status.FAILED, Status.ERRORED)

    @property
    def hinted(self) -> bool:
        """It was skipped for a reason of its own, with a hint."""
        is_own = self.end is not None and self.end.attempts > 0
        return self.status is Status.SKIPPED and is_own and bool(self.advice())

    @property
    def cached(self) -> bool:
        """Every command came from the cache."""
        return self.end is not None and self.end.cached

    def seconds(self, now: datetime) -> float:
        """How long it has run, or ran; 0 where it never began."""
        if self.end is not None:
            return self.end.seconds
        return (now - self.started_at).total_seconds() if self.started_at else 0.0

    def say(self, text: str) -> None:
        """Keep a line of its output."""
        lines = [line for line in clean(text).splitlines() if line.strip()]
        if lines:
            self.doing = lines[-1].strip()
            self._output = [*self._output, *lines][-_KEPT_LINES:]

    def tail(self, count: int) -> list[str]:
        """The last lines of what it wrote, as the evidence has it or as it was seen."""
        log = clean(self.end.log).rstrip().splitlines() if self.end else []
        return (log or self._output)[-count:] if count > 0 else []

    def advice(self) -> list[str]:
        """What its reason says after the first line: hints."""
        return clean(self.end.reason).strip().splitlines()[1:] if self.end else []

    def note(self) -> str:
        """One line on how it stands."""
        if self.end is None:
            again = f"attempt {self.attempt}: " if self.attempt > 1 else ""
            return again + self.doing
        if self.verdict is not None and self.verdict.outcome is not Outcome.PASSED:
            return self.verdict.reasons[0] if self.verdict.reasons else ""
        said = self.end.reason or self.end.summary
        first = clean(said).strip().splitlines()[0] if said.strip() else ""
        where = f"{self.version} at {self.url}" if self.url and not first else ""
        return first or where


class Board:
    """All nodes in the order of the graph, brought up to date by ``apply``."""

    def __init__(self) -> None:
        self.pipeline = ""
        self.run = ""
        self.started_at: datetime | None = None
        self.finished: RunFinished | None = None
        self.rows: dict[str, Row] = {}

    def apply(self, event: Event) -> None:
        """Take note of an event. A run that starts makes the board new."""
        match event:
            case RunStarted():
                self.pipeline, self.run = event.pipeline, event.run
                self.started_at, self.finished = event.at, None
                self.rows = {
                    plan.name: Row(name=plan.name, kind=plan.kind, needs=plan.needs)
                    for plan in event.nodes
                }
            case RunFinished():
                self.finished = event
            case VerdictReached():
                if row := self.rows.get(event.verdict.gate):
                    row.verdict = event.verdict
            case DeliveryMoved():
                self._move(event)
            case _:
                if row := self.rows.get(event.node):
                    _advance(row, event)

    def delivering(self, environment: str) -> Row | None:
        """The delivery to an environment: of that name, else the one that runs."""
        running = (row for row in self.rows.values() if row.kind == "delivery" and row.running)
        return self.rows.get(environment) or next(running, None)

    def of(self, *states: str) -> Iterator[Row]:
        """The nodes in these states."""
        return (row for row in self.rows.values() if row.state in states)

    def seconds(self, now: datetime) -> float:
        """How long the run has taken."""
        if self.finished is not None:
            return self.finished.seconds
        return (now - self.started_at).total_seconds() if self.started_at else 0.0

    def _move(self, event: DeliveryMoved) -> None:
        row = self.delivering(event.environment)
        if row is not None:
            row.doing = " ".join(filter(None, (event.step, event.version)))
            row.url, row.version = event.url or row.url, event.version or row.version


def _advance(
    row: Row,
    event: NodeStarted
    | NodeRetried
    | NodeOutput
    | ImageAwaited
    | ExecStarted
    | ExecFinished
    | NodeFinished,
) -> None:
    match event:
        case NodeStarted():
            row.started_at = row.started_at or event.at
            row.attempt, row.doing = event.attempt, ""
        case NodeRetried():
            reason = event.reason.splitlines()[0] if event.reason else "errored"
            row.doing = f"again in {event.delay:.0f} s: {clean(reason)}"
        case NodeOutput():
            row.say(event.text)
        case ImageAwaited():
            row.doing = clean(f"image {event.address}")
        case ExecStarted():
            row.doing = clean(command_line(event.command))
        case NodeFinished():
            row.status, row.end = event.status, event
        case ExecFinished():
            pass
