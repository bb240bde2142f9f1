"""Health: when a service that has just been started may be reached.

Two ways to tell: all its ports answer, or a Docker health check passes. Its timing is Docker's
(https://docs.docker.com/reference/dockerfile/#healthcheck), but for this: the first check is made
at once, and where no interval is given the check is repeated soon while the time that Docker's
default would take runs on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ci.clock import Clock

__all__ = ["DEFAULT_TIMING", "HealthTiming", "NeverHealthy", "wait_answering", "wait_passing"]

#: What is missing; empty where nothing is.
Check = Callable[[], Awaitable[str]]

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25
#: Docker's, in seconds.
_INTERVAL = 30.0
_START_INTERVAL = 5.0


class NeverHealthy(Exception):
    """It did not become healthy in time; says what was missing last."""


@dataclass(frozen=True, kw_only=True)
class HealthTiming:
    """Seconds, and how many failures in a row are too many."""

    #: Between checks; 0 is not given.
    interval: float = 0.0
    #: That one check may take.
    timeout: float = 30.0
    #: From the start, in which failures do not count.
    start_period: float = 0.0
    #: Between checks of the start period; 0 is not given.
    start_interval: float = 0.0
    retries: int = 3


DEFAULT_TIMING = HealthTiming()


async def wait_answering(check: Check, *, patience: float, clock: Clock) -> None:
    """Return when nothing is missing any more.

    Raises:
        NeverHealthy: something still is after ``patience`` seconds.
    """
    deadline = clock.monotonic() + patience
    pause = _FIRST_PAUSE
    while missing := await check():
        if clock.monotonic() >= deadline:
            raise NeverHealthy(f"is not healthy after {patience:g} s: {missing}")
        await clock.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


async def wait_passing(check: Check, *, timing: HealthTiming, clock: Clock) -> None:
    """Return when a check passes.

    Raises:
        NeverHealthy: as many in a row as ``retries`` failed after the start period.
    """
    if not timing.interval:
        patience = timing.start_period + timing.retries * _INTERVAL
        await wait_answering(check, patience=patience, clock=clock)
        return
    started = clock.monotonic()
    failures = 0
    while missing := await check():
        is_starting = clock.monotonic() - started < timing.start_period
        failures += not is_starting
        if failures >= timing.retries:
            raise NeverHealthy(f"failed {failures} health checks in a row: {missing}")
        await clock.sleep(_pause(timing, is_starting=is_starting))


def _pause(timing: HealthTiming, *, is_starting: bool) -> float:
    if not is_starting:
        return timing.interval
    return timing.start_interval or min(timing.interval, _START_INTERVAL)
