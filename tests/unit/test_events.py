from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import get_args

import pydantic
import pytest
import structlog

from ci.events import (
    DeliveryMoved,
    Event,
    ExecFinished,
    ExecStarted,
    Feed,
    ImageAwaited,
    NodeFinished,
    NodeOutput,
    NodePlan,
    NodeRetried,
    NodeStarted,
    RunFinished,
    RunStarted,
    Sinks,
    VerdictReached,
    parse,
)
from ci.values import Outcome, Status, Verdict

AT = datetime(2026, 1, 31, 14, 25, 30, tzinfo=UTC)

EVENTS: list[Event] = [
    RunStarted(at=AT, run="r", pipeline="p", nodes=(NodePlan(name="lint", needs=("a",)),)),
    NodeStarted(at=AT, node="lint", attempt=2),
    NodeRetried(at=AT, node="lint", attempt=1, delay=0.5, reason="no network"),
    NodeOutput(at=AT, node="lint", text="ok", stream="stderr"),
    ImageAwaited(at=AT, node="lint", address="debian:bookworm-slim"),
    ExecStarted(at=AT, node="lint", exec="1", command=("ruff", "check")),
    ExecFinished(at=AT, node="lint", exec="1", cached=True, seconds=0.1, exit_code=0),
    NodeFinished(at=AT, node="lint", status=Status.FAILED, seconds=1, attempts=2, reason="E501"),
    VerdictReached(at=AT, verdict=Verdict(gate="quality", outcome=Outcome.FAILED, reasons=("x",))),
    DeliveryMoved(at=AT, environment="staging", step="ended", outcome=Outcome.PASSED),
    RunFinished(at=AT, run="r", outcome=Outcome.PASSED, exit_code=0, seconds=3),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event)
def test_an_event_survives_json(event: Event) -> None:
    line = event.to_json()
    assert "\n" not in line
    assert parse(line) == event


def test_every_kind_of_event_is_tested_here() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


def test_names_are_dotted_past_tense() -> None:
    names = [event.event for event in EVENTS]
    assert len(set(names)) == len(names)
    assert all(name.count(".") == 1 for name in names)


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError):
        parse('{"event":"node.exploded","at":"2026-01-31T14:25:30Z"}')


def test_a_sink_that_raises_is_told_of_once_and_does_not_disturb_the_others() -> None:
    seen: list[Event] = []
    calls = 0

    def broken(_: Event) -> None:
        nonlocal calls
        calls += 1
        message = "no more terminal"
        raise OSError(message)

    sinks = Sinks([broken, seen.append])
    with structlog.testing.capture_logs() as logs:
        for event in EVENTS:
            sinks(event)
    assert seen == EVENTS
    assert calls == 1
    assert [entry["event"] for entry in logs] == ["sink.failed"]


def test_a_feed_reaches_who_listens_and_only_while_they_do() -> None:
    feed = Feed()
    seen: list[Event] = []
    event = NodeOutput(at=AT, text="x")
    feed(event)
    with feed.listening(seen.append):
        feed(event)
    feed(event)
    assert seen == [event]


def test_sinks_are_called_one_at_a_time_whatever_the_thread() -> None:
    at_once = most = 0
    barrier = threading.Barrier(4)

    def sink(_: Event) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0)  # lets another thread in, if one may come
        at_once -= 1

    sinks = Sinks([sink])

    def emit() -> None:
        barrier.wait()
        for _ in range(200):
            sinks(EVENTS[0])

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_sink_may_cause_an_event() -> None:
    seen: list[str] = []

    def sink(event: Event) -> None:
        seen.append(event.event)
        if len(seen) == 1:
            sinks(EVENTS[-1])

    sinks = Sinks([sink])
    sinks(EVENTS[0])
    assert seen == ["run.started", "run.finished"]
