"""Health checks: when they are made, which failures count, and when it is too late."""

from __future__ import annotations

import pytest

from ci.engine.vertices.health import HealthTiming, NeverHealthy, wait_answering, wait_passing
from tests.fake_clock import FakeClock


class Service:
    """Is healthy from a time on; knows when it was asked."""

    def __init__(self, clock: FakeClock, *, healthy_at: float = float("inf")) -> None:
        self.asked: list[float] = []
        self._clock = clock
        self._healthy_at = healthy_at

    async def __call__(self) -> str:
        now = round(self._clock.monotonic(), 3)
        self.asked.append(now)
        return "" if now >= self._healthy_at else "it is ill"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(instant=True)


async def test_the_first_check_is_made_at_once(clock):
    service = Service(clock, healthy_at=0)
    await wait_passing(service, timing=HealthTiming(interval=30), clock=clock)
    assert (service.asked, clock.slept) == ([0], [])


async def test_checks_are_an_interval_apart(clock):
    service = Service(clock, healthy_at=12)
    await wait_passing(service, timing=HealthTiming(interval=5, retries=9), clock=clock)
    assert service.asked == [0, 5, 10, 15]


async def test_as_many_failures_in_a_row_as_retries_are_too_many(clock):
    service = Service(clock)
    with pytest.raises(NeverHealthy, match="failed 3 health checks in a row: it is ill"):
        await wait_passing(service, timing=HealthTiming(interval=5), clock=clock)
    assert service.asked == [0, 5, 10]


async def test_failures_of_the_start_period_do_not_count(clock):
    timing = HealthTiming(interval=10, start_period=20, start_interval=4, retries=2)
    service = Service(clock)
    with pytest.raises(NeverHealthy):
        await wait_passing(service, timing=timing, clock=clock)
    assert service.asked == [0, 4, 8, 12, 16, 20, 30]


async def test_a_check_that_passes_in_the_start_period_is_enough(clock):
    timing = HealthTiming(interval=60, start_period=100)
    service = Service(clock, healthy_at=7)
    await wait_passing(service, timing=timing, clock=clock)
    assert service.asked == [0, 5, 10]


async def test_without_an_interval_checks_are_soon_and_patience_is_dockers(clock):
    service = Service(clock, healthy_at=80)
    await wait_passing(service, timing=HealthTiming(), clock=clock)
    assert max(clock.slept) <= 0.25
    ill = Service(clock)
    started = clock.monotonic()
    with pytest.raises(NeverHealthy, match="is not healthy after 100 s"):
        await wait_passing(ill, timing=HealthTiming(start_period=10), clock=clock)
    assert clock.monotonic() - started == pytest.approx(100, abs=0.5)


async def test_ports_are_dialled_until_patience_ends(clock):
    await wait_answering(Service(clock, healthy_at=2), patience=3, clock=clock)
    with pytest.raises(NeverHealthy, match="is not healthy after 3 s: it is ill"):
        await wait_answering(Service(clock), patience=3, clock=clock)
