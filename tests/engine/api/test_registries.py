"""Images of a session go to registries and come back: logins, variants, registries in services."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import tarfile
from typing import Any

import dagger
import pytest
from beartype.roar import BeartypeCallHintReturnViolation

from tests.engine.images.conftest import (
    RegistryServer,
    guarded_registry,
    registry,
    require,
)

__all__ = ["guarded_registry", "registry"]


def listed_in(tar: tarfile.TarFile) -> Any:
    """The only image of an archive, as ``docker load`` reads it."""
    file = tar.extractfile("manifest.json")
    assert file is not None
    return json.load(file)[0]


AMD64, ARM64 = dagger.Platform("linux/amd64"), dagger.Platform("linux/arm64")


async def test_variants_are_published_with_a_login_and_each_platform_gets_its_own(
    dag, guarded_registry: RegistryServer, unique
):
    address = f"{guarded_registry.host}/api/{unique}:1"
    password = dag.set_secret("password", "engine no. 1")
    variants = [
        dag.container(platform=platform)
        .with_new_file("/which", str(platform))
        .with_annotation("org.opencontainers.image.source", unique)
        for platform in (AMD64, ARM64)
    ]
    handle = dag.container().with_registry_auth(guarded_registry.host, "ada", password)
    published = await handle.publish(address, platform_variants=variants)
    assert published.startswith(f"{address}@sha256:")
    for platform in (AMD64, ARM64):
        place = dag.container(platform=platform).with_registry_auth(address, "ada", password)
        pulled = place.from_(published)
        assert await pulled.file("/which").contents() == platform
        assert await pulled.image_ref() == published
    with pytest.raises(dagger.QueryError, match="docker login") as caught:
        await dag.container().publish(address, platform_variants=variants)
    assert "engine no. 1" not in str(caught.value)


async def test_a_second_publish_gives_the_same_reference(dag, registry: RegistryServer, unique):
    made = dag.container().with_new_file("/mine", unique).with_label("a", "b")
    first = await made.publish(f"{registry.host}/api/{unique}")
    assert first.startswith(f"{registry.host}/api/{unique}:latest@sha256:")
    assert await made.publish(f"{registry.host}/api/{unique}:latest") == first


async def test_a_service_is_the_registry_of_an_address(dag, base, unique):
    require("docker-registry")
    config = json.dumps(
        {"version": 0.1, "storage": {"inmemory": {}}, "http": {"addr": ":5000", "secret": "none"}}
    )
    service = (
        base.with_file("/bin/docker-registry", dag.host().file(shutil.which("docker-registry")))
        .with_new_file("/config.yml", config)
        .with_exposed_port(5000)
        .with_env_variable("UNIQUE", unique)
        .as_service(args=["docker-registry", "serve", "/config.yml"])
    )
    made = dag.container().with_new_file("/mine", unique)
    published = await made.publish("registry:5000/app:1", registry_service=service)
    assert published.startswith("registry:5000/app:1@sha256:")
    pulled = dag.container().from_("registry:5000/app:1", registry_service=service)
    assert await pulled.file("/mine").contents() == unique
    assert await pulled.image_ref() == published
    with pytest.raises(dagger.QueryError, match="404"):
        await dag.container().from_("registry:5000/other:1", registry_service=service).sync()
    portless = base.as_service(args=["sleep", "60"])
    with pytest.raises(dagger.QueryError, match="no ports exposed"):
        await made.publish("registry:5000/app:1", registry_service=portless)


async def test_an_image_of_several_in_an_archive_is_chosen_by_its_tag(dag, tmp_path, unique):
    for name in ("one", "two"):
        made = dag.container().with_new_file("/which", name + unique).with_label("n", name)
        await made.export(str(tmp_path / f"{name}.tar"))
    saved = tmp_path / "saved.tar"
    listed = []
    with tarfile.open(saved, "w") as joined:
        for name in ("one", "two"):
            with tarfile.open(tmp_path / f"{name}.tar") as tar:
                for member in tar:
                    if member.name.startswith("blobs/sha256/"):
                        joined.addfile(member, tar.extractfile(member))
                entry = listed_in(tar)
                listed.append({**entry, "RepoTags": [f"registry.test/app:{name}"]})
        (tmp_path / "manifest.json").write_text(json.dumps(listed))
        joined.add(tmp_path / "manifest.json", "manifest.json")
    (tmp_path / "saved.tar.gz").write_bytes(gzip.compress(saved.read_bytes()))
    for file in ("saved.tar", "saved.tar.gz"):
        archive = dag.host().file(str(tmp_path / file))
        for tag, expected in {"two": "two", "registry.test/app:one": "one", "": "one"}.items():
            taken = dag.container().import_(archive, tag=tag)
            assert await taken.label("n") == expected
            assert await taken.file("/which").contents() == expected + unique
        with pytest.raises(dagger.QueryError, match=r"no image of the tag .three"):
            await dag.container().import_(archive, tag="three").sync()


async def test_an_imported_image_keeps_its_layers_and_their_digests(dag, tmp_path, unique):
    made = dag.container().with_new_file("/one", unique).with_new_file("/two", unique)
    await made.export(str(tmp_path / "first.tar"))
    taken = dag.container().import_(dag.host().file(str(tmp_path / "first.tar")))
    await taken.with_new_file("/three", unique).export(str(tmp_path / "second.tar"))
    layers = []
    for name in ("first.tar", "second.tar"):
        with tarfile.open(tmp_path / name) as tar:
            layers.append(listed_in(tar)["Layers"])
    assert layers[1][:-1] == layers[0]
    assert len(layers[0]) == 2


async def give(image: dagger.Container, name: str) -> None:
    # The SDK takes its own None for a mistake where it says Void.
    with contextlib.suppress(BeartypeCallHintReturnViolation):
        await image.export_image(name)


async def test_an_image_goes_to_the_machines_own_program_and_comes_back(
    dag, tmp_path, unique, monkeypatch
):
    """The first program does not answer, the second keeps one archive."""
    for name, script in {
        "docker": "echo no daemon >&2; exit 1",
        "podman": f"""
            case $1 in
              info) ;;
              load) cp "$3" {tmp_path}/kept; echo "Loaded image: sha256:abc";;
              tag) echo "$2 $3" > {tmp_path}/tagged;;
              save) [ "$4" = app:1 ] || {{ echo "$4: no such image" >&2; exit 125; }}
                    cp {tmp_path}/kept "$3";;
            esac
        """,
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    made = dag.container().with_new_file("/mine", unique)
    await give(made, "app:1")
    assert (tmp_path / "tagged").read_text() == "sha256:abc app:1\n"
    assert await dag.host().container_image("app:1").file("/mine").contents() == unique
    with pytest.raises(dagger.QueryError, match="image b:2, podman save: got b:2: no such image"):
        await dag.host().container_image("b:2").sync()
    with pytest.raises(dagger.QueryError, match="platformVariants"):
        await made.export_image("app:1", platform_variants=[made])


async def test_without_a_program_the_error_names_them(dag, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(dagger.QueryError, match="docker, podman, nerdctl that answers"):
        await dag.container().export_image("app:1")
