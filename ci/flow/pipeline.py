"""A pipeline: nodes that are declared one after another, whose arguments make the edges."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, overload

from ci.clock import Clock
from ci.errors import ConfigError, StageErrored
from ci.events import Feed, Kind, NodePlan, Sink
from ci.flow.execution import Execution, Step
from ci.flow.node import Ends, Input, Node, inputs_in, resolve
from ci.flow.product import Product, evidence_of, from_delivery, from_value, from_verdict
from ci.flow.run import Run
from ci.gates.protocol import Gate
from ci.graph import Graph, nearest
from ci.records.run import EngineRecord, SourceRecord
from ci.scheduler import Need, Stop, Trigger
from ci.values import DeliveryRecord, Evidence, Output, Verdict

__all__ = ["Pipeline"]

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")

#: What of the returned value is kept, by kind of node.
_Keep = Callable[[str, object], Product]


class Pipeline:
    """Stages, gates, deliveries and clean-up, and the edges between them.

    Nothing runs before ``run``. What is wrong with a declaration is told where it is made: a name
    that is taken, arguments that the function does not take.

    Timeouts are in seconds and for each attempt.
    """

    def __init__(self, name: str) -> None:
        self.name = _checked(name)
        self._steps: dict[str, Step] = {}

    # -- what a pipeline is made of -------------------------------------------------------------

    @overload
    def stage(
        self,
        name: str,
        function: Callable[..., Awaitable[Output[T]]],
        *args: Any,
        after: Iterable[Node[Any]] = (),
        timeout: float = 600.0,
        retries: int = 0,
        urgent: bool = False,
        when: Trigger = Trigger.PASSED,
        **kwargs: Any,
    ) -> Node[T]: ...

    @overload
    def stage(
        self,
        name: str,
        function: Callable[..., Awaitable[Evidence | None]],
        *args: Any,
        after: Iterable[Node[Any]] = (),
        timeout: float = 600.0,
        retries: int = 0,
        urgent: bool = False,
        when: Trigger = Trigger.PASSED,
        **kwargs: Any,
    ) -> Node[None]: ...

    @overload
    def stage(
        self,
        name: str,
        function: Callable[..., Awaitable[T]],
        *args: Any,
        after: Iterable[Node[Any]] = (),
        timeout: float = 600.0,
        retries: int = 0,
        urgent: bool = False,
        when: Trigger = Trigger.PASSED,
        **kwargs: Any,
    ) -> Node[T]: ...

    def stage(
        self,
        name: str,
        function: Callable[..., Awaitable[Any]],
        *args: Any,
        after: Iterable[Node[Any]] = (),
        timeout: float = 600.0,
        retries: int = 0,
        urgent: bool = False,
        when: Trigger = Trigger.PASSED,
        **kwargs: Any,
    ) -> Node[Any]:
        """A stage: ``await function(*args, **kwargs)``, where a Node stands for what it makes.

        The function returns an ``Output``, ``Evidence``, nothing, or any other value, which then
        is what it made. It raises StageSkipped, StageFailed or StageErrored; whatever else it
        raises is errored, and of a command that failed the output is kept. It is begun when all
        that it needs has passed, or at least ended where ``when`` says so. An errored one is
        begun again ``retries`` times. Where there is not room for all stages that could begin, an
        ``urgent`` one does before the others: one that much waits for.

        Raises:
            ConfigError: the name is taken or no name, or the arguments do not fit the function.
        """
        action = self._call(name, function, args, kwargs, from_value)
        return self._add(
            "stage", name, action, [*args, *kwargs.values()], after,
            trigger=when, timeout=timeout, retries=retries, urgent=urgent,
        )  # fmt: skip

    def gate(
        self,
        name: str,
        gate: Gate,
        inputs: Sequence[Node[Any]],
        *,
        after: Iterable[Node[Any]] = (),
    ) -> Node[Verdict]:
        """A gate, which judges the evidence of ``inputs`` once all have ended, however they did.

        What is declared after it does not run unless it passed; a gate that is skipped does not
        open.

        Raises:
            ConfigError: the name is taken or no name, or an input has no evidence.
        """
        for node in inputs:
            if node.kind == "gate":
                raise ConfigError(f"{name}: input {node.name}", got="a gate", expected="a stage")

        async def judge(ends: Ends) -> Product:
            verdict = gate.judge([evidence_of(ends[node.name]) for node in inputs])
            return from_verdict(verdict.model_copy(update={"gate": name}))

        evidence = [node.evidence for node in inputs]
        return self._add(
            "gate", name, judge, evidence, after,
            trigger=Trigger.ENDED, timeout=60.0, judges=[node.name for node in inputs],
        )  # fmt: skip

    def delivery(
        self,
        name: str,
        function: Callable[..., Awaitable[DeliveryRecord | Output[DeliveryRecord]]],
        *args: Any,
        after: Iterable[Node[Any]] = (),
        timeout: float = 1800.0,
        **kwargs: Any,
    ) -> Node[DeliveryRecord]:
        """A delivery: a stage that changes an environment and returns the record of it.

        Deliveries run one at a time in the order of declaration, and one that does not pass stops
        those that come later. They are never retried.

        Raises:
            ConfigError: the name is taken or no name, or the arguments do not fit the function.
        """
        earlier = [step.node for step in self._steps.values() if step.node.kind == "delivery"]
        action = self._call(name, function, args, kwargs, from_delivery)
        return self._add(
            "delivery", name, action, [*args, *kwargs.values()], [*after, *earlier[-1:]],
            timeout=timeout,
        )  # fmt: skip

    def cleanup(
        self,
        name: str,
        function: Callable[..., Awaitable[object]],
        *args: Any,
        after: Iterable[Node[Any]] = (),
        timeout: float = 60.0,
        **kwargs: Any,
    ) -> Node[None]:
        """A clean-up: a stage that runs however what it needs ended, and when the run is stopped.

        A stop does not interrupt it, so its time is short. Where an argument was never made it is
        skipped: there is nothing to clean up.

        Raises:
            ConfigError: the name is taken or no name, or the arguments do not fit the function.
        """
        action = self._call(name, function, args, kwargs, from_value)
        return self._add(
            "cleanup", name, action, [*args, *kwargs.values()], after,
            trigger=Trigger.ALWAYS, timeout=timeout,
        )  # fmt: skip

    # -- what can be known before it runs ---------------------------------------------------------

    @property
    def graph(self) -> Graph[str]:
        """All nodes and their edges."""
        return Graph({name: step.needed for name, step in self._steps.items()})

    @property
    def plan(self) -> tuple[NodePlan, ...]:
        """All nodes in the order of the graph."""
        return tuple(self._steps[name].plan for name in self.graph.order)

    # -- running ----------------------------------------------------------------------------------

    async def run(
        self,
        *,
        only: Collection[str] = (),
        skip: Collection[str] = (),
        fail_fast: bool = False,
        concurrency: int = 0,
        on_event: Sequence[Sink] = (),
        feed: Feed | None = None,
        stop: Stop | None = None,
        source: SourceRecord | None = None,
        engine: EngineRecord | None = None,
        clock: Clock | None = None,
    ) -> Run:
        """Run it to its end and tell all about it; what did not pass is no exception.

        Args:
            only: Run these, what they need, and the clean-up after it; nothing else.
            skip: Leave these out. What needs only their order runs, what needs what they make
                or, of a gate, that it opens, is skipped.
            fail_fast: Stop at the first node that failed or errored.
            concurrency: Nodes at once; 0 is one for each core, two at least.
            on_event: Sinks of the events, see ``ci.events``.
            feed: Where the engine puts its events.
            stop: Called, it ends the run early and soundly: what runs is interrupted, clean-up
                is done, and the record is written of what there is.
            source: Goes to the record as it is.
            engine: Goes to the record as it is.
            clock: The machine's, unless another is given.

        Raises:
            ConfigError: a name in ``only`` or ``skip`` is no node's.
        """
        self.graph.check([*only, *skip])
        return await Execution(
            pipeline=self.name,
            steps=self._selected(only),
            asked=tuple(only),
            skip=frozenset(skip),
            fail_fast=fail_fast,
            concurrency=concurrency,
            on_event=on_event,
            feed=feed,
            source=source,
            engine=engine,
            clock=clock,
        ).run(stop)

    def _selected(self, only: Collection[str]) -> Mapping[str, Step]:
        if not only:
            return MappingProxyType(self._steps)
        graph = self.graph
        kept = graph.ancestors(*only) | set(only)
        for name in graph.order:
            step = self._steps[name]
            reached = not step.needs or any(need in kept for need in step.needed)
            if step.node.kind == "cleanup" and reached:
                kept |= {name}
        return {name: step.among(kept) for name, step in self._steps.items() if name in kept}

    # -- declaring --------------------------------------------------------------------------------

    def _call(
        self,
        name: str,
        function: Callable[..., Any],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        keep: _Keep,
    ) -> Callable[[Ends], Awaitable[Product]]:
        _check_arguments(name, function, args, kwargs)

        async def call(ends: Ends) -> Product:
            awaitable = function(*resolve(tuple(args), ends), **resolve(dict(kwargs), ends))
            if not inspect.isawaitable(awaitable):
                raise StageErrored(
                    f"{name}: its function",
                    got="a plain function",
                    expected="an async function",
                    hint="declare it with `async def`",
                )
            return keep(name, await awaitable)

        return call

    def _add(
        self,
        kind: Kind,
        name: str,
        action: Callable[[Ends], Awaitable[Product]],
        arguments: Sequence[object],
        after: Iterable[Node[Any]],
        *,
        timeout: float,
        trigger: Trigger = Trigger.PASSED,
        retries: int = 0,
        urgent: bool = False,
        judges: Sequence[str] = (),
    ) -> Node[Any]:
        _checked(name)
        if name in self._steps:
            raise ConfigError(f"{self.name}: two nodes named {name}", hint="rename one")
        needs: dict[str, bool] = {}
        for given in inputs_in(list(arguments)):
            self._check_mine(name, given)
            needs[given.name] = needs.get(given.name, False) or given.part == "artifact"
        for node in after:
            self._check_mine(name, node)
            needs[node.name] = needs.get(node.name, False) or node.kind == "gate"
        node = Node[Any](name, id(self), kind=kind)
        self._steps[name] = Step(
            node=node,
            action=action,
            needs=tuple(Need(other, required=required) for other, required in needs.items()),
            trigger=trigger,
            timeout=timeout,
            retries=retries,
            urgent=urgent,
            judges=tuple(judges),
        )
        return node

    def _check_mine(self, name: str, given: Input[Any]) -> None:
        if given.pipeline != id(self):
            near = nearest(given.name, self._steps)
            raise ConfigError(
                f"{name}: {given.name} is a node of another pipeline",
                hint=f"use the {near} of {self.name}" if near else "",
            )


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "name of a node", got=repr(name), expected="small letters, digits, '.', '_' and '-'"
        )
    return name


def _check_arguments(
    name: str, function: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, object]
) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables written in C have none
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigError(f"{name}: arguments", got=str(error), expected=f"{signature}") from None
