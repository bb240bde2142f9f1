"""Tasks as values: what a node does, when, how often, and how it ended."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from ci.errors import ConfigError
from ci.values import Status

__all__ = ["Action", "Backoff", "End", "Need", "Result", "Task", "Trigger"]

T = TypeVar("T")


class Trigger(StrEnum):
    """When a task may begin, once all that it needs has ended."""

    #: All of it passed, or was skipped where only the order matters.
    PASSED = "passed"
    #: However it ended: gates and reports.
    ENDED = "ended"
    #: However it ended, and also when the run is stopped, which does not interrupt it: clean-up.
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Need:
    """An edge. Where the need was skipped, a ``required`` one hands the skip on."""

    name: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """What one attempt of a task came to."""

    status: Status
    value: T | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Generic[T]):
    """How a task ended. The times are None, and attempts 0, where it never began."""

    name: str
    status: Status
    value: T | None = None
    reason: str = ""
    #: The task whose end is the cause of this one's; itself where it is its own.
    culprit: str
    attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float = 0.0


#: Takes the ends so far, those of all needs among them. May raise: the task is then errored.
Action: TypeAlias = Callable[[Mapping[str, End[T]]], Awaitable[Result[T]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[T]):
    """A node of the graph. ``timeout`` is in seconds, for each attempt.

    ``retries`` is how often it is begun again after it errored; what failed is never retried.
    A task that always runs needs a timeout: nothing else ends it. Where there is not room for all
    that are ready, an ``urgent`` one is begun before the others.
    """

    name: str
    action: Action[T]
    needs: tuple[Need, ...] = ()
    trigger: Trigger = Trigger.PASSED
    timeout: float | None = None
    retries: int = 0
    urgent: bool = False

    def __post_init__(self) -> None:
        if self.trigger is Trigger.ALWAYS and self.timeout is None:
            raise ConfigError(f"{self.name}: clean-up without a timeout", expected="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with equal jitter: half of each delay is certain, half is random.

    Times are in seconds. Source: M. Brooker, "Exponential Backoff And Jitter", 2015.
    """

    first: float = 1.0
    factor: float = 2.0
    ceiling: float = 60.0

    def delay(self, attempt: int, rng: random.Random) -> float:
        """How long to wait after that attempt, counted from 1."""
        whole = min(self.ceiling, self.first * self.factor ** (attempt - 1))
        return whole / 2 + rng.uniform(0, whole / 2)
