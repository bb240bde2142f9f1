from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ci.deploy.conductor import Checks
from ci.deploy.environment import EnvironmentSpec
from ci.deploy.targets.local.delivery import LocalDelivery
from ci.deploy.targets.local.ports import Ports
from ci.values import DeliveryRecord, Release
from tests.delivery.plain import PlainRuntime, service

#: Everything as in production but for the waiting.
CHECKS = Checks(ready_deadline=10, probe_deadline=5, drain_deadline=5, interval=0.02)


@pytest.fixture
def archives(tmp_path_factory) -> Callable[[str], tuple[Release, Path]]:
    folder = tmp_path_factory.mktemp("archives")
    return lambda version: service(folder, version)


@pytest.fixture
def ledger() -> list[DeliveryRecord]:
    return []


@pytest.fixture
async def delivery(tmp_path, ledger) -> AsyncIterator[LocalDelivery]:
    local = LocalDelivery(PlainRuntime(), state=tmp_path / "state", ledger=ledger.append)
    yield local
    for status in await local.environments():
        await local.stop(status.project, status.name)


@pytest.fixture
def spec(tmp_path) -> EnvironmentSpec:
    return EnvironmentSpec(
        project="shop",
        name="development",
        port=Ports(tmp_path / "ports").reserve(tmp_path / "front"),
        checks=CHECKS,
        stop_deadline=5,
    )
