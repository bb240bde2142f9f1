"""A stand-in is never silent, never used where a registry answers, and can be switched off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from ci.engine.bootstrap.builder import Builder
from ci.engine.bootstrap.catalogue import Catalogue
from ci.engine.bootstrap.recipe import Recipe
from ci.engine.images import Images
from ci.engine.images.credentials import Credentials
from ci.engine.images.oci import ImageError
from ci.engine.images.reference import Reference
from ci.engine.images.registry import Registry
from ci.engine.images.sources import Sources
from ci.engine.pulls import Pulls
from ci.engine.solver.secrets import Secrets, load_salt
from ci.engine.store.store import Store
from ci.engine.vertices.container import ContainerState
from tests.engine.images.conftest import RegistryServer
from tests.fake_clock import FakeClock

#: Nothing listens there.
NAME = "127.0.0.1:1/team/app:1"


async def _build(builder: Builder) -> None:
    folder = builder._store.temporary()
    (folder / "which").write_text("stand-in")
    builder.snapshot = (builder._store.add_layer(folder),)


RECIPE = Recipe(
    name="app", revision=1, references=("127.0.0.1:1/team/app:*",), gives="an app", build=_build
)


def client(store: Store, clock: FakeClock, mirror: str = "", **options) -> Images:
    mirrors = {"127.0.0.1:1": [f"http://{mirror}"]} if mirror else {}
    return Images(
        store,
        stand_ins=Catalogue(store, recipes=(RECIPE,)).stand_in,
        registry=Registry(mirrors=mirrors, clock=clock),
        credentials=Credentials(environ={}),
        clock=clock,
        **options,
    )


def warnings(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [log["stand_in"] for log in logs if log["event"] == "image.stood_in"]


async def test_it_is_told_each_time_and_stands_in_the_provenance(store: Store):
    with structlog.testing.capture_logs() as logs:
        for count in (1, 2):
            images = client(store, FakeClock())
            pulls = Pulls(images, Secrets(load_salt(store.root / "salt")))
            await pulls.base(ContainerState(platform="linux/amd64"), NAME)
            (used,) = pulls.uses()
            assert used.stand_in == "an app, in place of 127.0.0.1:1/team/app:1"
            assert warnings(logs) == [used.stand_in] * count
            await images.close()
    assert {log["log_level"] for log in logs if log["event"] == "image.stood_in"} == {"warning"}


async def test_the_registry_is_used_as_soon_as_it_answers(
    store: Store, registry: RegistryServer, image: Path
):
    clock = FakeClock(instant=True)
    first = await client(store, clock).resolve(NAME, platform="linux/amd64")
    assert first.stand_in
    pushing = client(store, clock)
    await pushing.publish(f"{registry.host}/team/app:1", image)
    await pushing.close()
    soon = await client(store, clock, registry.host).resolve(NAME, platform="linux/amd64")
    assert soon == first  # it was asked only just now
    await clock.sleep(3601)
    later = client(store, clock, registry.host)
    with structlog.testing.capture_logs() as logs:
        found = await later.resolve(NAME, platform="linux/amd64")
    await later.close()
    assert found.stand_in == ""
    assert found.config["config"] == {"Cmd": ["/run.sh"]}
    assert warnings(logs) == []
    again = await client(store, clock).resolve(NAME, platform="linux/amd64")
    assert again == found


async def test_a_registry_that_stays_away_is_asked_once_an_hour(store: Store):
    clock = FakeClock(instant=True)
    await client(store, clock).resolve(NAME)
    for hours, asked in ((0, False), (2, True), (0, False)):
        await clock.sleep(hours * 3600)
        images = client(store, clock)
        assert (await images.resolve(NAME)).stand_in
        assert bool(images._registry._transport._unreachable) is asked


@pytest.mark.parametrize("source", ["registry", "bootstrap"])
async def test_a_source_that_is_left_out_is_not_used_even_by_the_store(store: Store, source: str):
    assert (await client(store, FakeClock()).resolve(NAME)).stand_in
    order = tuple(name for name in Sources().order if name != source)
    images = client(store, FakeClock(), sources=Sources(order=order))
    if source == "registry":
        assert (await images.resolve(NAME)).stand_in
    else:
        with pytest.raises(ImageError, match=r"the store has not got it; registry 127\.0\.0\.1:1"):
            await images.resolve(NAME)


@pytest.mark.parametrize(
    "patterns", [("*",), ("nginx:*", "127.0.0.1:1/team/*"), (NAME,)], ids="; ".join
)
async def test_an_image_can_be_excepted(store: Store, patterns: tuple[str, ...]):
    assert (await client(store, FakeClock()).resolve(NAME)).stand_in
    with pytest.raises(ImageError, match="TOWPATH_NO_STAND_IN_FOR lets nothing stand in"):
        await client(store, FakeClock(), sources=Sources(no_stand_in_for=patterns)).resolve(NAME)


def test_an_image_is_excepted_by_the_name_that_people_call_it() -> None:
    python = Reference.parse("docker.io/library/python:3.11-slim")
    assert Sources(no_stand_in_for=("debian:*",)).may_stand_in(python)
    assert not Sources(no_stand_in_for=("debian:*", "python:*")).may_stand_in(python)
