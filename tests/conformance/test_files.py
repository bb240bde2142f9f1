"""Container: files that are put in, taken out, and removed."""

from __future__ import annotations

import dagger
import pytest


async def mode(container: dagger.Container, path: str) -> str:
    """Permissions of a path, in octal."""
    return (await container.with_exec(["stat", "-c", "%a", path]).stdout()).strip()


async def owner(container: dagger.Container, path: str) -> str:
    """Owner and group of a path."""
    return (await container.with_exec(["stat", "-c", "%U:%G", path]).stdout()).strip()


async def test_a_new_file_is_readable_by_all_and_belongs_to_root(base):
    made = base.with_new_file("/new/f", "1")
    assert (await mode(made, "/new/f"), await owner(made, "/new/f")) == ("644", "root:root")


async def test_a_relative_path_starts_at_the_working_directory(base, dag):
    made = base.with_workdir("/srv").with_new_file("a/f", "1")
    assert await made.file("/srv/a/f").contents() == "1"
    assert await made.file("a/f").contents() == "1"
    assert await made.directory("a").entries() == ["f"]
    more = made.with_directory("b", dag.directory().with_new_file("g", "2"))
    assert await more.file("/srv/b/g").contents() == "2"


async def test_a_new_file_replaces_an_old_one(base):
    made = base.with_new_file("/f", "long old text").with_new_file("/f", "new")
    assert await made.file("/f").contents() == "new"


async def test_a_file_keeps_its_permissions_unless_others_are_given(base, dag):
    file = dag.directory().with_new_file("f", "1", permissions=0o751).file("f")
    assert await mode(base.with_file("/g", file), "/g") == "751"
    assert await mode(base.with_file("/g", file, permissions=0o600), "/g") == "600"


async def test_a_copied_file_has_the_name_of_its_path(base, dag):
    made = base.with_file("/d/other", dag.file("name", "1"))
    assert await made.directory("/d").entries() == ["other"]


async def test_several_files_keep_their_names(base, dag):
    made = base.with_files("/d", [dag.file("a", "1"), dag.file("b", "2")])
    assert await made.directory("/d").entries() == ["a", "b"]
    assert await made.file("/d/b").contents() == "2"


async def test_several_files_get_the_permissions_that_were_asked_for(base, dag):
    made = base.with_files("/d", [dag.file("a", "1"), dag.file("b", "2")], permissions=0o640)
    assert (await mode(made, "/d/a"), await mode(made, "/d/b")) == ("640", "640")


@pytest.mark.usefixtures("_owners")
async def test_files_belong_to_whom_was_asked_for(base, dag):
    file = dag.file("f", "1")
    made = (
        base.with_new_file("/a", "", owner="nobody:nogroup")
        .with_file("/b", file, owner="nobody")
        .with_files("/c", [file], owner="1234:5678")
    )
    ran = made.with_exec(["stat", "-c", "%u:%g", "/a", "/b", "/c/f"])
    assert await ran.stdout() == "65534:65534\n65534:65534\n1234:5678\n"


@pytest.mark.usefixtures("_owners")
async def test_mounts_belong_to_whom_was_asked_for(base, dag):
    made = base.with_mounted_directory(
        "/m", dag.directory().with_new_file("f", ""), owner="nobody:nogroup"
    ).with_mounted_file("/n", dag.file("n", ""), owner="1234:5678")
    ran = made.with_exec(["stat", "-c", "%u:%g", "/m/f", "/n"])
    assert await ran.stdout() == "65534:65534\n1234:5678\n"


@pytest.mark.usefixtures("_owners")
async def test_an_owner_that_is_not_there_is_an_error(base):
    with pytest.raises(dagger.QueryError):
        await base.with_new_file("/f", "", owner="nosuchuser").sync()


async def test_a_directory_is_merged_into_what_is_there(base, dag):
    made = base.with_new_file("/d/kept", "1").with_new_file("/d/both", "1")
    merged = made.with_directory("/d", dag.directory().with_new_file("both", "2"))
    assert await merged.directory("/d").entries() == ["both", "kept"]
    assert await merged.file("/d/both").contents() == "2"


async def test_a_copied_directory_is_filtered(base, dag):
    source = dag.directory().with_new_file("a.py", "").with_new_file("b.txt", "")
    source = source.with_new_file("sub/c.py", "").with_new_file("sub/d.txt", "")
    made = base.with_directory("/x", source, include=["**/*.py"], exclude=["sub/c.py"])
    assert await made.directory("/x").glob("**/*.*") == ["a.py"]


async def test_a_copied_directory_heeds_its_gitignore_when_asked(base, dag):
    source = (
        dag.directory()
        .with_new_file(".gitignore", "*.log\n!keep.log\n/build\n")
        .with_new_file("a.log", "")
        .with_new_file("keep.log", "")
        .with_new_file("build/x", "")
        .with_new_file("sub/build/y", "")
    )
    made = base.with_directory("/x", source, gitignore=True)
    found = await made.directory("/x").glob("**")
    assert "a.log" not in found
    assert "build/x" not in found
    assert {"keep.log", "sub/build/y"} <= set(found)
    assert "a.log" in await base.with_directory("/x", source).directory("/x").glob("**")


async def test_links_are_copied_as_links(base, dag):
    source = dag.directory().with_new_file("f", "1").with_symlink("f", "link")
    made = base.with_directory("/x", source).with_exec(["readlink", "/x/link"])
    assert await made.stdout() == "f\n"
    assert await made.file("/x/link").contents() == "1"


async def test_a_link_is_made(base):
    made = base.with_symlink("/etc/passwd", "/somewhere/link")
    assert await made.with_exec(["readlink", "/somewhere/link"]).stdout() == "/etc/passwd\n"


async def test_files_and_directories_are_removed(base, dag):
    tree = dag.directory()
    for name in ("a", "b", "c", "d", "e/f"):
        tree = tree.with_new_file(name, "")
    made = base.with_directory("/x", tree)
    made = made.without_file("/x/a").without_files(["/x/b", "/x/c"]).without_directory("/x/e")
    assert await made.directory("/x").entries() == ["d"]


async def test_what_was_removed_can_be_made_again(base):
    made = base.with_new_file("/d/f", "1").without_directory("/d").with_new_file("/d/g", "2")
    assert await made.directory("/d").entries() == ["g"]


async def test_removing_what_is_not_there_changes_nothing(base):
    made = base.with_new_file("/d/f", "1").without_file("/d/none").without_directory("/none")
    assert await made.directory("/d").entries() == ["f"]


async def test_exists_follows_the_type_and_links(base):
    made = base.with_new_file("/d/f", "").with_symlink("/d/f", "/link")
    assert await made.exists("/d", expected_type=dagger.ExistsType.DIRECTORY_TYPE)
    assert not await made.exists("/d/f", expected_type=dagger.ExistsType.DIRECTORY_TYPE)
    assert await made.exists("/link", expected_type=dagger.ExistsType.REGULAR_TYPE)
    assert await made.exists(
        "/link", expected_type=dagger.ExistsType.SYMLINK_TYPE, do_not_follow_symlinks=True
    )
    assert not await made.exists("/none")


async def test_a_path_that_is_not_there_cannot_be_taken_out(base):
    with pytest.raises(dagger.QueryError):
        await base.file("/none").contents()
    with pytest.raises(dagger.QueryError):
        await base.directory("/none").entries()


async def test_a_root_is_replaced_and_the_configuration_stays(base, dag):
    made = base.with_env_variable("A", "1").with_workdir("/srv")
    other = made.with_rootfs(dag.directory().with_new_file("only", "1"))
    assert await other.rootfs().entries() == ["only"]
    assert (await other.env_variable("A"), await other.workdir()) == ("1", "/srv")


async def test_a_container_without_an_image_is_empty(dag):
    assert await dag.container().rootfs().entries() == []
    assert await dag.container().with_new_file("/f", "1").rootfs().entries() == ["f"]


async def test_the_root_of_one_container_is_the_root_of_another(base, dag):
    made = base.with_exec(["sh", "-c", "echo 1 > /made"])
    other = dag.container().with_rootfs(made.rootfs())
    assert await other.with_exec(["cat", "/made"]).stdout() == "1\n"


async def test_what_an_exec_did_to_modes_and_links_stays(base):
    ran = base.with_exec(
        ["sh", "-c", "mkdir -m 710 /d; echo 1 > /d/f; chmod 604 /d/f; ln /d/f /d/hard"]
    )
    stat = ran.with_exec(["stat", "-c", "%a %h", "/d", "/d/f", "/d/hard"])
    lines = (await stat.stdout()).splitlines()
    assert lines[0].startswith("710 ")
    assert [line.split()[0] for line in lines[1:]] == ["604", "604"]


async def test_a_directory_that_was_replaced_by_a_file_is_a_file(base):
    ran = base.with_new_file("/d/f", "1").with_exec(["sh", "-c", "rm -r /d; echo file > /d"])
    assert await ran.file("/d").contents() == "file\n"


async def test_a_directory_that_was_emptied_and_made_again_is_empty(base):
    ran = base.with_new_file("/d/f", "1").with_exec(["sh", "-c", "rm -r /d; mkdir /d"])
    assert await ran.directory("/d").entries() == []
    assert await ran.with_exec(["ls", "-A", "/d"]).stdout() == ""
