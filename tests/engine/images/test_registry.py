"""Against a real registry: what is pushed is what is pulled, with and without logins."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest

from ci.engine.images import Images
from ci.engine.images.credentials import Credentials
from ci.engine.images.failures import AccessDenied
from ci.engine.images.layout import open_layout
from ci.engine.images.oci import ImageError
from ci.engine.images.registry import Registry
from ci.engine.images.sources import Sources
from ci.engine.store.store import Store
from ci.engine.trees.merged import MergedTree
from tests.engine.images.conftest import RegistryServer, make_layers


def images(store: Store, environ: dict[str, str] | None = None, **options: object) -> Images:
    registry = Registry(mirrors={})
    return Images(
        store,
        sources=Sources(order=("store", "registry")),
        registry=registry,
        credentials=Credentials(environ=environ or {}),
        **options,  # type: ignore[arg-type]
    )


def content(tree: MergedTree, path: str) -> str:
    return Path(tree.require(path).host).read_text()


async def test_a_pushed_image_is_pulled_with_its_digest_files_and_config(
    store: Store, registry: RegistryServer, image: Path
) -> None:
    with open_layout(image) as layout:
        expected = layout.image()
    client = images(store)
    try:
        published = await client.publish(f"{registry.host}/team/app:1.0", image)
        pulled = await client.resolve(f"{registry.host}/team/app:1.0")
    finally:
        await client.close()
    assert published == f"{registry.host}/team/app:1.0@{expected.digest}"
    assert pulled.digest == expected.digest
    assert pulled.config == expected.config
    assert pulled.stand_in == ""
    tree = MergedTree(store.layer_paths(pulled.snapshot))
    assert content(tree, "/etc/motd") == "goodbye\n"
    assert tree.lookup("/etc/old") is None
    assert tree.require("/run.sh").status.st_mode & 0o777 == 0o755


async def test_an_image_is_pulled_by_digest_alone(
    store: Store, registry: RegistryServer, image: Path
) -> None:
    client = images(store)
    try:
        published = await client.publish(f"{registry.host}/team/by-digest:x", image)
        repository, _, digest = published.partition(":x@")
        pulled = await client.resolve(f"{repository}@{digest}")
    finally:
        await client.close()
    assert pulled.digest == digest


async def test_a_resolved_tag_is_not_asked_for_again_until_it_is_refreshed(
    store: Store, registry: RegistryServer, image: Path, tmp_path: Path
) -> None:
    from ci.engine.images import archive

    client = images(store)
    address = f"{registry.host}/team/moving:latest"
    other = tmp_path / "other.tar"
    archive.write(
        other,
        platforms=[([], {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["other"]}})],
    )
    try:
        await client.publish(address, image)
        first = await client.resolve(address)
        await client.publish(address, other)
        again = await client.resolve(address)
        fresh = await client.resolve(address, refresh=True)
    finally:
        await client.close()
    assert again == first
    assert fresh.digest != first.digest
    assert fresh.config["config"] == {"Cmd": ["other"]}


async def test_layers_that_another_image_brought_are_used_again(
    store: Store, registry: RegistryServer, image: Path
) -> None:
    client = images(store)
    try:
        for name in ("one", "two"):
            await client.publish(f"{registry.host}/shared/{name}:1", image)
        one = await client.resolve(f"{registry.host}/shared/one:1")
        two = await client.resolve(f"{registry.host}/shared/two:1")
    finally:
        await client.close()
    assert one.snapshot == two.snapshot


async def test_an_image_that_is_not_there_is_an_error_and_not_a_stand_in(
    store: Store, registry: RegistryServer
) -> None:
    client = Images(store, registry=Registry(mirrors={}), credentials=Credentials(environ={}))
    try:
        with pytest.raises(ImageError, match="404"):
            await client.resolve(f"{registry.host}/library/python:3.11-slim-bookworm")
    finally:
        await client.close()


async def test_a_login_from_the_docker_configuration_opens_a_guarded_registry(
    store: Store, guarded_registry: RegistryServer, image: Path, tmp_path: Path
) -> None:
    auth = base64.b64encode(b"ada:engine no. 1").decode()
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {guarded_registry.host: {"auth": auth}}})
    )
    client = images(store, {"DOCKER_CONFIG": str(tmp_path)})
    try:
        published = await client.publish(f"{guarded_registry.host}/app:1", image)
        pulled = await client.resolve(f"{guarded_registry.host}/app:1")
    finally:
        await client.close()
    assert published.endswith(pulled.digest)


async def test_a_login_that_is_given_wins(
    store: Store, guarded_registry: RegistryServer, image: Path
) -> None:
    client = images(store)
    given = {guarded_registry.host: ("ada", "engine no. 1")}
    try:
        await client.publish(f"{guarded_registry.host}/given:1", image, auth=given)
        pulled = await client.resolve(f"{guarded_registry.host}/given:1", auth=given)
    finally:
        await client.close()
    assert pulled.config["config"] == {"Cmd": ["/run.sh"]}


@pytest.mark.parametrize("given", [None, ("ada", "wrong"), ("bob", "engine no. 1")])
async def test_without_the_right_login_a_guarded_registry_refuses(
    store: Store, guarded_registry: RegistryServer, given: tuple[str, str] | None
) -> None:
    client = images(store)
    auth = {guarded_registry.host: given} if given else None
    try:
        with pytest.raises(AccessDenied, match="401") as caught:
            await client.resolve(f"{guarded_registry.host}/app:1", auth=auth)
    finally:
        await client.close()
    assert "wrong" not in str(caught.value)
    assert "engine no. 1" not in str(caught.value)


async def test_pushing_again_sends_no_blob_twice(
    store: Store, registry: RegistryServer, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = images(store)
    sent: list[str] = []
    try:
        first = await client.publish(f"{registry.host}/twice/app:1", image)
        transport = client._registry._transport
        original = transport.send

        async def watch(request: httpx.Request) -> httpx.Response:
            sent.append(request.method)
            return await original(request)

        monkeypatch.setattr(transport, "send", watch)
        second = await client.publish(f"{registry.host}/twice/app:1", image)
    finally:
        await client.close()
    assert first == second
    assert sent.count("POST") == 0
    assert sent.count("PUT") == 1


async def test_a_record_of_another_shape_is_as_good_as_none(
    store: Store, registry: RegistryServer, image: Path
) -> None:
    client = images(store)
    address = f"{registry.host}/team/recorded:1"
    try:
        await client.publish(address, image)
        first = await client.resolve(address)
        kept = [path for path in (store.root / "records/reference").rglob("*") if path.is_file()]
        assert kept
        for path in kept:
            path.write_text('{"digest": "of an earlier version"}')
        again = await client.resolve(address)
    finally:
        await client.close()
    assert again.digest == first.digest


@pytest.mark.parametrize("came_as", ["gzip", "zstd", "uncompressed"])
async def test_layers_go_out_as_the_tars_that_they_came_as(
    store: Store, registry: RegistryServer, tmp_path: Path, came_as: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from ci.engine.images import archive
    from ci.engine.images.validate import validate

    config = {"os": "linux", "architecture": "amd64"}
    first = tmp_path / "first.tar"
    archive.write(
        first, platforms=[(make_layers(tmp_path / "made"), config)], compression=came_as, epoch=7
    )
    client = images(store)
    try:
        await client.publish(f"{registry.host}/origin/{came_as}:1", first)
        pulled = await client.resolve(f"{registry.host}/origin/{came_as}:1")
    finally:
        await client.close()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    with open_layout(first) as layout:
        expected = layout.image()
    folders = [Path(path) for path in store.layer_paths(pulled.snapshot)]
    for compression in ("", "gzip", "zstd", "uncompressed"):
        for media_types in ("oci", "docker"):
            again = tmp_path / f"{compression}-{media_types}.tar"
            archive.write(
                again, platforms=[(folders, config)], compression=compression,
                media_types=media_types, store=store,
            )  # fmt: skip
            validate(again)
            with open_layout(again) as layout:
                assert layout.image().diff_ids == expected.diff_ids
                if compression in {"", came_as} and media_types == "oci":
                    assert layout.image().layers == expected.layers
