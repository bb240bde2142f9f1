"""Directory and File: making, selecting, comparing and naming what they hold."""

from __future__ import annotations

import dagger
import pytest


def tree(dag: dagger.Client, *paths: str) -> dagger.Directory:
    """A directory with empty files at the paths."""
    directory = dag.directory()
    for path in paths:
        directory = directory.with_new_file(path, "")
    return directory


async def plain(directory: dagger.Directory, pattern: str = "**") -> list[str]:
    """What a glob finds, in order, whether directories end in a slash or not."""
    return sorted(path.rstrip("/") for path in await directory.glob(pattern))


async def test_a_new_directory_is_empty(dag):
    assert await dag.directory().entries() == []


async def test_a_made_directory_is_there_with_its_parents(dag):
    made = dag.directory().with_new_directory("a/b")
    assert await plain(made) == ["a", "a/b"]
    assert await made.directory("a/b").entries() == []


async def test_a_made_directory_has_the_permissions_that_were_asked_for(base, dag):
    made = dag.directory().with_new_directory("d", permissions=0o710)
    ran = base.with_directory("/x", made).with_exec(["stat", "-c", "%a", "/x/d"])
    assert await ran.stdout() == "710\n"


async def test_paths_are_cleaned(dag):
    made = tree(dag, "./a//b/../c")
    assert await plain(made) == ["a", "a/c"]
    assert await made.file("/a/./c").size() == 0


async def test_a_path_cannot_leave_the_directory(dag):
    made = dag.directory().with_new_file("f", "inside")
    with pytest.raises(dagger.QueryError):
        await made.file("../../../../etc/passwd").contents()


async def test_a_file_is_no_directory_and_a_directory_is_no_file(dag):
    made = tree(dag, "d/f")
    with pytest.raises(dagger.QueryError):
        await made.file("d").contents()
    with pytest.raises(dagger.QueryError):
        await made.directory("d/f").entries()


async def test_a_file_is_put_under_another_name(dag):
    made = dag.directory().with_file("d/other", dag.file("name", "1"))
    assert await made.file("d/other").contents() == "1"


async def test_several_files_are_put_under_their_names(dag):
    made = dag.directory().with_files("d", [dag.file("a", "1"), dag.file("b", "2")])
    assert await made.entries(path="d") == ["a", "b"]


async def test_several_files_are_removed(dag):
    assert await plain(tree(dag, "a", "b", "c").without_files(["a", "c"])) == ["b"]


async def test_a_directory_is_put_into_another(dag):
    made = tree(dag, "top").with_directory("in/here", tree(dag, "f"))
    assert await plain(made) == ["in", "in/here", "in/here/f", "top"]


async def test_include_of_a_directory_takes_all_of_it(dag):
    source = tree(dag, "d/a", "d/sub/b", "e/c")
    chosen = dag.directory().with_directory("/", source, include=["d"])
    assert await plain(chosen) == ["d", "d/a", "d/sub", "d/sub/b"]


async def test_an_excluded_path_may_be_taken_back(dag):
    source = tree(dag, "a.log", "keep.log", "b.txt")
    chosen = dag.directory().with_directory("/", source, exclude=["*.log", "!keep.log"])
    assert await plain(chosen) == ["b.txt", "keep.log"]


async def test_two_stars_match_at_every_depth(dag):
    source = tree(dag, "node_modules/a", "x/node_modules/b", "x/y/node_modules/c", "x/y/f")
    chosen = source.filter(exclude=["**/node_modules"])
    assert await plain(chosen) == ["x", "x/y", "x/y/f"]


async def test_one_star_matches_within_a_name(dag):
    source = tree(dag, "a.py", "d/b.py")
    assert await plain(source.filter(include=["*.py"])) == ["a.py"]


async def test_a_filter_may_include_and_exclude(dag):
    source = tree(dag, "a.py", "a_test.py", "b.txt")
    assert await plain(source.filter(include=["*.py"], exclude=["*_test.py"])) == ["a.py"]


async def test_a_filter_that_matches_nothing_leaves_nothing(dag):
    assert await tree(dag, "a", "b").filter(include=["none"]).entries() == []


async def test_a_filter_heeds_gitignore_when_asked(dag):
    source = tree(dag, "a.log", "b").with_new_file(".gitignore", "*.log\n")
    assert await plain(source.filter(gitignore=True)) == [".gitignore", "b"]


async def test_glob_finds_by_name_within_folders(dag):
    source = tree(dag, "a.py", "d/b.py", "d/c.txt", "d/e/f.py")
    assert await plain(source, "d/*") == ["d/b.py", "d/c.txt", "d/e"]
    assert await plain(source, "**/*.py") == ["a.py", "d/b.py", "d/e/f.py"]
    assert await plain(source, "*.none") == []


async def test_glob_matches_one_of_several_characters(dag):
    source = tree(dag, "a1", "a2", "b1", "ab")
    assert await plain(source, "a[0-9]") == ["a1", "a2"]
    assert await plain(source, "?1") == ["a1", "b1"]


async def test_a_directory_does_not_differ_from_itself(dag):
    source = tree(dag, "a", "d/b")
    assert await source.diff(source).entries() == []


async def test_a_difference_has_the_folders_that_lead_to_it(dag):
    lower = tree(dag, "a/same")
    upper = lower.with_new_file("a/b/new", "1")
    assert await plain(lower.diff(upper), "**/new") == ["a/b/new"]
    assert await lower.diff(upper).exists("a/same") is False


async def test_what_an_exec_made_is_found_by_a_difference(base):
    ran = base.with_exec(["sh", "-c", "mkdir /made; echo 1 > /made/x"])
    found = await base.rootfs().diff(ran.rootfs()).glob("made/**")
    assert "made/x" in [path.rstrip("/") for path in found]


async def test_a_files_digest_follows_its_content(dag):
    one, same, other = dag.file("f", "1"), dag.file("f", "1"), dag.file("f", "2")
    assert await one.digest() == await same.digest()
    assert await one.digest() != await other.digest()


async def test_a_files_digest_can_leave_its_mode_out(dag):
    one = dag.directory().with_new_file("f", "1", permissions=0o600).file("f")
    other = dag.directory().with_new_file("f", "1", permissions=0o755).file("f")
    assert await one.digest(exclude_metadata=True) == await other.digest(exclude_metadata=True)


async def test_a_file_is_made_alone(dag):
    file = dag.file("name.txt", "text\n", permissions=0o600)
    assert (await file.name(), await file.contents(), await file.size()) == (
        "name.txt",
        "text\n",
        5,
    )


async def test_a_size_is_in_bytes(dag):
    assert await dag.file("f", "é✓").size() == 5


async def test_some_lines_of_a_file_are_read(dag):
    file = dag.file("f", "1\n2\n3\n4\n")
    assert (await file.contents(offset_lines=1, limit_lines=2)).splitlines() == ["2", "3"]
    assert (await file.contents(limit_lines=1)).splitlines() == ["1"]


async def test_text_is_replaced_in_a_file(dag):
    file = dag.file("f", "one two\none\n")
    assert await file.with_replaced("two", "2").contents() == "one 2\none\n"
    assert await file.with_replaced("one", "1", all=True).contents() == "1 two\n1\n"


async def test_a_replacement_without_a_match_or_with_several_is_an_error(dag):
    file = dag.file("f", "one two\none\n")
    with pytest.raises(dagger.QueryError):
        await file.with_replaced("three", "3").contents()
    with pytest.raises(dagger.QueryError):
        await file.with_replaced("one", "1").contents()


async def test_a_renamed_file_is_put_under_its_new_name(dag):
    file = dag.file("old", "1").with_name("new")
    assert await dag.directory().with_files("/", [file]).entries() == ["new"]


async def test_a_link_is_made_and_followed(dag):
    made = dag.directory().with_new_file("d/f", "1").with_symlink("d/f", "link")
    assert await made.file("link").contents() == "1"
    assert await made.exists("link", do_not_follow_symlinks=True)


async def test_a_tree_with_many_files_is_whole(dag):
    made = tree(dag, *(f"d{number % 7}/f{number}" for number in range(70)))
    assert len(await made.glob("*/f*")) == 70


async def test_names_may_have_spaces_and_other_letters(base, dag):
    made = dag.directory().with_new_file("a b/é ✓.txt", "1")
    assert await made.directory("a b").entries() == ["é ✓.txt"]
    ran = base.with_directory("/x", made).with_exec(["cat", "/x/a b/é ✓.txt"])
    assert await ran.stdout() == "1"


async def test_exports_give_their_path(dag, tmp_path):
    made = dag.directory().with_new_file("f", "1")
    assert await made.export(str(tmp_path / "d")) == str(tmp_path / "d")
    assert await made.file("f").export(str(tmp_path / "g")) == str(tmp_path / "g")


async def test_an_exported_file_replaces_an_old_one(dag, tmp_path):
    (tmp_path / "f").write_text("much longer old text")
    await dag.file("f", "new").export(str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == "new"


async def test_links_and_modes_are_exported(dag, tmp_path):
    made = dag.directory().with_new_file("f", "1", permissions=0o750).with_symlink("f", "link")
    await made.export(str(tmp_path))
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "link").readlink().name == "f"
