"""What a release is given: variables, secrets, migrations, backing services."""

import stat
from pathlib import Path

import pytest

from ci.deploy.environment import BackingService, EnvironmentSpec
from ci.errors import CiError, ConfigError
from ci.values import Outcome
from tests.delivery.plain import store
from tests.delivery.running import get, pid_of, processes_of, version_at

SECRET = "s3cr3t-value-of-the-token"


@pytest.fixture
def with_store(spec, tmp_path) -> EnvironmentSpec:
    digest, archive = store(tmp_path)
    service = BackingService(
        name="store",
        digest=digest,
        archive=archive,
        env={"PASSWORD": "${password}"},
        data="/data",
        ready_deadline=10,
    )
    url = "http://127.0.0.1:${store.port}/${store.password}"
    changed: EnvironmentSpec = spec.model_copy(
        update={"services": (service,), "env": {"STORE": url}}
    )
    return changed


async def test_the_same_release_with_the_same_configuration_is_not_delivered_again(
    delivery, spec, archives
):
    await delivery.deploy(spec, *archives("1.0.0"), secrets={"TOKEN": SECRET})
    pid = pid_of(delivery.state, "serve")
    record = await delivery.deploy(spec, *archives("1.0.0"), secrets={"TOKEN": SECRET})
    assert (record.outcome, record.unchanged) == (Outcome.PASSED, True)
    assert pid_of(delivery.state, "serve") == pid


async def test_a_changed_variable_or_secret_is_delivered_and_rolled_back(delivery, spec, archives):
    first = spec.model_copy(update={"env": {"GREETING": "hello ${version}"}})
    await delivery.deploy(first, *archives("1.0.0"), secrets={"TOKEN": "one"})
    second = spec.model_copy(update={"env": {"GREETING": "good day"}})
    record = await delivery.deploy(second, *archives("1.0.0"), secrets={"TOKEN": "two"})
    variables = {"GREETING": "good day", "TOKEN": "two", "STORE": None}
    assert (await get(record.url + "/variables")).json() == variables
    await delivery.rollback("shop", "development")
    variables = {"GREETING": "hello 1.0.0", "TOKEN": "one", "STORE": None}
    assert (await get(record.url + "/variables")).json() == variables


async def test_a_secret_is_only_in_private_files_and_in_no_command_line_or_message(
    delivery, spec, archives, capfd
):
    given = {"TOKEN": SECRET}
    record = await delivery.deploy(spec, *archives("1.0.0"), secrets=given)
    assert (await get(record.url + "/variables")).json()["TOKEN"] == SECRET
    for line in processes_of(delivery.state).values():
        assert SECRET not in line
    for fault in ("crash", "migration"):
        migrate = ("migrate",) if fault == "migration" else ()
        broken = spec.model_copy(update={"env": {"FAULT": fault}, "migrate": migrate})
        failed = await delivery.deploy(broken, *archives("1.1.0"), secrets=given)
        assert failed.outcome is Outcome.FAILED
        assert "token ***" in failed.reason
        assert SECRET not in failed.reason
    assert SECRET not in "".join(capfd.readouterr())
    holders = [path for path in delivery.state.rglob("*") if path.is_file() and holds(path)]
    assert {path.parent.name for path in holders} <= {"releases", "launches", "logs"}
    for path in holders:
        if path.parent.name != "logs":  # the program itself wrote it there
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for environment in delivery.state.glob("environments/*/*"):
        assert stat.S_IMODE(environment.stat().st_mode) == 0o700


def holds(path: Path) -> bool:
    return SECRET.encode() in path.read_bytes()


async def test_migrations_run_before_traffic_and_not_in_a_rollback(
    delivery, spec, archives, tmp_path
):
    done = tmp_path / "migrations"
    migrating = spec.model_copy(update={"migrate": ("migrate",), "env": {"MIGRATIONS": str(done)}})

    async def smoke(_: str) -> None:
        assert done.read_text().splitlines()[-1] == smoked

    for smoked in ("1.0.0", "1.1.0"):
        record = await delivery.deploy(migrating, *archives(smoked), smoke=smoke)
        assert record.outcome is Outcome.PASSED, record.reason
    await delivery.rollback("shop", "development")
    assert await version_at(record.url) == "1.0.0"
    assert done.read_text() == "1.0.0\n1.1.0\n"


@pytest.mark.parametrize("fault", ["migration", "slow-migration"])
async def test_a_migration_that_fails_or_hangs_keeps_the_old_release(
    delivery, spec, archives, fault
):
    record = await delivery.deploy(spec, *archives("1.0.0"))
    changes = {"migrate": ("migrate",), "env": {"FAULT": fault}, "migrate_deadline": 2}
    failed = await delivery.deploy(spec.model_copy(update=changes), *archives("1.1.0"))
    assert (failed.outcome, failed.rolled_back) == (Outcome.FAILED, False)
    assert "migration migrate" in failed.reason
    assert await version_at(record.url) == "1.0.0"
    assert not [line for line in processes_of(delivery.state).values() if "migrate" in line]


async def test_a_backing_service_is_reached_by_template_and_kept_across_releases(
    delivery, with_store, archives
):
    record = await delivery.deploy(with_store, *archives("1.0.0"))
    url = (await get(record.url + "/variables")).json()["STORE"]
    assert (await get(url)).text == "x"
    await delivery.deploy(with_store, *archives("1.1.0"))
    assert (await get(url)).text == "x", "the service was not started again"
    await delivery.stop("shop", "development")
    await delivery.deploy(with_store, *archives("1.1.0"))
    assert (await get(url)).text == "xx", "its data and its address were kept"


async def test_a_backing_service_that_does_not_listen_is_an_error_with_its_log(
    delivery, with_store, archives
):
    (service,) = with_store.services
    changes = {"ready_deadline": 1, "env": {**service.env, "FAULT": "deaf"}}
    deaf = with_store.model_copy(update={"services": (service.model_copy(update=changes),)})
    with pytest.raises(CiError, match=r"(?s)service store.*I do not listen.*service-store\.log"):
        await delivery.deploy(deaf, *archives("1.0.0"))


async def test_an_unknown_name_in_a_template_is_a_usage_error_before_anything_moves(
    delivery, spec, archives
):
    record = await delivery.deploy(spec, *archives("1.0.0"))
    wrong = spec.model_copy(update={"env": {"STORE": "${database.port}"}})
    with pytest.raises(ConfigError, match=r"database\.port"):
        await delivery.deploy(wrong, *archives("1.1.0"))
    assert await version_at(record.url) == "1.0.0"


async def test_an_archive_of_another_image_is_refused(delivery, spec, archives):
    release, _ = archives("1.0.0")
    _, other = archives("1.1.0")
    with pytest.raises(CiError, match="wrong image"):
        await delivery.deploy(spec, release, other)


async def test_only_the_last_releases_and_their_images_are_kept(delivery, spec, archives):
    few = spec.model_copy(update={"keep": 2})
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await delivery.deploy(few, *archives(version))
    images = {path.name for path in (delivery.state / "images").iterdir()} - {"lock"}
    kept = {archives(version)[0].digest.partition(":")[2] for version in ("1.1.0", "1.2.0")}
    assert images == kept


async def test_environments_do_not_disturb_each_other(delivery, spec, archives, tmp_path):
    from ci.deploy.targets.local.ports import Ports

    port = Ports(tmp_path / "ports").reserve(tmp_path / "other")
    staging = spec.model_copy(update={"name": "staging", "port": port})
    await delivery.deploy(spec, *archives("1.1.0"))
    await delivery.deploy(staging, *archives("1.0.0"))
    await delivery.stop("shop", "development")
    states = {s.name: (s.healthy, s.release.version) for s in await delivery.environments("shop")}
    assert states == {"development": (False, "1.1.0"), "staging": (True, "1.0.0")}
    assert await delivery.environments("other") == []
