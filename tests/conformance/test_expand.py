"""``expand``: variables of the container in paths and values, and only where it is asked for."""

from __future__ import annotations

import dagger
import pytest


@pytest.fixture
def named(base) -> dagger.Container:
    """A container with a variable that names a folder."""
    container: dagger.Container = base.with_env_variable("D", "/srv/d")
    return container


async def test_a_path_is_taken_as_it_is_unless_it_is_to_be_expanded(named):
    assert await named.with_new_file("/$D/f", "1").exists("/$D/f")
    assert not await named.with_new_file("/$D/f", "1").exists("/srv/d/f")


async def test_new_files_and_reading(named):
    made = named.with_new_file("$D/f", "1", expand=True)
    assert await made.file("/srv/d/f").contents() == "1"
    assert await made.file("${D}/f", expand=True).contents() == "1"
    assert await made.directory("$D", expand=True).entries() == ["f"]


async def test_files_and_directories(named, dag):
    file = dag.file("f", "1")
    made = named.with_file("$D/g", file, expand=True).with_files("$D", [file], expand=True)
    made = made.with_directory("$D/sub", dag.directory().with_new_file("h", "2"), expand=True)
    found = [name.rstrip("/") for name in await made.directory("/srv/d").entries()]
    assert found == ["f", "g", "sub"]


async def test_removal(named, dag):
    tree = dag.directory().with_new_file("a", "").with_new_file("b", "").with_new_file("c/d", "")
    made = named.with_directory("/srv/d", tree)
    made = made.without_file("$D/a", expand=True).without_directory("$D/c", expand=True)
    assert await made.directory("/srv/d").entries() == ["b"]


async def test_mounts(named, dag):
    made = (
        named.with_mounted_directory("$D/dir", dag.directory(), expand=True)
        .with_mounted_file("$D/file", dag.file("f", "1"), expand=True)
        .with_mounted_temp("$D/temp", expand=True)
        .with_mounted_cache("$D/cache", dag.cache_volume("conformance-expand"), expand=True)
    )
    assert sorted(await made.mounts()) == [f"/srv/d/{n}" for n in ("cache", "dir", "file", "temp")]
    assert "/srv/d/dir" not in await made.without_mount("$D/dir", expand=True).mounts()


async def test_a_mounted_secret(named, dag, unique):
    secret = dag.set_secret("expanded", unique)
    made = named.with_mounted_secret("$D/key", secret, expand=True)
    assert await made.with_exec(["sh", "-c", "wc -c < /srv/d/key"]).stdout() == f"{len(unique)}\n"


async def test_the_working_directory(named):
    assert await named.with_workdir("$D/sub", expand=True).workdir() == "/srv/d/sub"
    assert await named.with_workdir("/x").with_workdir("$D", expand=True).workdir() == "/srv/d"


async def test_a_links_name(named):
    made = named.with_symlink("/etc/hostname", "$D/link", expand=True)
    assert await made.with_exec(["readlink", "/srv/d/link"]).stdout() == "/etc/hostname\n"


async def test_an_exported_path_is_of_the_containers_variables(base, tmp_path):
    named = base.with_env_variable("OUT", str(tmp_path))
    await named.export("${OUT}/image.tar", expand=True)
    assert (tmp_path / "image.tar").is_file()


@pytest.mark.since("0.20.4")
async def test_an_exec_expands_paths_of_redirects(named):
    ran = named.with_exec(["echo", "$D"], redirect_stdout="$D.out", expand=True)
    assert await ran.file("/srv/d.out").contents() == "/srv/d\n"


async def test_a_services_arguments(base, dag, named, unique):
    volume = dag.cache_volume(unique)
    service = (
        named.with_mounted_cache("/c", volume)
        .with_new_file(
            "/note", '#!/bin/sh\necho "$1" > /c/note\nexec sleep 1000\n', permissions=0o755
        )
        .with_docker_healthcheck(["test", "-s", "/c/note"], interval="200ms", retries=1000)
        .as_service(args=["/note", "$D"], expand=True)
    )
    bound = base.with_mounted_cache("/c", volume).with_service_binding("noting", service)
    assert await bound.with_exec(["cat", "/c/note"]).stdout() == "/srv/d\n"


async def test_arguments_are_not_expanded_unless_asked(named):
    assert await named.with_exec(["echo", "$D"]).stdout() == "$D\n"
