"""The relay of events, durations, and what an error holds of an output."""

from __future__ import annotations

import pytest
from graphql import GraphQLError
from hypothesis import given
from hypothesis import strategies as st

from ci.clock import SystemClock
from ci.engine.queries import capped, describe, exec_error
from ci.engine.refusal import Refusal
from ci.engine.relay import Relay
from ci.engine.trace import TRACE
from ci.engine.vertices import execution
from ci.engine.vertices.duration import seconds
from ci.engine.vertices.vertex import Exec, Scratch
from ci.events import EngineEvent, ExecFinished, ExecStarted, ImageAwaited, NodeOutput

RAN = Exec(root=Scratch(), args=("make",))


def output(text: str, stream: execution.Stream = "stdout") -> execution.ExecOutput:
    return execution.ExecOutput(exec=RAN, stream=stream, text=text)


def finished(*, cached: bool = False) -> execution.ExecFinished:
    return execution.ExecFinished(exec=RAN, exit_code=0, cached=cached, seconds=1.5)


@given(st.lists(st.text(alphabet="ab\n", max_size=5), max_size=10))
def test_output_is_told_in_whole_lines_however_it_came(pieces):
    events: list[EngineEvent] = []
    relay = Relay(events.append, SystemClock())
    for piece in pieces:
        relay(output(piece))
    relay(finished())
    told = [event.text for event in events if isinstance(event, NodeOutput)]
    assert told == "".join(pieces).removesuffix("\n").split("\n") or "".join(pieces) == ""


def test_streams_are_apart():
    events: list[EngineEvent] = []
    relay = Relay(events.append, SystemClock())
    for event in (output("o"), output("e\n", "stderr"), output("ut\n")):
        relay(event)
    assert [(e.stream, e.text) for e in events if isinstance(e, NodeOutput)] == [
        ("stderr", "e"),
        ("stdout", "out"),
    ]


def test_each_that_waits_for_an_image_is_told_apart():
    events: list[EngineEvent] = []
    relay = Relay(events.append, SystemClock())
    for asker in ("one", "other"):
        token = TRACE.set(asker)
        relay.image_awaited("debian:bookworm-slim")
        TRACE.reset(token)
    assert [(e.trace, e.address) for e in events if isinstance(e, ImageAwaited)] == [
        ("one", "debian:bookworm-slim"),
        ("other", "debian:bookworm-slim"),
    ]


def test_all_events_of_an_exec_have_the_trace_of_its_beginning():
    events: list[EngineEvent] = []
    relay = Relay(events.append, SystemClock())
    token = TRACE.set("mine")
    relay(execution.ExecStarted(exec=RAN))
    TRACE.reset(token)
    relay(output("x\n"))
    relay(finished())
    assert [event.trace for event in events] == ["mine"] * 3


def test_a_cached_exec_begins_and_ends():
    events: list[EngineEvent] = []
    Relay(events.append, SystemClock())(finished(cached=True))
    begun, ended = events
    assert isinstance(begun, ExecStarted)
    assert isinstance(ended, ExecFinished)
    assert (begun.exec, ended.exec, ended.cached) == (RAN.digest, RAN.digest, True)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1s", 1), ("1.5s", 1.5), ("300ms", 0.3), ("1m30s", 90), ("2h", 7200), ("0s", 0)],
)
def test_durations_are_read_as_go_writes_them(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "-1s", "1s!", "one second"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(Refusal, match="duration"):
        seconds(text)


def test_an_error_holds_the_end_of_a_long_output():
    text = "first\n" + "x" * 300_000 + "\nlast\n"
    held = capped(text, 1000)
    assert held.startswith("[omitting ")
    assert held.endswith("\nlast")
    assert len(held) < 1100
    assert capped(" short \n") == "short"


def test_of_a_group_of_errors_the_one_that_was_raised_on_purpose_is_told():
    group = ExceptionGroup("both", [KeyError("x"), ExceptionGroup("in", [Refusal("no such port")])])
    described = describe(GraphQLError("message", original_error=group))
    assert described == {"message": "no such port"}


def test_a_failed_exec_has_all_that_sdks_need():
    failed = execution.ExecFailed(("sh", "-c", "x"), 3, stdout="out\n", stderr="err\n")
    assert exec_error(failed) == {
        "message": "exit code: 3",
        "extensions": {
            "_type": "EXEC_ERROR",
            "cmd": ["sh", "-c", "x"],
            "exitCode": 3,
            "stdout": "out",
            "stderr": "err",
        },
    }
