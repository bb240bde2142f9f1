"""Directory and File: a tree of values; in containers, on the host, in each other."""

from __future__ import annotations

import dagger
import pytest


async def test_files_and_directories_are_listed(dag):
    tree = dag.directory().with_new_file("a/b/c.txt", "c").with_new_file("d.txt", "d")
    assert [name.rstrip("/") for name in await tree.entries()] == ["a", "d.txt"]
    assert await tree.entries(path="a/b") == ["c.txt"]
    assert [name.rstrip("/") for name in await tree.directory("a").entries()] == ["b"]


async def test_contents_come_back_as_they_went_in(dag):
    text = "line\r\nété ✓\n\ttab\0nul"
    assert await dag.directory().with_new_file("f", text).file("f").contents() == text


async def test_a_missing_file_is_an_error(dag):
    with pytest.raises(dagger.QueryError):
        await dag.directory().file("none").contents()


async def test_a_missing_directory_is_an_error(dag):
    with pytest.raises(dagger.QueryError):
        await dag.directory().directory("none").entries()


async def test_a_later_file_replaces_an_earlier_one(dag):
    tree = dag.directory().with_new_file("f", "1").with_new_file("f", "2")
    assert await tree.file("f").contents() == "2"


async def test_directories_are_merged(dag):
    one = dag.directory().with_new_file("d/a", "1").with_new_file("d/b", "1")
    two = dag.directory().with_new_file("b", "2").with_new_file("c", "2")
    merged = one.with_directory("d", two)
    assert await merged.entries(path="d") == ["a", "b", "c"]
    assert await merged.file("d/b").contents() == "2"


async def test_include_and_exclude_choose_what_is_copied(dag):
    source = (
        dag.directory()
        .with_new_file("a.py", "")
        .with_new_file("b.txt", "")
        .with_new_file("d/c.py", "")
    )
    chosen = dag.directory().with_directory("/", source, include=["**/*.py"], exclude=["d"])
    assert await chosen.entries() == ["a.py"]
    filtered = source.filter(exclude=["*.txt", "d"])
    assert await filtered.entries() == ["a.py"]


async def test_files_and_directories_are_removed(dag):
    tree = (
        dag.directory()
        .with_new_file("a/x", "")
        .with_new_file("b", "")
        .with_new_file("c", "")
        .without_directory("a")
        .without_file("b")
        .without_file("not-there")
    )
    assert await tree.entries() == ["c"]


async def test_glob_finds_paths_below(dag):
    tree = (
        dag.directory().with_new_file("a/b.py", "").with_new_file("c.py", "").with_new_file("d", "")
    )
    assert await tree.glob("**/*.py") == ["a/b.py", "c.py"]
    assert await tree.glob("*.py") == ["c.py"]


async def test_the_digest_follows_the_content(dag):
    one = await dag.directory().with_new_file("a", "1").digest()
    assert one == await dag.directory().with_new_file("a", "1").digest()
    assert one != await dag.directory().with_new_file("a", "2").digest()
    assert one != await dag.directory().with_new_file("b", "1").digest()


async def test_diff_holds_what_was_added_or_changed(dag):
    lower = dag.directory().with_new_file("same", "1").with_new_file("changed", "1")
    upper = lower.with_new_file("changed", "2").with_new_file("new", "1")
    assert await lower.diff(upper).entries() == ["changed", "new"]


async def test_a_file_knows_name_and_size(dag):
    file = dag.directory().with_new_file("d/name.txt", "12345").file("d/name.txt")
    assert (await file.name(), await file.size()) == ("name.txt", 5)
    assert await file.with_name("other").name() == "other"


async def test_a_new_file_has_the_permissions_that_were_asked_for(base):
    ran = base.with_new_file("/f", "", permissions=0o640).with_exec(["stat", "-c", "%a", "/f"])
    assert await ran.stdout() == "640\n"


@pytest.mark.usefixtures("_owners")
async def test_a_copied_directory_belongs_to_whom_was_asked_for(base, dag):
    source = dag.directory().with_new_file("d/f", "")
    ran = base.with_directory("/x", source, owner="nobody:nogroup").with_exec(
        ["stat", "-c", "%U:%G", "/x/d/f"]
    )
    assert await ran.stdout() == "nobody:nogroup\n"


async def test_exists_looks_at_the_type(dag):
    tree = dag.directory().with_new_file("d/f", "")
    assert await tree.exists("d/f")
    assert await tree.exists("d", expected_type=dagger.ExistsType.DIRECTORY_TYPE)
    assert not await tree.exists("d", expected_type=dagger.ExistsType.REGULAR_TYPE)
    assert not await tree.exists("none")


async def test_a_mounted_directory_is_written_along_the_chain_but_not_to_the_root(base, dag):
    source = dag.directory().with_new_file("f", "1")
    ran = base.with_mounted_directory("/m", source).with_exec(["sh", "-c", "echo 2 >> /m/f"])
    ran = ran.with_exec(["sh", "-c", "echo 3 >> /m/f"])
    assert await ran.directory("/m").file("f").contents() == "12\n3\n"
    assert await source.file("f").contents() == "1"
    unmounted = ran.without_mount("/m")
    assert not await unmounted.exists("/m/f")


async def test_a_copied_directory_is_in_the_root(base, dag):
    source = dag.directory().with_new_file("f", "1")
    assert await base.with_directory("/m", source).rootfs().file("m/f").contents() == "1"


async def test_a_mounted_file_is_there_and_can_be_changed(base, dag):
    file = dag.directory().with_new_file("f", "1").file("f")
    ran = base.with_mounted_file("/etc/mine", file).with_exec(["sh", "-c", "echo 2 >> /etc/mine"])
    assert await ran.file("/etc/mine").contents() == "12\n"


async def test_mounts_are_listed_and_removed(dag):
    container = (
        dag.container().with_mounted_temp("/a").with_mounted_directory("/b", dag.directory())
    )
    assert await container.mounts() == ["/a", "/b"]
    assert await container.without_mount("/a").mounts() == ["/b"]


async def test_a_tmpfs_is_empty_in_every_exec_and_cannot_be_read(base):
    container = base.with_mounted_temp("/t").with_exec(["touch", "/t/f"])
    assert await container.with_exec(["ls", "/t"]).stdout() == ""
    with pytest.raises(dagger.QueryError, match="cannot retrieve path from tmpfs"):
        await container.directory("/t").entries()


async def test_a_folder_of_the_host_is_imported_and_filtered(dag, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f.txt").write_text("f")
    (tmp_path / "skip.log").write_text("")
    tree = dag.host().directory(str(tmp_path), exclude=["*.log"])
    assert [name.rstrip("/") for name in await tree.entries()] == ["a"]
    assert await tree.file("a/f.txt").contents() == "f"
    assert await dag.host().file(str(tmp_path / "a" / "f.txt")).contents() == "f"


async def test_a_directory_is_exported_to_the_host(dag, tmp_path):
    tree = dag.directory().with_new_file("d/f", "1").with_new_file("x", "2", permissions=0o755)
    await tree.export(str(tmp_path / "out"))
    assert (tmp_path / "out" / "d" / "f").read_text() == "1"
    assert (tmp_path / "out" / "x").stat().st_mode & 0o777 == 0o755


async def test_export_adds_to_a_folder_and_wipes_it_when_asked(dag, tmp_path):
    (tmp_path / "old").write_text("")
    tree = dag.directory().with_new_file("new", "")
    await tree.export(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]
    await tree.export(str(tmp_path), wipe=True)
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


async def test_a_file_is_exported_under_the_name_that_was_given(dag, tmp_path):
    file = dag.directory().with_new_file("f", "1").file("f")
    await file.export(str(tmp_path / "g"))
    assert (tmp_path / "g").read_text() == "1"
    await file.export(str(tmp_path), allow_parent_dir_path=True)
    assert (tmp_path / "f").read_text() == "1"


async def test_a_directory_of_a_container_goes_into_another(base, dag):
    made = base.with_exec(["sh", "-c", "mkdir /o && echo built > /o/f"]).directory("/o")
    assert await base.with_directory("/in", made).with_exec(["cat", "/in/f"]).stdout() == "built\n"
