"""Images of containers: exported, imported, as a file."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import dagger
import pytest


def manifest(archive: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the configuration in an OCI archive."""
    with tarfile.open(archive) as tar:

        def read(name: str) -> Any:
            member = tar.extractfile(name)
            assert member is not None
            return json.load(member)

        def blob(descriptor: dict[str, Any]) -> Any:
            return read("blobs/" + descriptor["digest"].replace(":", "/"))

        top = blob(read("index.json")["manifests"][0])
        return top, blob(top["config"])


async def test_an_exported_image_holds_the_configuration(base, tmp_path, unique):
    container = (
        base.with_env_variable("A", unique)
        .with_label("l", "v")
        .with_user("nobody")
        .with_workdir("/srv")
        .with_entrypoint(["e"])
        .with_default_args(["c"])
        .with_exposed_port(80)
    )
    await container.export(str(tmp_path / "image.tar"))
    top, image = manifest(tmp_path / "image.tar")
    config = image["config"]
    assert top["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert len(image["rootfs"]["diff_ids"]) == len(top["layers"])
    assert f"A={unique}" in config["Env"]
    assert config["Labels"]["l"] == "v"
    assert (config["User"], config["WorkingDir"]) == ("nobody", "/srv")
    assert (config["Entrypoint"], config["Cmd"]) == (["e"], ["c"])
    assert "80/tcp" in config["ExposedPorts"]


async def test_an_image_goes_out_and_comes_back(base, dag, unique):
    made = base.with_new_file("/mine", unique).with_env_variable("A", "1").with_user("nobody")
    again = dag.container().import_(made.as_tarball())
    assert await again.env_variable("A") == "1"
    assert await again.user() == "nobody"
    assert await again.with_exec(["cat", "/mine"]).stdout() == unique


async def test_what_is_mounted_is_not_in_the_image(base, dag):
    made = base.with_mounted_directory("/m", dag.directory().with_new_file("f", ""))
    again = dag.container().import_(made.as_tarball())
    assert not await again.exists("/m/f")


async def test_a_tarball_is_a_file_of_that_name(base):
    assert await base.as_tarball().name() == "container.tar"


async def test_an_uncompressed_docker_archive_has_its_media_types(base, tmp_path):
    await base.export(
        str(tmp_path / "image.tar"),
        forced_compression=dagger.ImageLayerCompression.Uncompressed,
        media_types=dagger.ImageMediaTypes.DockerMediaTypes,
    )
    top, _ = manifest(tmp_path / "image.tar")
    assert top["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"


async def test_publishing_where_no_registry_is_is_an_error(base):
    with pytest.raises(dagger.QueryError):
        await base.publish("localhost:1/image:tag")


async def test_an_export_gives_its_path(base, tmp_path):
    assert await base.export(str(tmp_path / "i.tar")) == str(tmp_path / "i.tar")


async def test_annotations_stand_in_the_manifest(base, tmp_path):
    made = base.with_annotation("kept", "1").with_annotation("gone", "2").without_annotation("gone")
    await made.export(str(tmp_path / "image.tar"))
    top, _ = manifest(tmp_path / "image.tar")
    assert top["annotations"]["kept"] == "1"
    assert "gone" not in top["annotations"]


async def test_a_health_check_stands_in_the_configuration(base, tmp_path):
    await base.with_docker_healthcheck(["check"], retries=4).export(str(tmp_path / "image.tar"))
    _, image = manifest(tmp_path / "image.tar")
    assert image["config"]["Healthcheck"]["Test"] == ["CMD", "check"]
    assert image["config"]["Healthcheck"]["Retries"] == 4


async def test_configuration_goes_out_and_comes_back(base, dag):
    made = (
        base.with_label("l", "1")
        .with_workdir("/srv")
        .with_entrypoint(["e"])
        .with_default_args(["d"])
        .with_exposed_port(80)
    )
    again = dag.container().import_(made.as_tarball())
    assert (await again.label("l"), await again.workdir()) == ("1", "/srv")
    assert (await again.entrypoint(), await again.default_args()) == (["e"], ["d"])
    assert [await p.port() for p in await again.exposed_ports()] == [80]


async def test_modes_links_and_removals_go_out_and_come_back(base, dag):
    made = base.with_new_file("/d/f", "1", permissions=0o751).with_symlink("/d/f", "/link")
    made = made.with_exec(["rm", "/etc/debian_version"])
    again = dag.container().import_(made.as_tarball())
    ran = again.with_exec(["stat", "-c", "%a", "/d/f"])
    assert await ran.stdout() == "751\n"
    assert await again.file("/link").contents() == "1"
    assert not await again.exists("/etc/debian_version")


async def test_an_image_is_imported_from_a_file_of_the_host(base, dag, tmp_path, unique):
    await base.with_new_file("/mine", unique).export(str(tmp_path / "image.tar"))
    again = dag.container().import_(dag.host().file(str(tmp_path / "image.tar")))
    assert await again.file("/mine").contents() == unique


async def test_what_is_in_volumes_and_memory_is_not_in_the_image(base, dag, unique):
    made = base.with_mounted_cache("/c", dag.cache_volume(unique)).with_mounted_temp("/t")
    ran = made.with_exec(["sh", "-c", "touch /c/f /t/f /root-f"])
    again = dag.container().import_(ran.as_tarball())
    assert await again.exists("/root-f")
    assert not await again.exists("/c/f")
    assert not await again.exists("/t/f")


async def test_an_imported_image_can_be_exported_again(base, dag, unique):
    once = dag.container().import_(base.with_new_file("/mine", unique).as_tarball())
    twice = dag.container().import_(once.with_new_file("/more", "1").as_tarball())
    assert await twice.file("/mine").contents() == unique
    assert await twice.file("/more").contents() == "1"


async def test_what_is_no_image_cannot_be_imported(dag):
    with pytest.raises(dagger.QueryError):
        await dag.container().import_(dag.file("image.tar", "no image")).sync()


async def test_layers_are_compressed_as_asked(base, tmp_path):
    await base.export(
        str(tmp_path / "image.tar"), forced_compression=dagger.ImageLayerCompression.Zstd
    )
    top, _ = manifest(tmp_path / "image.tar")
    assert all(layer["mediaType"].endswith("zstd") for layer in top["layers"])
