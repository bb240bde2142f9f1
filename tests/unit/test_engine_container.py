"""ContainerState: paths, mounts, environment, commands and image configuration."""

from __future__ import annotations

from typing import Any

import pytest

from ci.engine.refusal import Refusal
from ci.engine.vertices.container import ContainerState, ExposedPort, Healthcheck, join
from ci.engine.vertices.execution import DEFAULT_PATH
from ci.engine.vertices.vertex import (
    CacheMount,
    DirectoryMount,
    DirectoryRef,
    ExecMountOutput,
    ExecRootOutput,
    FileMount,
    FileRef,
    NewFile,
    Scratch,
    SecretRef,
    TmpfsMount,
)

EMPTY = ContainerState(platform="linux/amd64")
SOURCE = DirectoryRef(tree=NewFile(tree=Scratch(), path="/src/a.txt", contents=b"a"), path="/src")


@pytest.mark.parametrize(
    ("base", "path", "absolute"),
    [
        ("/", "a", "/a"),
        ("/srv", "a/../b", "/srv/b"),
        ("/srv", "/a//b/", "/a/b"),
        ("/srv", ".", "/srv"),
        ("/srv", "../../..", "/"),
        ("/", "//a", "/a"),
    ],
)
def test_paths_join_the_working_directory_and_cannot_leave_the_root(base, path, absolute):
    assert join(base, path) == absolute


def test_expansion_uses_the_environment_and_drops_what_is_not_set():
    container = EMPTY.with_env("A", "1").with_env("B", "2")
    assert container.expand("$A-${B}-$C-$ 5$") == "1-2--$ 5$"


def test_expansion_refuses_a_secret_variable():
    container = EMPTY.with_secret_env("TOKEN", SecretRef(name="t"))
    with pytest.raises(Refusal, match='secret env variable "TOKEN"'):
        container.expand("x$TOKEN")


def test_path_is_added_to_the_environment_of_an_exec_only_where_it_is_absent():
    assert dict(EMPTY.exec(("a",)).env)["PATH"] == DEFAULT_PATH
    assert dict(EMPTY.with_env("PATH", "/x").exec(("a",)).env)["PATH"] == "/x"


def test_a_variable_set_again_keeps_its_place():
    container = EMPTY.with_env("A", "1").with_env("B", "2").with_env("A", "3")
    assert container.env == (("A", "3"), ("B", "2"))


def test_empty_args_are_the_default_args_and_the_entrypoint_is_used_when_asked():
    container = ContainerState(
        platform="linux/amd64", entrypoint=("sh", "-c"), default_args=("echo hi",)
    )
    assert container.command([], use_entrypoint=False) == ("echo hi",)
    assert container.command(["ls"], use_entrypoint=True) == ("sh", "-c", "ls")
    with pytest.raises(Refusal, match="no command has been set"):
        EMPTY.command([], use_entrypoint=False)


def test_a_service_uses_the_images_entrypoint_unless_args_or_default_args_are_set():
    image = {"config": {"Entrypoint": ["entry"], "Cmd": ["cmd"]}}
    container = EMPTY.from_image("i", "sha256:0", image, "linux/amd64")
    assert container.service_command([], use_entrypoint=False) == ("entry", "cmd")
    assert container.service_command(["x"], use_entrypoint=False) == ("x",)
    assert container.service_command(["x"], use_entrypoint=True) == ("entry", "x")


def test_mounting_over_a_folder_unmounts_what_was_below():
    container = EMPTY.with_mount(TmpfsMount(path="/a/b")).with_mount(TmpfsMount(path="/ab"))
    container = container.with_mount(TmpfsMount(path="/a"))
    assert [mount.path for mount in container.mounts] == ["/ab", "/a"]


def test_a_path_in_a_mounted_directory_is_found_in_its_tree():
    container = EMPTY.with_mount(DirectoryMount(path="/work", source=SOURCE))
    _, tree, place = container.locate("/work/a.txt")
    assert (tree, place) == (SOURCE.tree, "/src/a.txt")
    _, tree, place = container.locate("/workshop")
    assert (tree, place) == (container.root, "/workshop")


@pytest.mark.parametrize(
    ("mount", "kind"),
    [(CacheMount(path="/c", volume="v"), "cache"), (TmpfsMount(path="/c"), "tmpfs")],
)
def test_nothing_can_be_read_from_a_cache_or_a_tmpfs(mount, kind):
    with pytest.raises(Refusal, match=f"/c/x: cannot retrieve path from {kind}"):
        EMPTY.with_mount(mount).locate("/c/x")


def test_a_write_below_a_mount_changes_the_mount_and_not_the_root():
    container = EMPTY.with_mount(DirectoryMount(path="/work", source=SOURCE))
    changed = container.change(
        "/work/b", lambda tree, place: NewFile(tree=tree, path=place, contents=b"")
    )
    assert changed.root == container.root
    (mount,) = changed.mounts
    assert isinstance(mount, DirectoryMount)
    assert isinstance(mount.source.tree, NewFile)
    assert (mount.source.tree.path, mount.source.path) == ("/src/b", "/src")


def test_an_exec_hands_on_the_root_and_what_it_wrote_to_mounts():
    file = FileRef(tree=SOURCE.tree, path="/src/a.txt")
    container = (
        EMPTY.with_mount(DirectoryMount(path="/w", source=SOURCE))
        .with_mount(DirectoryMount(path="/r", source=SOURCE, read_only=True))
        .with_mount(FileMount(path="/f", source=file))
    )
    ran = container.exec(("true",))
    after = container.after(ran)
    assert after.root == ExecRootOutput(exec=ran)
    written, read_only, lone = after.mounts
    assert isinstance(written, DirectoryMount)
    assert written.source == DirectoryRef(tree=ExecMountOutput(exec=ran, path="/w"))
    assert isinstance(read_only, DirectoryMount)
    assert read_only.source == SOURCE
    assert isinstance(lone, FileMount)
    assert lone.source.tree == ExecMountOutput(exec=ran, path="/f")


def test_an_image_keeps_variables_and_labels_that_were_set_before_it():
    image = {"config": {"Env": ["A=image", "B=x=y"], "Labels": {"l": "image", "m": "1"}}}
    container = EMPTY.with_env("A", "mine").from_image("r", "sha256:0", image, "linux/amd64")
    assert container.env == (("A", "mine"), ("B", "x=y"))
    assert container.labels == (("l", "image"), ("m", "1"))


def test_ports_of_an_image_are_listed_but_not_waited_for():
    image: dict[str, Any] = {"config": {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}}
    ports = EMPTY.from_image("r", "sha256:0", image, "linux/amd64").ports
    assert [(p.port, p.protocol, p.skip_healthcheck) for p in ports] == [
        (53, "UDP", True),
        (80, "TCP", True),
    ]


def test_a_configuration_survives_export_and_import():
    container = ContainerState(
        platform="linux/arm64/v8",
        env=(("A", "1"),),
        workdir="/srv",
        user="app:app",
        entrypoint=("e",),
        default_args=("c",),
        labels=(("l", "v"),),
        ports=(ExposedPort(port=80, skip_healthcheck=True, from_image=True),),
        healthcheck=Healthcheck(args=("curl", "x"), interval="1.5s", retries=2),
        stop_signal="SIGINT",
        volumes=("/data",),
    )
    image = container.image_config()
    assert (image["os"], image["architecture"], image["variant"]) == ("linux", "arm64", "v8")
    again = EMPTY.from_image("", "sha256:0", image, container.platform)
    for name in ("env", "workdir", "user", "entrypoint", "default_args", "labels", "ports"):
        assert getattr(again, name) == getattr(container, name)
    assert again.healthcheck == container.healthcheck
    assert (again.stop_signal, again.volumes) == (container.stop_signal, container.volumes)


def test_containers_that_differ_in_a_volatile_variable_have_different_identities():
    one = ContainerState(platform="linux/amd64", volatile_env=(("V", "1"),))
    two = ContainerState(platform="linux/amd64", volatile_env=(("V", "2"),))
    assert one.digest != two.digest
    assert one.exec(("a",)).digest == two.exec(("a",)).digest
