"""The local delivery with the engine's runtime: a sandboxed service and its PostgreSQL."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ci.deploy.environment import BackingService, EnvironmentSpec
from ci.deploy.postgres import postgres, postgres_url
from ci.deploy.targets.local.delivery import LocalDelivery
from ci.deploy.targets.local.folder import Folder
from ci.deploy.targets.local.images import remove_tree
from ci.deploy.targets.local.oneoff import run_once
from ci.deploy.targets.local.processes import Processes, Program
from ci.engine.bootstrap.catalogue import with_stand_ins
from ci.engine.images import archive
from ci.engine.images.resolve import ResolvedImage
from ci.engine.runtime import Runtime
from ci.engine.store.store import Store
from ci.settings import Settings
from ci.values import Outcome, Release
from tests.delivery.plain import PROGRAMS
from tests.delivery.running import get, processes_of, version_at

PYTHON, POSTGRES = "python:3.11-slim-bookworm", "postgres:15-bookworm"
SECRET = "a-token-that-nobody-sees"


def pack(store: Store, image: ResolvedImage, dest: Path, *extra: Path, **config: object) -> str:
    folders = [store.layer_path(layer) for layer in image.snapshot]
    changed = {**image.config, "config": {**image.config["config"], **config}}
    platforms = [([*folders, *extra], changed)]
    return archive.write(dest, platforms=platforms, compression="uncompressed")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    opened = Store(Settings.from_environment().cache)
    yield opened
    opened.close()


@pytest.fixture
async def database(store, tmp_path) -> BackingService:
    image = await with_stand_ins(store).resolve(POSTGRES)
    path = tmp_path / "postgres.tar"
    digest = pack(store, image, path)
    return postgres(digest=digest, archive=path, name="database", database="shop")


async def service(store: Store, folder: Path, version: str) -> tuple[Release, Path]:
    image = await with_stand_ins(store).resolve(PYTHON)
    layer = folder / f"layer-{version}"
    (layer / "srv").mkdir(parents=True)
    (layer / "srv" / "app.py").write_text((PROGRAMS / "sandboxed.py").read_text())
    (layer / "srv" / "version").write_text(version)
    path = folder / f"service-{version}.tar"
    entrypoint = ["python", "/srv/app.py"]
    digest = pack(store, image, path, layer, Entrypoint=entrypoint, Cmd=[], User="1000:1000")
    return Release(name="service", version=version, digest=digest), path


@pytest.fixture
async def sandboxed(tmp_path) -> AsyncIterator[LocalDelivery]:
    local = LocalDelivery(Runtime(), state=tmp_path / "state")
    yield local
    for status in await local.environments():
        await local.stop(status.project, status.name)
    remove_tree(local.state / "images")  # hundreds of megabytes


async def query(delivery: LocalDelivery, database: BackingService, sql: str) -> str:
    """What psql prints, run from the database's own image, with the URL that releases get."""
    folder = Folder(delivery.state / "environments" / "shop" / "development")
    launch = next(folder.launches.glob("1.*.json"))
    env = {"DATABASE_URL": json.loads(launch.read_text())["env"]["DATABASE_URL"]}
    image = delivery.state / "images" / database.digest.removeprefix("sha256:")
    args = ["sh", "-c", 'exec psql "$DATABASE_URL" -Atc "$1"', "psql", sql]
    config = {"config": {"Env": ["PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin"], "Cmd": args}}
    argv = Runtime().argv(image / "rootfs", config, env=env, binds={}, args=())
    program = Program(name="psql", argv=argv, env=env)
    ended = await run_once(Processes(folder, delivery.clock), program, deadline=20)
    assert ended.exit_code == 0, ended.output
    return ended.output.strip()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_sandboxed_service_is_switched_while_its_postgresql_keeps_running_and_its_data(
    sandboxed, spec, store, database, tmp_path
):
    environment: EnvironmentSpec = spec.model_copy(
        update={
            "services": (database,),
            "env": {"DATABASE_URL": postgres_url(database)},
            "migrate": ("migrate",),
        }
    )
    secrets = {"TOKEN": SECRET}
    first = await service(store, tmp_path, "1.0.0")
    record = await sandboxed.deploy(environment, *first, secrets=secrets)
    assert record.outcome is Outcome.PASSED, record.reason
    answer = (await get(record.url + "/ready")).json()
    assert answer == {"version": "1.0.0", "uid": 1000, "token": SECRET}
    assert not any(SECRET in line for line in processes_of(sandboxed.state).values())
    await query(sandboxed, database, "create table members as select 'Ada' as name")
    started = await query(sandboxed, database, "select pg_postmaster_start_time()")

    second = await service(store, tmp_path, "1.1.0")
    record = await sandboxed.deploy(environment, *second, secrets=secrets)
    assert record.outcome is Outcome.PASSED, record.reason
    assert await version_at(record.url) == "1.1.0"
    assert await query(sandboxed, database, "select pg_postmaster_start_time()") == started

    logs = sandboxed.state / "environments" / "shop" / "development" / "logs"
    (log,) = logs.glob("1.0.0-*.log")
    assert "1.0.0 ended in order" in log.read_text(), "SIGTERM reached the program"

    await sandboxed.stop("shop", "development")
    assert processes_of(sandboxed.state) == {}
    assert "database system is shut down" in (logs / "service-database.log").read_text()
    record = await sandboxed.deploy(environment, *second, secrets=secrets)
    assert record.unchanged
    assert await query(sandboxed, database, "select name from members") == "Ada"
    record = await sandboxed.rollback("shop", "development")
    assert record.outcome is Outcome.PASSED, record.reason
    assert await version_at(record.url) == "1.0.0"
