"""What happens in a run, as frozen values: one event a value, dotted past-tense names.

A sink is any function that takes an event. Sinks are called in the order given, one at a time,
in the thread that the event happened in, and must be quick; the terminal, the log and ``--json``
are sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Annotated, Literal, TypeAlias

import structlog
from pydantic import AwareDatetime, Field, TypeAdapter

from ci.values import Outcome, Status, Value, Verdict

__all__ = [
    "DeliveryMoved",
    "EngineEvent",
    "Event",
    "ExecFinished",
    "ExecStarted",
    "Feed",
    "ImageAwaited",
    "Kind",
    "NodeFinished",
    "NodeOutput",
    "NodePlan",
    "NodeRetried",
    "NodeStarted",
    "Reported",
    "RunFinished",
    "RunStarted",
    "Sink",
    "Sinks",
    "VerdictReached",
    "parse",
]

#: What a node of the graph is.
Kind = Literal["stage", "gate", "delivery", "cleanup"]


class Happening(Value):
    """Base of the events: when it happened, in UTC."""

    at: AwareDatetime

    def to_json(self) -> str:
        """One line of JSON; ``parse`` reads it back."""
        return self.model_dump_json()


class NodePlan(Value):
    """A node of the graph as it stands before the run."""

    name: str
    kind: Kind = "stage"
    needs: tuple[str, ...] = ()


class RunStarted(Happening):
    """The graph is known and nothing has run yet."""

    event: Literal["run.started"] = "run.started"
    run: str
    pipeline: str
    #: In the order of the graph: a node stands after all that it needs.
    nodes: tuple[NodePlan, ...] = ()


class NodeStarted(Happening):
    """A node began; ``attempt`` counts from 1."""

    event: Literal["node.started"] = "node.started"
    node: str
    attempt: int = 1


class NodeRetried(Happening):
    """A node errored and will begin again after ``delay`` seconds."""

    event: Literal["node.retried"] = "node.retried"
    node: str
    #: The one that errored, from 1.
    attempt: int
    delay: float
    reason: str


class NodeOutput(Happening):
    """A command that a node runs wrote this line."""

    event: Literal["node.output"] = "node.output"
    #: Empty as an engine sends it: the run finds it by ``trace``.
    node: str = ""
    text: str
    stream: Literal["stdout", "stderr"] = "stdout"
    #: The ``traceparent`` header of the request that caused it; see ``Feed``.
    trace: str = ""


class ImageAwaited(Happening):
    """An engine began to get an image: it is pulled, or made, or in the store already."""

    event: Literal["image.awaited"] = "image.awaited"
    #: Empty as an engine sends it: the run finds it by ``trace``.
    node: str = ""
    #: As the pipeline names it.
    address: str
    trace: str = ""


class ExecStarted(Happening):
    """An engine began a command, or found it in its cache."""

    event: Literal["exec.started"] = "exec.started"
    #: Empty as an engine sends it: the run finds it by ``trace``.
    node: str = ""
    #: The same in the ``ExecFinished`` that follows.
    exec: str
    command: tuple[str, ...] = ()
    trace: str = ""


class ExecFinished(Happening):
    """An engine ended a command; ``exit_code`` is None where it never ran to its end."""

    event: Literal["exec.finished"] = "exec.finished"
    #: Empty as an engine sends it: the run finds it by ``trace``.
    node: str = ""
    exec: str
    command: tuple[str, ...] = ()
    cached: bool = False
    seconds: float = 0.0
    exit_code: int | None = None
    trace: str = ""


class NodeFinished(Happening):
    """A node ended, or will never begin. Every node of ``RunStarted`` gets exactly one."""

    event: Literal["node.finished"] = "node.finished"
    node: str
    status: Status
    #: 0 where it never began.
    seconds: float = 0.0
    attempts: int = 0
    #: Why it did not pass, or was skipped.
    reason: str = ""
    #: The evidence's line.
    summary: str = ""
    #: Tail of the output, where it did not pass.
    log: str = ""
    execs: int = 0
    cached_execs: int = 0

    @property
    def cached(self) -> bool:
        """It ran commands, and every one came from the cache."""
        return self.execs > 0 and self.cached_execs == self.execs


class VerdictReached(Happening):
    """A gate judged."""

    event: Literal["verdict.reached"] = "verdict.reached"
    verdict: Verdict


class DeliveryMoved(Happening):
    """A delivery took a step, or ``ended``.

    Of the local target the steps are ``converging`` (services of the environment come up),
    ``unpacking`` (the image), and the phases of ``ci.deploy.rollout``: ``preparing``, ``starting``,
    ``awaiting``, ``checking``, ``shifting`` ... on the way back ``restoring``, ``returning`` ...
    """

    event: Literal["delivery.moved"] = "delivery.moved"
    environment: str
    step: str
    outcome: Outcome | None = None
    #: Version of the release that moves.
    version: str = ""
    url: str = ""
    reason: str = ""


class RunFinished(Happening):
    """Every node has ended."""

    event: Literal["run.finished"] = "run.finished"
    run: str
    outcome: Outcome
    exit_code: int
    seconds: float
    reason: str = ""


Event: TypeAlias = (
    RunStarted
    | NodeStarted
    | NodeRetried
    | NodeOutput
    | ImageAwaited
    | ExecStarted
    | ExecFinished
    | NodeFinished
    | VerdictReached
    | DeliveryMoved
    | RunFinished
)
EngineEvent: TypeAlias = NodeOutput | ImageAwaited | ExecStarted | ExecFinished
#: What comes from below a run, by its feed.
Reported: TypeAlias = EngineEvent | DeliveryMoved

Sink: TypeAlias = Callable[[Event], None]

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
_log = structlog.get_logger()


def parse(line: str) -> Event:
    """The event that ``to_json`` wrote.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _EVENT.validate_json(line)


class Sinks:
    """Several sinks as one. A sink that raises is told of once and not called again."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._sinks = list(sinks)
        self._lock = RLock()

    def __call__(self, event: Event) -> None:
        """Hand it to each."""
        with self._lock:
            for sink in tuple(self._sinks):
                try:
                    sink(event)
                except Exception as error:  # noqa: BLE001 - it must not end a delivery
                    self._sinks.remove(sink)
                    _log.warning(
                        "sink.failed", sink=repr(sink), event_name=event.event, error=error
                    )


class Feed:
    """Where engines and deliveries put their events, and a run takes them from.

    It is made before both: the session gets it as its ``on_event``, ``Pipeline.run`` as ``feed``.
    An engine names the cause of an event by the ``traceparent`` header of the request that asked
    for the value; the run knows which node each belongs to. It may be called from any thread.
    What nobody listens to is dropped.
    """

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Reported], None], ...] = ()

    def __call__(self, event: Reported) -> None:
        """Hand it to who listens."""
        for listener in self._listeners:
            listener(event)

    @contextmanager
    def listening(self, listener: Callable[[Reported], None]) -> Iterator[None]:
        """Within the context, ``listener`` gets every event."""
        self._listeners += (listener,)
        try:
            yield
        finally:
            self._listeners = tuple(one for one in self._listeners if one is not listener)
