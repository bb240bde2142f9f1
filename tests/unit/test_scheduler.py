from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.errors import ConfigError
from ci.events import Event, NodeFinished, NodeRetried, NodeStarted
from ci.graph import CycleError, UnknownNodeError
from ci.scheduler import Backoff, End, Need, Result, Scheduler, Stop, Task, Trigger
from ci.values import Status
from tests.fake_clock import FakeClock

PASSED, FAILED, ERRORED = Status.PASSED, Status.FAILED, Status.ERRORED
SKIPPED, CANCELLED = Status.SKIPPED, Status.CANCELLED

Act = Callable[[Mapping[str, End[Any]]], Awaitable[Result[Any]]]


def gives(status: Status, reason: str = "", value: object = None) -> Act:
    async def act(_: Mapping[str, End[Any]]) -> Result[Any]:
        await anyio.lowlevel.checkpoint()
        return Result(status, value, reason)

    return act


def task(name: str, *needs: str | Need, act: Act | None = None, **options: Any) -> Task[Any]:
    edges = tuple(need if isinstance(need, Need) else Need(need) for need in needs)
    return Task(name=name, action=act or gives(PASSED), needs=edges, **options)


async def run(*tasks: Task[Any], stop: Stop | None = None, **options: Any) -> Mapping[str, Any]:
    return await Scheduler(tasks, **{"concurrency": 4, **options}).run(stop)


async def statuses(*tasks: Task[Any], **options: Any) -> dict[str, Status]:
    ends = await run(*tasks, **options)
    return {name: ends[name].status for name in sorted(ends)}


# -- order and reach --------------------------------------------------------------------------


async def test_a_task_sees_the_values_of_what_it_needs() -> None:
    async def add(ends: Mapping[str, End[Any]]) -> Result[Any]:
        return Result(PASSED, sum(ends[name].value or 0 for name in ("a", "b")))

    ends = await run(
        task("sum", "a", "b", act=add),
        task("a", act=gives(PASSED, value=40)),
        task("b", act=gives(PASSED, value=2)),
    )
    assert ends["sum"].value == 42


async def test_what_did_not_pass_cancels_its_dependants_only() -> None:
    assert await statuses(
        task("lint", act=gives(FAILED)),
        task("unit"),
        task("build", "lint"),
        task("scan", "build"),
        task("docs", "unit"),
    ) == {
        "lint": FAILED,
        "unit": PASSED,
        "build": CANCELLED,
        "scan": CANCELLED,
        "docs": PASSED,
    }


async def test_a_cancelled_task_names_the_culprit_however_far() -> None:
    ends = await run(
        task("lint", act=gives(ERRORED, "no ruff")),
        task("build", "lint"),
        task("scan", "build"),
    )
    assert ends["scan"].reason == "lint errored"
    assert ends["scan"].culprit == "lint"
    assert ends["scan"].attempts == 0
    assert ends["scan"].started_at is None


async def test_of_several_culprits_the_first_need_is_named_whatever_ends_first() -> None:
    slow = anyio.Event()

    async def late(_: Mapping[str, End[Any]]) -> Result[Any]:
        await slow.wait()
        return Result(FAILED)

    async def early(_: Mapping[str, End[Any]]) -> Result[Any]:
        slow.set()
        return Result(FAILED)

    ends = await run(task("a", act=late), task("b", act=early), task("c", "a", "b"))
    assert ends["c"].culprit == "a"


async def test_a_skip_satisfies_an_edge_of_order_and_is_handed_on_by_a_required_one() -> None:
    ends = await run(
        task("build", act=gives(SKIPPED, "no Dockerfile\nhint: write one")),
        task("notify", "build"),
        task("sbom", Need("build", required=True)),
        task("scan", Need("sbom", required=True)),
    )
    assert ends["notify"].status is PASSED
    assert ends["sbom"].status is SKIPPED
    assert ends["sbom"].reason == "build was skipped: no Dockerfile"
    assert ends["scan"].reason == "build was skipped: no Dockerfile"


async def test_what_is_to_be_skipped_is_not_run() -> None:
    ends = await run(
        task("a"),
        task("b", "a", act=gives(FAILED)),
        task("c", "b"),
        task("d", Need("b", required=True)),
        skip={"b": "asked to"},
    )
    assert {name: end.status for name, end in ends.items()} == {
        "a": PASSED,
        "b": SKIPPED,
        "c": PASSED,
        "d": SKIPPED,
    }
    assert ends["b"].reason == "asked to"


async def test_a_gate_runs_however_its_needs_ended() -> None:
    seen: dict[str, Status] = {}

    async def judge(ends: Mapping[str, End[Any]]) -> Result[Any]:
        seen.update({name: end.status for name, end in ends.items()})
        return Result(FAILED)

    assert await statuses(
        task("lint", act=gives(FAILED)),
        task("types", act=gives(ERRORED)),
        task("unit", act=gives(SKIPPED)),
        task("cover", "lint"),
        task("quality", "lint", "types", "unit", "cover", act=judge, trigger=Trigger.ENDED),
        task("build", "quality"),
    ) == {
        "build": CANCELLED,
        "cover": CANCELLED,
        "lint": FAILED,
        "quality": FAILED,
        "types": ERRORED,
        "unit": SKIPPED,
    }
    assert seen == {"lint": FAILED, "types": ERRORED, "unit": SKIPPED, "cover": CANCELLED}


@pytest.mark.parametrize("concurrency", [1, 3, 100])
async def test_never_more_than_allowed_run_at_once_and_all_that_are_allowed_do(
    concurrency: int,
) -> None:
    running = most = 0

    async def act(_: Mapping[str, End[Any]]) -> Result[Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _round in range(5):
            await anyio.lowlevel.checkpoint()
        running -= 1
        return Result(PASSED)

    await run(*(task(f"n{number}", act=act) for number in range(20)), concurrency=concurrency)
    assert most == min(concurrency, 20)


async def test_one_at_a_time_runs_in_the_order_of_the_graph() -> None:
    begun: list[str] = []
    await run(
        task("c", "a"),
        task("a"),
        task("b"),
        task("d"),
        concurrency=1,
        emit=lambda event: begun.append(event.node) if isinstance(event, NodeStarted) else None,
    )
    assert begun == ["a", "c", "b", "d"]


async def test_what_is_urgent_begins_first_once_it_can() -> None:
    begun: list[str] = []
    await run(
        task("a"),
        task("b"),
        task("c", "b", urgent=True),
        task("d", urgent=True),
        task("e"),
        concurrency=1,
        emit=lambda event: begun.append(event.node) if isinstance(event, NodeStarted) else None,
    )
    assert begun == ["d", "a", "b", "c", "e"]


async def test_nothing_to_run_is_no_error() -> None:
    assert await run() == {}


async def test_a_bad_graph_is_refused_before_anything_runs() -> None:
    with pytest.raises(CycleError):
        Scheduler([task("a", "b"), task("b", "a")], concurrency=1)
    with pytest.raises(UnknownNodeError):
        Scheduler([task("a", "b")], concurrency=1)
    with pytest.raises(UnknownNodeError):
        Scheduler([task("a")], skip={"b": ""}, concurrency=1)
    with pytest.raises(ConfigError, match="concurrency: got 0"):
        Scheduler([task("a")], concurrency=0)
    with pytest.raises(ConfigError, match="stop-db: clean-up without a timeout"):
        task("stop-db", trigger=Trigger.ALWAYS)


# -- what a task may do wrong -------------------------------------------------------------------


async def test_whatever_a_task_raises_it_is_errored_and_the_rest_goes_on() -> None:
    async def raises(_: Mapping[str, End[Any]]) -> Result[Any]:
        message = "no such file"
        raise FileNotFoundError(message)

    async def exits(_: Mapping[str, End[Any]]) -> Result[Any]:
        raise SystemExit(3)

    async def awaits_a_cancelled_one(_: Mapping[str, End[Any]]) -> Result[Any]:
        other = asyncio.ensure_future(anyio.sleep_forever())
        await anyio.lowlevel.checkpoint()
        other.cancel()
        await other
        return Result(PASSED)

    ends = await run(
        task("raises", act=raises),
        task("exits", act=exits),
        task("awaits", act=awaits_a_cancelled_one),
        task("fine"),
    )
    assert ends["raises"].status is ERRORED
    assert ends["raises"].reason == "FileNotFoundError: no such file"
    assert ends["exits"].status is ERRORED
    assert "3" in ends["exits"].reason
    assert ends["awaits"].status is ERRORED
    assert ends["fine"].status is PASSED


# -- time -----------------------------------------------------------------------------------------


async def hang(_: Mapping[str, End[Any]]) -> Result[Any]:
    await anyio.sleep_forever()
    return Result(PASSED)


async def test_a_task_that_hangs_is_errored_when_its_time_is_over() -> None:
    clock = FakeClock()
    async with anyio.create_task_group() as group:

        async def move() -> None:
            await clock.wait_sleeping()
            clock.advance(599)
            clock.advance(1)

        group.start_soon(move)
        ends = await run(task("unit", act=hang, timeout=600), task("next", "unit"), clock=clock)
    assert ends["unit"].status is ERRORED
    assert ends["unit"].reason == "timed out after 600 s"
    assert ends["unit"].seconds == 600
    assert ends["next"].reason == "unit errored"


async def test_each_task_has_its_own_time_whatever_the_order_in_which_they_begin() -> None:
    clock = FakeClock()
    async with anyio.create_task_group() as group:

        async def move() -> None:
            for end in (30, 300, 600):
                await clock.wait_sleeping_until(end)
                clock.advance(end - clock.monotonic())

        group.start_soon(move)
        ends = await run(
            task("long", act=hang, timeout=600),
            task("medium", act=hang, timeout=300),
            task("short", act=hang, timeout=30),
            clock=clock,
        )
    assert {name: (end.seconds, end.reason) for name, end in ends.items()} == {
        "short": (30, "timed out after 30 s"),
        "medium": (300, "timed out after 300 s"),
        "long": (600, "timed out after 600 s"),
    }


async def test_a_task_within_its_time_is_not_touched() -> None:
    clock = FakeClock()
    ends = await run(task("unit", act=gives(FAILED, "2 tests"), timeout=600), clock=clock)
    assert (ends["unit"].status, ends["unit"].reason) == (FAILED, "2 tests")


async def test_errored_is_retried_with_growing_delays_and_then_passes() -> None:
    clock = FakeClock(instant=True)
    left = [ERRORED, ERRORED, PASSED]
    events: list[Event] = []

    async def act(_: Mapping[str, End[Any]]) -> Result[Any]:
        return Result(left.pop(0), reason="no network" if left else "")

    ends = await run(
        task("scan", act=act, retries=5),
        clock=clock,
        rng=random.Random(1),
        backoff=Backoff(first=2, factor=3, ceiling=100),
        emit=events.append,
    )
    rng = random.Random(1)
    assert ends["scan"].status is PASSED
    assert ends["scan"].attempts == 3
    assert clock.slept == [1 + rng.uniform(0, 1), 3 + rng.uniform(0, 3)]
    assert [event.event for event in events] == [
        "node.started",
        "node.retried",
        "node.started",
        "node.retried",
        "node.started",
        "node.finished",
    ]
    retried = [event for event in events if isinstance(event, NodeRetried)]
    assert [event.delay for event in retried] == clock.slept
    assert {event.reason for event in retried} == {"no network"}


async def test_retries_end() -> None:
    clock = FakeClock(instant=True)
    ends = await run(task("scan", act=gives(ERRORED, "no network"), retries=2), clock=clock)
    assert ends["scan"].status is ERRORED
    assert ends["scan"].reason == "no network"
    assert ends["scan"].attempts == 3


@pytest.mark.parametrize("status", [PASSED, FAILED, SKIPPED])
async def test_what_is_not_errored_is_never_retried(status: Status) -> None:
    ends = await run(task("unit", act=gives(status), retries=5), clock=FakeClock())
    assert ends["unit"].attempts == 1


@given(st.integers(1, 40), st.integers())
def test_a_delay_is_between_half_and_whole_and_never_above_the_ceiling(
    attempt: int, seed: int
) -> None:
    backoff = Backoff(first=1, factor=2, ceiling=60)
    whole = min(60.0, 2.0 ** (attempt - 1))
    assert whole / 2 <= backoff.delay(attempt, random.Random(seed)) <= whole


# -- stopping -------------------------------------------------------------------------------------


def three_and_a_clean_up(done: list[str], first: Act) -> list[Task[Any]]:
    async def clean_up(ends: Mapping[str, End[Any]]) -> Result[Any]:
        await anyio.lowlevel.checkpoint()
        done.append(ends["first"].status)
        return Result(PASSED)

    return [
        task("first", act=first),
        task("second", "first"),
        task("judge", "first", "second", trigger=Trigger.ENDED),
        task("clean-up", "first", act=clean_up, trigger=Trigger.ALWAYS, timeout=60),
        task("after", "clean-up"),
    ]


STOPPED = {
    "after": CANCELLED,
    "clean-up": PASSED,
    "first": CANCELLED,
    "judge": CANCELLED,
    "second": CANCELLED,
}


async def test_a_stop_interrupts_what_runs_cleans_up_and_returns() -> None:
    stop, done = Stop(), list[str]()

    async def first(_: Mapping[str, End[Any]]) -> Result[Any]:
        stop("interrupted by Ctrl-C")
        stop("again")
        await anyio.sleep_forever()
        return Result(PASSED)

    ends = await run(*three_and_a_clean_up(done, first), stop=stop, clock=FakeClock())
    assert {name: ends[name].status for name in sorted(ends)} == STOPPED
    assert ends["first"].reason == "interrupted by Ctrl-C"
    assert ends["second"].reason == "interrupted by Ctrl-C"
    assert done == [CANCELLED]


async def test_a_stop_before_the_run_lets_only_clean_up_run() -> None:
    stop, done = Stop(), list[str]()
    stop("never mind")
    ends = await run(*three_and_a_clean_up(done, gives(PASSED)), stop=stop, clock=FakeClock())
    assert {name: ends[name].status for name in sorted(ends)} == STOPPED
    assert ends["first"].attempts == 0


@pytest.mark.parametrize("native", [True, False])
async def test_a_cancellation_cleans_up_ends_every_task_and_is_raised(*, native: bool) -> None:
    done: list[str] = []
    began = anyio.Event()

    async def first(_: Mapping[str, End[Any]]) -> Result[Any]:
        began.set()
        await anyio.sleep_forever()
        return Result(PASSED)

    scheduler = Scheduler(three_and_a_clean_up(done, first), concurrency=2, clock=FakeClock())
    if native:
        running = asyncio.ensure_future(scheduler.run())
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    else:
        returned = False
        async with anyio.create_task_group() as group:

            async def host() -> None:
                nonlocal returned
                await scheduler.run()
                returned = True

            group.start_soon(host)
            await began.wait()
            group.cancel_scope.cancel()
        assert not returned
    assert {name: scheduler.ends[name].status for name in sorted(scheduler.ends)} == STOPPED
    assert done == [CANCELLED]


async def test_a_clean_up_that_runs_is_not_interrupted_but_its_time_is_bounded() -> None:
    clock, stop = FakeClock(), Stop()

    async def hangs(_: Mapping[str, End[Any]]) -> Result[Any]:
        stop("interrupted")
        await anyio.sleep_forever()
        return Result(PASSED)

    async with anyio.create_task_group() as group:

        async def move() -> None:
            await clock.wait_sleeping()
            clock.advance(60)

        group.start_soon(move)
        ends = await run(
            task("clean-up", act=hangs, trigger=Trigger.ALWAYS, timeout=60),
            task("after", "clean-up"),
            stop=stop,
            clock=clock,
        )
    assert ends["clean-up"].reason == "timed out after 60 s"
    assert ends["after"].reason == "interrupted"


async def test_a_stop_during_a_backoff_keeps_the_error() -> None:
    clock, stop = FakeClock(), Stop()
    async with anyio.create_task_group() as group:

        async def interrupt() -> None:
            await clock.wait_sleeping()
            stop("interrupted")

        group.start_soon(interrupt)
        ends = await run(
            task("scan", act=gives(ERRORED, "no network"), retries=3), stop=stop, clock=clock
        )
    assert (ends["scan"].status, ends["scan"].reason) == (ERRORED, "no network")


@pytest.mark.parametrize("status", [FAILED, ERRORED])
async def test_fail_fast_stops_at_the_first(status: Status) -> None:
    ends = await run(
        task("slow", act=hang),
        task("lint", act=gives(status)),
        task("waits", "slow"),
        task("clean-up", "slow", trigger=Trigger.ALWAYS, timeout=60),
        fail_fast=True,
        clock=FakeClock(),
    )
    assert {name: end.status for name, end in ends.items()} == {
        "lint": status,
        "slow": CANCELLED,
        "waits": CANCELLED,
        "clean-up": PASSED,
    }
    assert ends["waits"].reason == f"lint {status}, and the run stops at the first"


async def test_fail_fast_lets_skips_be() -> None:
    assert await statuses(task("a", act=gives(SKIPPED)), task("b", "a"), fail_fast=True) == {
        "a": SKIPPED,
        "b": PASSED,
    }


# -- for any graph --------------------------------------------------------------------------------


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Task[Any]], int, bool, int | None]:
    tasks = []
    for number in range(draw(st.integers(0, 10))):
        names = [f"n{before}" for before in range(number)]
        needs = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        status = draw(st.sampled_from([PASSED, PASSED, FAILED, ERRORED, SKIPPED]))
        trigger = draw(st.sampled_from(Trigger))
        tasks.append(
            task(
                f"n{number}",
                *(Need(name, required=draw(st.booleans())) for name in needs),
                act=gives(status),
                trigger=trigger,
                timeout=5 if trigger is Trigger.ALWAYS else None,
            )
        )
    stop_at = draw(st.none() | st.integers(0, 10))
    return tasks, draw(st.integers(1, 4)), draw(st.booleans()), stop_at


@given(runs())
def test_every_task_ends_once_and_none_begins_before_what_it_needs(
    case: tuple[list[Task[Any]], int, bool, int | None],
) -> None:
    tasks, concurrency, fail_fast, stop_at = case
    events: list[Event] = []
    stop = Stop()

    def emit(event: Event) -> None:
        events.append(event)
        if len(events) == stop_at:
            stop("interrupted")

    async def main() -> Mapping[str, End[Any]]:
        scheduler = Scheduler(
            tasks, concurrency=concurrency, fail_fast=fail_fast, emit=emit, clock=FakeClock()
        )
        return await scheduler.run(stop)

    ends = anyio.run(main)
    check_order(tasks, events)
    for one in tasks:
        check_end(one, ends)


def check_order(tasks: list[Task[Any]], events: list[Event]) -> None:
    needs = {one.name: {need.name for need in one.needs} for one in tasks}
    ended: list[str] = []
    for event in events:
        if isinstance(event, NodeStarted):
            assert needs[event.node] <= set(ended)
        if isinstance(event, NodeFinished):
            ended.append(event.node)
    assert sorted(ended) == sorted(needs)


def check_end(one: Task[Any], ends: Mapping[str, End[Any]]) -> None:
    end = ends[one.name]
    if one.trigger is Trigger.ALWAYS:
        assert end.status is not CANCELLED
    if one.trigger is Trigger.PASSED and end.attempts:
        assert all(ends[need.name].status in {PASSED, SKIPPED} for need in one.needs)
    if end.status is not PASSED and not end.attempts:
        assert end.reason
