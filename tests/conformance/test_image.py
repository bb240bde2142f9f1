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
