"""One execution of a pipeline: nodes to tasks, ends to events and to the record."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from importlib import metadata
from threading import Lock
from types import MappingProxyType
from typing import Any

import anyio

from ci import exits
from ci.clock import Clock, SystemClock
from ci.events import (
    DeliveryMoved,
    Event,
    ExecFinished,
    Feed,
    NodeFinished,
    NodePlan,
    Reported,
    RunFinished,
    RunStarted,
    Sink,
    Sinks,
    VerdictReached,
)
from ci.flow.node import Ends, Node
from ci.flow.product import Product, from_error
from ci.flow.run import Run, exit_code_of, judge
from ci.flow.trace import Spans
from ci.records.run import (
    CommandRecord,
    EngineRecord,
    NodeKind,
    NodeRecord,
    RunRecord,
    SourceRecord,
    new_run_id,
)
from ci.records.summary import shown
from ci.scheduler import INTERRUPTED, End, Need, Result, Scheduler, Stop, Task, Trigger
from ci.sharing import sharing
from ci.values import Outcome, Status, Verdict

__all__ = ["Execution", "Step"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node as it was declared."""

    node: Node[Any]
    action: Callable[[Ends], Awaitable[Product]]
    needs: tuple[Need, ...]
    trigger: Trigger
    timeout: float
    retries: int
    urgent: bool = False
    #: Of a gate: whose evidence it judges.
    judges: tuple[str, ...] = ()

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of what it waits for."""
        return tuple(need.name for need in self.needs)

    @property
    def plan(self) -> NodePlan:
        """The node as events tell it."""
        return NodePlan(name=self.node.name, kind=self.node.kind, needs=self.needed)

    def among(self, names: AbstractSet[str]) -> Step:
        """The node without its edges to others than these."""
        return replace(self, needs=tuple(need for need in self.needs if need.name in names))


class Execution:
    """Runs the steps once. See ``Pipeline.run`` for the arguments."""

    def __init__(
        self,
        *,
        pipeline: str,
        steps: Mapping[str, Step],
        asked: tuple[str, ...] = (),
        skip: AbstractSet[str] = frozenset(),
        fail_fast: bool = False,
        concurrency: int = 0,
        on_event: Sequence[Sink] = (),
        feed: Feed | None = None,
        source: SourceRecord | None = None,
        engine: EngineRecord | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._steps = steps
        self._asked = asked
        self._judges = {name: step.judges for name, step in steps.items()}
        self._feed = feed or Feed()
        self._source = source or SourceRecord()
        self._engine = engine or EngineRecord(kind="dagger")
        self._clock = clock or SystemClock()
        self._sinks = Sinks(on_event)
        self._spans = Spans()
        self._lock = Lock()
        self._commands: defaultdict[str, list[CommandRecord]] = defaultdict(list)
        self._scheduler = Scheduler[Product](
            [self._task(step) for step in steps.values()],
            concurrency=concurrency or max(2, os.cpu_count() or 1),
            skip={name: "it was asked to be skipped" for name in steps if name in skip},
            fail_fast=fail_fast,
            emit=self._emit,
            clock=self._clock,
        )

    async def run(self, stop: Stop | None = None) -> Run:
        """All of it. A cancellation is raised once clean-up is done and told of."""
        stop = stop or Stop()
        self._started_at, self._began = self._clock.now(), self._clock.monotonic()
        self._id = new_run_id(self._started_at)
        order = self._scheduler.graph.order
        self._emit(
            RunStarted(
                at=self._started_at,
                run=self._id,
                pipeline=self._pipeline,
                nodes=tuple(self._steps[name].plan for name in order),
            )
        )
        try:
            with self._feed.listening(self._from_engine), sharing():
                ends = await self._scheduler.run(stop)
        except anyio.get_cancelled_exc_class():
            self._conclude(INTERRUPTED)
            raise
        lost = any(
            end.status is Status.CANCELLED and end.reason == stop.reason for end in ends.values()
        )
        return self._conclude(stop.reason if lost else "")

    # -- nodes to tasks ---------------------------------------------------------------------------

    def _task(self, step: Step) -> Task[Product]:
        async def act(ends: Ends) -> Result[Product]:
            with self._spans.span(step.node.name):
                product = await self._product(step, ends)
            return Result(product.status, product, product.reason)

        return Task(
            name=step.node.name,
            action=act,
            needs=step.needs,
            trigger=step.trigger,
            timeout=step.timeout,
            retries=step.retries,
            urgent=step.urgent,
        )

    async def _product(self, step: Step, ends: Ends) -> Product:
        try:
            product = await step.action(ends)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is how the node ended
            product = from_error(step.node.name, error)
            if step.node.kind == "gate":
                reasons = (product.reason,)
                verdict = Verdict(gate=step.node.name, outcome=Outcome.ERRORED, reasons=reasons)
                product = replace(product, evidence=None, verdict=verdict)
        if product.verdict is not None:
            self._emit(VerdictReached(at=self._clock.now(), verdict=product.verdict))
        if product.delivery is not None:
            record = product.delivery
            self._emit(
                DeliveryMoved(
                    at=self._clock.now(),
                    environment=record.environment,
                    step="ended",
                    outcome=record.outcome,
                    version=record.release.version if record.release else "",
                    url=record.url,
                    reason=record.reason,
                )
            )
        return product

    # -- events -----------------------------------------------------------------------------------

    def _from_engine(self, event: Reported) -> None:
        if isinstance(event, DeliveryMoved):
            self._sinks(event)
            return
        node = event.node or self._spans.node(event.trace)
        if isinstance(event, ExecFinished):
            ended = CommandRecord(
                args=event.command,
                cached=event.cached,
                seconds=event.seconds,
                exit_code=event.exit_code,
            )
            with self._lock:
                self._commands[node].append(ended)
        self._sinks(event.model_copy(update={"node": node}))

    def _emit(self, event: Event) -> None:
        if isinstance(event, NodeFinished):
            product = self._scheduler.ends[event.node].value
            evidence = product.evidence if product else None
            event = event.model_copy(
                update={
                    "summary": evidence.summary if evidence else "",
                    "log": shown(evidence)
                    if evidence and event.status is not Status.PASSED
                    else "",
                    "execs": len(self._commands[event.node]),
                    "cached_execs": sum(one.cached for one in self._commands[event.node]),
                }
            )
        self._sinks(event)

    # -- the end ----------------------------------------------------------------------------------

    def _conclude(self, interrupted: str) -> Run:
        by_name = {name: self._scheduler.ends[name] for name in self._scheduler.graph.order}
        ends = by_name.values()
        products = [end.value for end in ends if end.value is not None]
        verdict = judge(self._pipeline, by_name, self._judges, interrupted)
        finished_at = self._clock.now()
        record = RunRecord(
            id=self._id,
            pipeline=self._pipeline,
            started_at=self._started_at,
            finished_at=finished_at,
            towpath=_version(),
            source=self._source,
            engine=self._engine,
            nodes=tuple(self._record(end) for end in ends),
            verdicts=tuple(one.verdict for one in products if one.verdict),
            deliveries=tuple(one.delivery for one in products if one.delivery),
            outcome=verdict.outcome,
            reason=interrupted or (f"only {', '.join(self._asked)}" if self._asked else ""),
            exit_code=exits.INTERRUPTED if interrupted else exit_code_of(verdict.outcome),
        )
        self._sinks(
            RunFinished(
                at=finished_at,
                run=record.id,
                outcome=record.outcome,
                exit_code=record.exit_code,
                seconds=self._clock.monotonic() - self._began,
                reason=record.reason,
            )
        )
        reports = {path: text for one in products for path, text in one.reports.items()}
        return Run(record=record, verdict=verdict, reports=MappingProxyType(reports))

    def _record(self, end: End[Product]) -> NodeRecord:
        step = self._steps[end.name]
        return NodeRecord(
            name=end.name,
            kind=NodeKind(step.node.kind),
            needs=step.needed,
            status=end.status,
            started_at=end.started_at,
            finished_at=end.finished_at,
            attempts=end.attempts,
            execs=len(self._commands[end.name]),
            cached_execs=sum(one.cached for one in self._commands[end.name]),
            commands=tuple(self._commands[end.name]),
            reason=end.reason,
            evidence=end.value.evidence if end.value else None,
            reports=tuple(end.value.reports) if end.value else (),
        )


def _version() -> str:
    try:
        return metadata.version("towpath")
    except metadata.PackageNotFoundError:
        return ""
