"""One execution of a set of tasks."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from ci.clock import Clock, SystemClock
from ci.errors import ConfigError
from ci.events import NodeFinished, NodeRetried, NodeStarted, Sink, Sinks
from ci.graph import Graph
from ci.scheduler.deadlines import Deadlines
from ci.scheduler.stop import INTERRUPTED, Stop
from ci.scheduler.task import Backoff, End, Result, Task, Trigger
from ci.values import Status

__all__ = ["Scheduler"]

T = TypeVar("T")

_BAD = frozenset({Status.FAILED, Status.ERRORED, Status.CANCELLED})


class Scheduler(Generic[T]):
    """One execution of these tasks.

    ``ends`` fills up as they end, and is whole when ``run`` returns or is cancelled. ``skip``
    names tasks that are not run, with the reason; to what needs them they are skipped.

    Raises:
        ConfigError: the tasks are no graph, or concurrency is less than 1.
    """

    def __init__(
        self,
        tasks: Iterable[Task[T]],
        *,
        concurrency: int,
        skip: Mapping[str, str] = MappingProxyType({}),
        fail_fast: bool = False,
        emit: Sink | Sequence[Sink] = (),
        clock: Clock | None = None,
        rng: random.Random | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        if concurrency < 1:
            raise ConfigError("concurrency", got=str(concurrency), expected="1 or more")
        self._tasks = {task.name: task for task in tasks}
        self.graph = Graph(
            {name: [need.name for need in task.needs] for name, task in self._tasks.items()}
        )
        self.graph.check(skip)
        self._skip = skip
        self._concurrency = concurrency
        self._fail_fast = fail_fast
        self._emit = emit if callable(emit) else Sinks(emit)
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._backoff = backoff or Backoff()
        self._deadlines = Deadlines(self._clock)
        #: In the order in which they are begun, where there is not room for all.
        self._order = sorted(self.graph.order, key=lambda name: not self._tasks[name].urgent)
        self._rank = {name: number for number, name in enumerate(self._order)}
        self._waiting = {name: len(before) for name, before in self.graph.needs.items()}
        self._ready: list[int] = []
        self._running = 0
        self._stopped = ""
        self._group: TaskGroup | None = None
        self._ends: dict[str, End[T]] = {}
        #: The ends so far, in the order in which they came.
        self.ends: Mapping[str, End[T]] = MappingProxyType(self._ends)

    async def run(self, stop: Stop | None = None) -> Mapping[str, End[T]]:
        """Run all; to be called once. A cancellation is raised after clean-up has ended."""
        async with self._deadlines.watching(), anyio.create_task_group() as group:
            self._group = group
            if stop is not None:
                stop.notify(self._stop)
            self._settle(
                [self._without_run(name, Status.SKIPPED, why) for name, why in self._skip.items()]
            )
            for name, before in self.graph.needs.items():
                if not before and name not in self._ends:
                    self._settle(self._decide(self._tasks[name]))
            self._launch()
        return self.ends

    # -- ends and what follows from them; nothing here waits ------------------------------------

    def _settle(self, ends: list[End[T]]) -> None:
        """Take note of these ends and of those that follow from them."""
        if self._group is not None and self._group.cancel_scope.cancel_called:
            self._stop(INTERRUPTED)
        while ends:
            end = ends.pop()
            if end.name in self._ends:
                continue
            self._ends[end.name] = end
            self._emit(
                NodeFinished(
                    at=end.finished_at or self._clock.now(),
                    node=end.name,
                    status=end.status,
                    seconds=end.seconds,
                    attempts=end.attempts,
                    reason=end.reason,
                )
            )
            for name in self.graph.needed_by[end.name]:
                self._waiting[name] -= 1
                if self._waiting[name] == 0 and name not in self._ends:
                    ends += self._decide(self._tasks[name])
            if self._fail_fast and end.status in {Status.FAILED, Status.ERRORED}:
                self._stop(f"{end.name} {end.status}, and the run stops at the first")

    def _decide(self, task: Task[T]) -> list[End[T]]:
        """All that it needs has ended: make it ready, or say how it ends without a run."""
        if self._stopped and task.trigger is not Trigger.ALWAYS:
            return [self._without_run(task.name, Status.CANCELLED, self._stopped)]
        if task.trigger is Trigger.PASSED:
            needs = [(need, self._ends[need.name]) for need in task.needs]
            for _, end in needs:
                if end.status in _BAD:
                    return [self._cancelled_by(task, end)]
            for need, end in needs:
                if need.required and end.status is Status.SKIPPED:
                    return [self._skipped_by(task, end)]
        heapq.heappush(self._ready, self._rank[task.name])
        return []

    def _cancelled_by(self, task: Task[T], end: End[T]) -> End[T]:
        root = self._ends[end.culprit]
        reason = end.reason if root.status is Status.CANCELLED else f"{root.name} {root.status}"
        return self._without_run(task.name, Status.CANCELLED, reason, culprit=root.name)

    def _skipped_by(self, task: Task[T], end: End[T]) -> End[T]:
        root = self._ends[end.culprit]
        why = f": {root.reason.splitlines()[0]}" if root.reason else ""
        return self._without_run(
            task.name, Status.SKIPPED, f"{root.name} was skipped{why}", culprit=root.name
        )

    def _without_run(self, name: str, status: Status, reason: str, *, culprit: str = "") -> End[T]:
        return End(name=name, status=status, reason=reason, culprit=culprit or name)

    def _stop(self, reason: str) -> None:
        """Interrupt what runs, and let nothing begin but clean-up."""
        if self._stopped or self._group is None:
            return
        self._stopped = reason
        self._group.cancel_scope.cancel()
        ready = [self._tasks[self._order[rank]] for rank in self._ready]
        self._ready.clear()
        for task in ready:
            self._settle(self._decide(task))

    def _launch(self) -> None:
        """Begin what is ready, as far as there is room; first in the order first."""
        while self._ready and self._running < self._concurrency and self._group is not None:
            task = self._tasks[self._order[heapq.heappop(self._ready)]]
            self._running += 1
            self._group.start_soon(self._run, task, name=task.name)

    # -- running one task -----------------------------------------------------------------------

    async def _run(self, task: Task[T]) -> None:
        with anyio.CancelScope(shield=task.trigger is Trigger.ALWAYS):
            started_at, began = self._clock.now(), self._clock.monotonic()
            attempts = 0
            result: Result[T] = Result(Status.CANCELLED)
            try:
                while True:
                    attempts += 1
                    result = Result(Status.CANCELLED)
                    self._emit(NodeStarted(at=self._clock.now(), node=task.name, attempt=attempts))
                    result = await self._attempt(task)
                    if result.status is not Status.ERRORED or attempts > task.retries:
                        break
                    await self._back_off(task, attempts, result.reason)
            except anyio.get_cancelled_exc_class():
                self._stop(INTERRUPTED)
                raise
            finally:
                self._running -= 1
                self._settle(
                    [
                        End(
                            name=task.name,
                            status=result.status,
                            value=result.value,
                            reason=result.reason
                            or (self._stopped if result.status is Status.CANCELLED else ""),
                            culprit=task.name,
                            attempts=attempts,
                            started_at=started_at,
                            finished_at=self._clock.now(),
                            seconds=self._clock.monotonic() - began,
                        )
                    ]
                )
                self._launch()

    async def _back_off(self, task: Task[T], attempt: int, reason: str) -> None:
        delay = self._backoff.delay(attempt, self._rng)
        self._emit(
            NodeRetried(
                at=self._clock.now(), node=task.name, attempt=attempt, delay=delay, reason=reason
            )
        )
        await self._clock.sleep(delay)

    async def _attempt(self, task: Task[T]) -> Result[T]:
        """One attempt, within its time."""
        if task.timeout is None:
            return await self._act(task)
        with self._deadlines.limit(task.timeout) as deadline:
            result = await self._act(task)
            if not deadline.expired or result.status is Status.PASSED:
                return result
        return Result(Status.ERRORED, reason=f"timed out after {task.timeout:g} s")

    async def _act(self, task: Task[T]) -> Result[T]:
        """The action's result; what it raises is an errored one."""
        try:
            return await task.action(self.ends)
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == float("-inf"):
                raise
            # Not ours: something that the action awaited was cancelled behind its back.
            return Result(Status.ERRORED, reason="something that it waited for was cancelled")
        except SystemExit as error:
            return Result(Status.ERRORED, reason=f"it tried to exit the process: {error.code!r}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
            return Result(Status.ERRORED, reason=f"{type(error).__name__}: {error}")
