from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, assert_type

import anyio
import dagger
import pytest
from dagger._exceptions import QueryErrorValue
from gql import gql

from ci.errors import ConfigError
from ci.events import (
    DeliveryMoved,
    Event,
    ExecFinished,
    Feed,
    NodeFinished,
    NodeOutput,
    RunFinished,
    RunStarted,
    VerdictReached,
)
from ci.flow import (
    DeliveryRecord,
    Evidence,
    Input,
    Node,
    NotPassedError,
    Output,
    Pipeline,
    Run,
    StageErrored,
    StageFailed,
    StageSkipped,
    Status,
    Stop,
    Trigger,
    Verdict,
)
from ci.graph import UnknownNodeError
from ci.values import Outcome
from tests.fake_clock import EPOCH, FakeClock


@dataclass(frozen=True)
class AllPassed:
    """A gate that takes the statuses as they are and remembers what it saw."""

    name: str = "all passed"
    seen: list[Evidence] = field(default_factory=list)

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        self.seen.extend(evidence)
        bad = [one.stage for one in evidence if one.status is not Status.PASSED]
        outcome = Outcome.FAILED if bad else Outcome.PASSED
        return Verdict(gate=self.name, outcome=outcome, reasons=tuple(bad))


@dataclass(frozen=True)
class Tolerant:
    """A gate that lets everything through."""

    name: str = "tolerant"

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        return Verdict(gate=self.name, outcome=Outcome.PASSED)


async def nothing(*_: object) -> None:
    pass


async def one() -> int:
    return 1


async def add(a: int, b: int) -> int:
    return a + b


async def fails() -> None:
    raise StageFailed("a.py:1: unused import", hint="ruff check --fix")


async def errs() -> None:
    raise StageErrored("ruff did not start")


async def skips() -> None:
    raise StageSkipped("no Python here")


def statuses(run: Run) -> dict[str, str]:
    return {node.name: node.status.value for node in run.record.nodes}


def node(run: Run, name: str) -> Any:
    return next(one for one in run.record.nodes if one.name == name)


async def run_one(function: Any, **options: Any) -> tuple[Run, Any]:
    p = Pipeline("p")
    p.stage("it", function, **options)
    run = await p.run()
    return run, run.record.nodes[0]


# -- arguments make the edges ---------------------------------------------------------------------


async def test_a_node_as_an_argument_is_an_edge_and_its_artifact() -> None:
    p = Pipeline("sums")
    a = p.stage("a", one)
    b = p.stage("b", add, a, b=10)
    c = p.stage("c", add, a.map(lambda value: value * 100), b)
    results: list[int] = []

    async def collect(values: list[int], *, named: dict[str, int]) -> None:
        results.extend([*values, named["c"]])

    p.stage("collect", collect, [a, b], named={"c": c})
    run = await p.run()
    assert run.passed
    assert results == [1, 11, 111]
    assert p.graph.needs == {"a": (), "b": ("a",), "c": ("a", "b"), "collect": ("a", "b", "c")}


async def test_evidence_as_an_argument_is_an_edge_that_a_failure_crosses() -> None:
    seen: list[Evidence] = []

    async def comment(evidence: Evidence) -> None:
        seen.append(evidence)

    p = Pipeline("p")
    lint = p.stage("lint", fails)
    p.stage("comment", comment, lint.evidence, when=Trigger.ENDED)
    p.stage("shy", comment, lint.evidence)
    run = await p.run()
    assert statuses(run) == {"lint": "failed", "comment": "passed", "shy": "cancelled"}
    assert [one.status for one in seen] == [Status.FAILED]


def test_a_node_is_typed_by_what_its_function_makes() -> None:
    async def scan() -> Output[str]:
        return Output(evidence=Evidence(stage="", status=Status.PASSED), artifact="sbom")

    async def check() -> Evidence:
        return Evidence(stage="", status=Status.PASSED)

    p = Pipeline("p")
    assert_type(p.stage("a", one), Node[int])
    assert_type(p.stage("b", scan), Node[str])
    assert_type(p.stage("c", check), Node[None])
    assert_type(p.stage("d", nothing), Node[None])
    assert_type(p.stage("e", one).map(str), Input[str])
    assert_type(p.gate("f", Tolerant(), []), Node[Verdict])


def test_arguments_that_do_not_fit_are_told_at_the_declaration() -> None:
    p = Pipeline("p")
    with pytest.raises(ConfigError, match=r"sum: arguments: got missing a required argument: 'b'"):
        p.stage("sum", add, 1)


def test_a_name_is_given_once_and_is_fit_for_a_folder() -> None:
    p = Pipeline("p")
    p.stage("lint", nothing)
    with pytest.raises(ConfigError, match="two nodes named lint"):
        p.gate("lint", Tolerant(), [])
    for name in ("", "../x", "Lint", "a/b", "-a"):
        with pytest.raises(ConfigError, match="name of a node"):
            p.stage(name, nothing)


def test_a_node_of_another_pipeline_is_refused() -> None:
    other = Pipeline("other").stage("lint", nothing)
    with pytest.raises(ConfigError, match="lint is a node of another pipeline"):
        Pipeline("p").stage("build", nothing, other)


def test_a_gate_judges_stages_not_gates() -> None:
    p = Pipeline("p")
    gate = p.gate("quality", Tolerant(), [])
    with pytest.raises(ConfigError, match="got a gate; expected a stage"):
        p.gate("security", Tolerant(), [gate])


# -- what a stage returns or raises ----------------------------------------------------------------


async def test_an_output_is_taken_whole() -> None:
    async def lint() -> Output[int]:
        return Output(
            evidence=Evidence(stage="ruff", status=Status.PASSED, summary="clean"),
            artifact=7,
            reports={"ruff.sarif": "{}", "more/log.txt": "x"},
        )

    run, record = await run_one(lint)
    assert record.evidence == Evidence(stage="it", status=Status.PASSED, summary="clean")
    assert run.reports == {"it/ruff.sarif": "{}", "it/more/log.txt": "x"}
    assert record.reports == ("it/ruff.sarif", "it/more/log.txt")


async def test_evidence_alone_decides_too() -> None:
    async def unit() -> Evidence:
        return Evidence(stage="", status=Status.FAILED, summary="2 of 40 tests failed")

    run, record = await run_one(unit)
    assert (record.status, record.reason) == (Status.FAILED, "2 of 40 tests failed")
    assert run.exit_code == 1


@pytest.mark.parametrize("name", ["../ruff.sarif", "/etc/passwd", "", "a/../../b"])
async def test_a_report_cannot_leave_its_folder(name: str) -> None:
    async def lint() -> Output[None]:
        evidence = Evidence(stage="lint", status=Status.PASSED)
        return Output(evidence=evidence, reports={name: "x"})

    run, record = await run_one(lint)
    assert record.status is Status.ERRORED
    assert not run.reports


@pytest.mark.parametrize(
    ("function", "status", "exit_code", "reason"),
    [
        (fails, Status.FAILED, 1, "a.py:1: unused import\nhint: ruff check --fix"),
        (errs, Status.ERRORED, 2, "ruff did not start"),
        (skips, Status.SKIPPED, 2, "no Python here"),
    ],
)
async def test_the_stage_errors_are_statuses(
    function: Any, status: Status, exit_code: int, reason: str
) -> None:
    run, record = await run_one(function)
    assert (record.status, record.reason) == (status, reason)
    assert record.evidence.status is status
    assert run.exit_code == exit_code


async def test_a_bug_in_a_stage_is_errored_with_its_place_but_no_path_of_the_machine() -> None:
    async def buggy() -> None:
        environment: dict[str, str] = {}
        environment.pop("key")

    _, record = await run_one(buggy)
    assert record.status is Status.ERRORED
    assert record.reason == "KeyError: 'key'"
    assert "test_flow.py:" in record.evidence.log
    assert "in buggy" in record.evidence.log
    assert "/" not in record.evidence.log


def exec_error() -> dagger.ExecError:
    extensions = {"_type": "EXEC_ERROR", "cmd": ["ruff", "check"], "exitCode": 3}
    streams = {"stdout": "\n".join(f"line {n}" for n in range(1000)), "stderr": "boom"}
    value = QueryErrorValue(message="exit code: 3", extensions={**extensions, **streams})
    error = dagger.QueryError([value], gql("{ version }"))
    assert isinstance(error, dagger.ExecError)
    return error


async def test_a_failed_command_is_errored_with_its_output() -> None:
    async def run_it() -> None:
        raise exec_error()

    run, record = await run_one(run_it)
    assert record.status is Status.ERRORED
    assert record.reason == "ruff check: exit code 3"
    assert record.evidence.log.startswith("$ ruff check\n--- stdout\nline 900\n")
    assert record.evidence.log.endswith("line 999\n--- stderr\nboom\nexit code 3")
    assert run.exit_code == 2


async def test_a_command_behind_a_stage_error_shows_its_output_too() -> None:
    async def run_it() -> None:
        try:
            raise exec_error()
        except dagger.ExecError as error:
            raise StageFailed("the code does not compile") from error

    _, record = await run_one(run_it)
    assert (record.status, record.reason) == (Status.FAILED, "the code does not compile")
    assert "--- stderr\nboom" in record.evidence.log


async def test_groups_are_taken_apart_and_the_worst_kind_decides() -> None:
    async def both() -> None:
        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as inner:
                inner.start_soon(fails)
            outer.start_soon(nothing)

    async def three() -> None:
        errors = [StageFailed("f"), ExceptionGroup("", [StageErrored("e"), StageSkipped("s")])]
        raise ExceptionGroup("all", errors)

    _, record = await run_one(both)
    assert record.status is Status.FAILED
    assert record.reason.startswith("a.py:1: unused import")
    _, record = await run_one(three)
    assert (record.status, record.reason) == (Status.ERRORED, "e")


async def test_a_plain_function_is_told_to_be_async() -> None:
    def plain() -> int:
        return 1

    _, record = await run_one(plain)
    assert record.status is Status.ERRORED
    assert "async def" in record.reason


async def test_an_errored_stage_is_tried_again_as_often_as_asked() -> None:
    tries = 0

    async def flaky() -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StageErrored("no network")
        return tries

    p = Pipeline("p")
    p.stage("it", flaky, retries=2)
    run = await p.run(clock=InstantSleep())
    assert run.passed
    assert run.record.nodes[0].attempts == 3


class InstantSleep(FakeClock):
    """Backoffs take no time; time limits never come."""

    async def sleep(self, seconds: float) -> None:
        if seconds >= 60:
            await anyio.sleep_forever()
        self.slept.append(seconds)


# -- gates -----------------------------------------------------------------------------------------


async def test_a_gate_sees_evidence_of_every_input_however_it_ended() -> None:
    gate = AllPassed()
    p = Pipeline("p")
    lint = p.stage("lint", fails)
    inputs = [
        lint,
        p.stage("types", errs),
        p.stage("iac", skips),
        p.stage("cover", nothing, after=[lint]),
        p.stage("unit", nothing),
    ]
    p.gate("quality", gate, inputs)
    run = await p.run()
    assert [(one.stage, one.status.value) for one in gate.seen] == [
        ("lint", "failed"),
        ("types", "errored"),
        ("iac", "skipped"),
        ("cover", "cancelled"),
        ("unit", "passed"),
    ]
    assert gate.seen[3].summary == "lint failed"
    assert run.record.verdicts[0].gate == "quality"
    assert run.verdict.reasons[0] == "quality: lint"


async def test_the_gate_decides_for_the_stages_that_it_judges() -> None:
    p = Pipeline("p")
    p.gate("tolerant", Tolerant(), [p.stage("lint", fails)])
    run = await p.run()
    assert run.passed
    assert run.exit_code == 0


async def test_a_stage_that_no_gate_judges_counts() -> None:
    p = Pipeline("p")
    p.gate("tolerant", Tolerant(), [p.stage("lint", fails)])
    p.stage("alone", errs)
    run = await p.run()
    assert run.verdict == Verdict(
        gate="p", outcome=Outcome.ERRORED, reasons=("alone errored: ruff did not start",)
    )


async def test_a_stage_whose_gate_was_skipped_counts() -> None:
    p = Pipeline("p")
    p.gate("tolerant", Tolerant(), [p.stage("lint", fails)])
    run = await p.run(skip=["tolerant"])
    assert run.verdict.outcome is Outcome.FAILED


async def test_a_gate_that_did_not_pass_or_was_skipped_does_not_open() -> None:
    p = Pipeline("p")
    quality = p.gate("quality", AllPassed(), [p.stage("lint", fails)])
    image = p.stage("build", one, after=[quality])
    p.stage("sbom", add, image, 1)
    run = await p.run()
    assert statuses(run)["build"] == statuses(run)["sbom"] == "cancelled"
    assert node(run, "sbom").reason == "quality failed"
    run = await p.run(skip=["quality"])
    assert statuses(run)["build"] == statuses(run)["sbom"] == "skipped"
    assert node(run, "sbom").reason == "quality was skipped: it was asked to be skipped"


async def test_a_gate_that_breaks_is_an_errored_verdict() -> None:
    class Broken:
        name = "broken"

        def judge(self, evidence: Sequence[Evidence]) -> Verdict:
            message = "no policy"
            raise ValueError(message)

    p = Pipeline("p")
    p.gate("broken", Broken(), [p.stage("unit", nothing)])
    run = await p.run()
    assert run.verdict.outcome is Outcome.ERRORED
    assert run.record.verdicts == (
        Verdict(gate="broken", outcome=Outcome.ERRORED, reasons=("ValueError: no policy",)),
    )


async def test_nothing_to_judge_is_not_a_pass() -> None:
    for p in (Pipeline("empty"), Pipeline("skipped")):
        if p.name == "skipped":
            p.stage("lint", skips)
        run = await p.run()
        assert (run.verdict.outcome, run.exit_code) == (Outcome.INCONCLUSIVE, 2)
        assert run.verdict.reasons == ("nothing ran",)


# -- deliveries and clean-up -----------------------------------------------------------------------


async def deliver(environment: str, outcome: Outcome, *_: object) -> DeliveryRecord:
    return DeliveryRecord(environment=environment, outcome=outcome, url=f"http://{environment}")


async def test_a_delivery_that_does_not_pass_stops_the_later_ones() -> None:
    p = Pipeline("p")
    p.delivery("development", deliver, "development", Outcome.PASSED)
    p.delivery("staging", deliver, "staging", Outcome.FAILED)
    p.delivery("production", deliver, "production", Outcome.PASSED)
    run = await p.run()
    assert statuses(run) == {
        "development": "passed",
        "staging": "failed",
        "production": "cancelled",
    }
    assert [one.environment for one in run.record.deliveries] == ["development", "staging"]
    assert run.exit_code == 1


async def test_a_delivery_hands_on_its_record() -> None:
    urls: list[str] = []

    async def smoke(url: str) -> None:
        urls.append(url)

    p = Pipeline("p")
    staging = p.delivery("staging", deliver, "staging", Outcome.PASSED)
    p.stage("smoke", smoke, staging.map(lambda record: record.url))
    assert (await p.run()).passed
    assert urls == ["http://staging"]


async def test_a_delivery_that_is_skipped_or_returns_no_record_says_so() -> None:
    p = Pipeline("p")
    p.delivery("local", skips)  # type: ignore[arg-type]
    p.delivery("odd", one)  # type: ignore[arg-type]
    run = await p.run()
    assert statuses(run) == {"local": "skipped", "odd": "errored"}
    assert "expected DeliveryRecord" in node(run, "odd").reason
    assert not run.record.deliveries


async def test_clean_up_gets_what_was_made_and_is_skipped_where_nothing_was() -> None:
    cleaned: list[int] = []

    async def clean(value: int) -> None:
        cleaned.append(value)

    p = Pipeline("p")
    made = p.stage("made", one)
    broken = p.stage("broken", fails)
    unborn = p.stage("unborn", add, made, 1, after=[broken])
    p.cleanup("clean-made", clean, made, after=[broken])
    p.cleanup("clean-unborn", clean, unborn)
    run = await p.run()
    assert cleaned == [1]
    assert node(run, "clean-unborn").status is Status.SKIPPED
    assert node(run, "clean-unborn").reason == "unborn made nothing: it was cancelled"


# -- selection -------------------------------------------------------------------------------------


def selectable() -> Pipeline:
    p = Pipeline("p")
    lint = p.stage("lint", nothing)
    unit = p.stage("unit", nothing)
    quality = p.gate("quality", AllPassed(), [lint, unit])
    image = p.stage("build", one, after=[quality])
    p.stage("scan", nothing, image)
    p.cleanup("prune", nothing, after=[image])
    return p


async def test_only_runs_what_was_asked_for_what_it_needs_and_its_clean_up() -> None:
    run = await selectable().run(only=["unit"])
    assert statuses(run) == {"unit": "passed"}
    assert run.record.reason == "only unit"
    run = await selectable().run(only=["build"])
    assert list(statuses(run)) == ["lint", "unit", "quality", "build", "prune"]


async def test_skip_leaves_out_and_what_needs_only_the_order_runs() -> None:
    run = await selectable().run(skip=["prune", "scan"])
    assert statuses(run)["scan"] == statuses(run)["prune"] == "skipped"
    assert run.passed
    run = await selectable().run(skip=["build"])
    assert node(run, "scan").status is Status.SKIPPED
    assert node(run, "scan").reason == "build was skipped: it was asked to be skipped"


async def test_an_unknown_name_is_told_before_anything_runs() -> None:
    with pytest.raises(UnknownNodeError, match="did you mean scan"):
        await selectable().run(only=["scam"])
    with pytest.raises(UnknownNodeError, match="did you mean scan"):
        await selectable().run(skip=["scam"])


# -- the record, the events, the end -----------------------------------------------------------


async def test_the_record_tells_all_in_the_order_of_the_graph() -> None:
    p = Pipeline("gym-api")
    lint = p.stage("lint", nothing)
    p.gate("quality", AllPassed(), [lint])
    run = await p.run(clock=FakeClock())
    record = run.record
    assert (record.pipeline, record.started_at, record.exit_code) == ("gym-api", EPOCH, 0)
    assert [(one.name, one.kind.value, one.needs) for one in record.nodes] == [
        ("lint", "stage", ()),
        ("quality", "gate", ("lint",)),
    ]
    assert record.model_validate_json(record.model_dump_json()) == record
    assert "quality" in run.summary


async def test_events_tell_the_same_as_the_record() -> None:
    events: list[Event] = []
    p = Pipeline("p")
    lint = p.stage("lint", fails)
    p.gate("quality", AllPassed(), [lint])
    p.delivery("staging", deliver, "staging", Outcome.PASSED)
    run = await p.run(on_event=[events.append], concurrency=1, clock=FakeClock())
    assert [event.event for event in events] == [
        "run.started",
        "node.started",
        "node.finished",
        "node.started",
        "verdict.reached",
        "node.finished",
        "node.started",
        "delivery.moved",
        "node.finished",
        "run.finished",
    ]
    first, last = events[0], events[-1]
    assert isinstance(first, RunStarted)
    assert first.nodes == p.plan
    assert isinstance(last, RunFinished)
    assert (last.run, last.outcome) == (run.record.id, run.verdict.outcome)
    finished = next(event for event in events if isinstance(event, NodeFinished))
    assert finished.summary == "a.py:1: unused import"
    assert [e.verdict for e in events if isinstance(e, VerdictReached)] == [*run.record.verdicts]
    moved = next(event for event in events if isinstance(event, DeliveryMoved))
    assert (moved.environment, moved.step, moved.outcome) == ("staging", "ended", Outcome.PASSED)


async def test_what_the_engine_tells_is_attributed_by_the_header_that_the_sdk_sends() -> None:
    feed = Feed()
    events: list[Event] = []

    async def stage(count: int, cached: int) -> None:
        header = await traceparent_of_a_request()
        for number in range(count):
            feed(
                ExecFinished(
                    at=EPOCH, exec=f"{header}{number}", cached=number < cached, trace=header
                )
            )
        feed(NodeOutput(at=EPOCH, text=f"{count} done", trace=header))

    p = Pipeline("p")
    p.stage("two", stage, 2, 1)
    p.stage("three", stage, 3, 3)
    p.stage("none", nothing)
    run = await p.run(on_event=[events.append], feed=feed)
    assert run.passed, run.summary
    counts = {one.name: (one.execs, one.cached_execs, one.cached) for one in run.record.nodes}
    assert counts == {"two": (2, 1, False), "three": (3, 3, True), "none": (0, 0, False)}
    assert {(e.node, e.text) for e in events if isinstance(e, NodeOutput)} == {
        ("two", "2 done"),
        ("three", "3 done"),
    }


async def traceparent_of_a_request() -> str:
    """The header of a request that goes through the SDK's own transport, over a real socket."""
    import httpx
    from dagger.client._session import TelemetryTransport

    headers: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        headers.extend(
            line.split(": ", 1)[1]
            for line in head.decode().splitlines()
            if line.lower().startswith("traceparent")
        )
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, httpx.AsyncClient(transport=TelemetryTransport(), trust_env=False) as client:
        await client.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/query")
    (header,) = headers
    return header


async def test_a_stop_ends_the_run_soundly_and_says_why() -> None:
    stop, cleaned = Stop(), list[str]()

    async def hang() -> None:
        stop("interrupted by Ctrl-C")
        await anyio.sleep_forever()

    async def clean() -> None:
        cleaned.append("done")

    p = Pipeline("p")
    hanging = p.stage("hang", hang)
    p.gate("quality", AllPassed(), [hanging])
    p.cleanup("clean", clean, after=[hanging])
    run = await p.run(stop=stop)
    assert statuses(run) == {"hang": "cancelled", "quality": "cancelled", "clean": "passed"}
    assert cleaned == ["done"]
    assert (run.exit_code, run.record.reason) == (130, "interrupted by Ctrl-C")
    assert run.verdict.reasons == ("interrupted by Ctrl-C",)


async def test_a_cancellation_is_raised_after_the_end_was_told() -> None:
    events: list[Event] = []

    async def hang() -> None:
        group.cancel_scope.cancel()
        await anyio.sleep_forever()

    p = Pipeline("p")
    p.stage("hang", hang)
    async with anyio.create_task_group() as group:
        await p.run(on_event=[events.append])
        pytest.fail("it was not cancelled")
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.outcome, last.reason) == (Outcome.ERRORED, "the run was interrupted")


async def test_fail_fast_stops_and_is_a_failure_not_an_interruption() -> None:
    p = Pipeline("p")
    p.stage("lint", fails)
    p.stage("slow", anyio.sleep_forever)
    run = await p.run(fail_fast=True, concurrency=2)
    assert statuses(run) == {"lint": "failed", "slow": "cancelled"}
    assert (run.exit_code, run.record.reason) == (1, "")


async def test_check_passes_on_or_raises_with_the_exit_code_and_the_summary() -> None:
    p = Pipeline("p")
    lint = p.stage("lint", fails)
    run = await p.run()
    with pytest.raises(NotPassedError, match="unused import") as caught:
        run.check()
    assert caught.value.exit_code == 1
    assert caught.value.run is run
    assert lint.kind == "stage"
    passed = await p.run(skip=["lint"], only=["lint"])
    assert not passed.passed
    p.stage("fine", nothing)
    good = await p.run(only=["fine"])
    assert good.check() is good


async def test_one_pipeline_can_be_run_again() -> None:
    p = selectable()
    first, second = await p.run(), await p.run()
    assert statuses(first) == statuses(second)
    assert first.record.id != second.record.id
