"""The local target, with real processes, supervisord and Caddy."""

import pytest

from ci.deploy.targets.local.folder import Folder, KeptRelease
from ci.deploy.targets.local.site import Site
from ci.errors import StageFailed
from ci.events import DeliveryMoved
from ci.values import Outcome
from tests.delivery.running import version_at


async def test_a_first_delivery_answers_at_the_environments_port(delivery, spec, archives):
    record = await delivery.deploy(spec, *archives("1.0.0"))
    assert record.outcome is Outcome.PASSED, record.reason
    assert record.previous is None
    assert record.url == f"http://127.0.0.1:{spec.port}"
    assert await version_at(record.url) == "1.0.0"


async def test_the_steps_of_a_delivery_are_told_as_they_are_taken(delivery, spec, archives):
    told: list[DeliveryMoved] = []
    delivery.moved = told.append
    await delivery.deploy(spec, *archives("1.0.0"))
    assert {(each.environment, each.version) for each in told} == {("development", "1.0.0")}
    steps = [each.step for each in told]
    assert steps[:4] == ["converging", "unpacking", "preparing", "starting"]
    assert steps.index("checking") < steps.index("shifting") < steps.index("confirming")


async def test_a_second_release_takes_over_and_the_first_one_ends(delivery, spec, archives, ledger):
    first = await delivery.deploy(spec, *archives("1.0.0"))
    second = await delivery.deploy(spec, *archives("1.1.0"))
    assert (first.outcome, second.outcome) == (Outcome.PASSED, Outcome.PASSED)
    assert second.previous
    assert second.previous.version == "1.0.0"
    assert await version_at(second.url) == "1.1.0"
    assert ledger == [first, second]
    (status,) = await delivery.environments()
    assert (status.healthy, status.running) == (True, True)
    assert status.release
    assert status.release.version == "1.1.0"


async def test_a_smoke_failure_after_the_switch_returns_to_the_old_release(
    delivery, spec, archives
):
    await delivery.deploy(spec, *archives("1.0.0"))

    async def smoke(url: str) -> None:
        if url.endswith(str(spec.port)):
            raise StageFailed("smoke", got="a wrong answer")

    record = await delivery.deploy(spec, *archives("1.1.0"), smoke=smoke)
    assert (record.outcome, record.rolled_back) == (Outcome.FAILED, True)
    assert "a wrong answer" in record.reason
    assert await version_at(record.url) == "1.0.0"


@pytest.mark.parametrize("fault", ["unready", "crash", "other-version"])
async def test_a_release_that_is_not_ready_never_gets_traffic(delivery, spec, archives, fault):
    await delivery.deploy(spec, *archives("1.0.0"))
    checks = spec.checks.model_copy(update={"ready_deadline": 2})
    broken = spec.model_copy(update={"env": {"FAULT": fault}, "checks": checks})
    record = await delivery.deploy(broken, *archives("1.1.0"))
    assert (record.outcome, record.rolled_back) == (Outcome.FAILED, False)
    assert await version_at(record.url) == "1.0.0"


async def test_rollback_restores_the_last_good_release(delivery, spec, archives):
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        assert (await delivery.deploy(spec, *archives(version))).outcome is Outcome.PASSED
    first = await delivery.rollback("shop", "development")
    assert await version_at(first.url) == "1.1.0"
    second = await delivery.rollback("shop", "development")
    assert await version_at(second.url) == "1.0.0"


async def test_weights_share_requests_exactly_and_change_without_a_reload(delivery, spec, archives):
    """What a canary will need: 5 percent are one request in twenty."""
    await delivery.deploy(spec, *archives("1.0.0"))
    folder = Folder(delivery.state / "environments" / spec.project / spec.name)
    site = Site(
        folder,
        spec,
        state=delivery.state,
        runtime=delivery.runtime,
        clock=delivery.clock,
        smoke=None,
    )
    (old,) = folder.all_instances()
    release, archive = archives("1.1.0")
    kept = KeptRelease(key="canary", release=release)
    site.keep(kept, {})
    await site.images.ensure(release.digest, archive)
    new = site.new_instance(kept, migrate=False)
    await site.target.deploy(new.instance)
    await site.conductor.wait_ready(new.instance)
    url = f"http://127.0.0.1:{spec.port}"
    for share in (5, 50):
        await site.router.shift({new.instance.name: share, old.instance.name: 100 - share})
        versions = [await version_at(url) for _ in range(40)]
        assert versions.count("1.1.0") == 40 * share // 100
