"""Changeset, patches, search, owners and times of trees; plain values: EnvFile, JSON, Error."""

from __future__ import annotations

import json

import dagger
import pytest

PATCH = """\
diff --git a/greeting.txt b/greeting.txt
--- a/greeting.txt
+++ b/greeting.txt
@@ -1,2 +1,2 @@
 one
-two
+deux
diff --git a/new/file.txt b/new/file.txt
new file mode 100644
--- /dev/null
+++ b/new/file.txt
@@ -0,0 +1 @@
+made
"""


@pytest.fixture
def older(dag) -> dagger.Directory:
    tree: dagger.Directory = (
        dag.directory()
        .with_new_file("kept.txt", "kept\n")
        .with_new_file("changed.txt", "one\ntwo\nthree\n")
        .with_new_file("gone.txt", "gone\n")
        .with_new_file("folder/inside.txt", "inside\n")
    )
    return tree


@pytest.fixture
def newer(older) -> dagger.Directory:
    tree: dagger.Directory = (
        older.without_file("gone.txt")
        .without_directory("folder")
        .with_new_file("changed.txt", "one\n2\nthree\n")
        .with_new_file("fresh/made.txt", "made\n")
    )
    return tree


async def test_changes_name_what_was_added_modified_and_removed(older, newer):
    changes = newer.changes(older)
    added = await changes.added_paths()
    assert [path for path in added if not path.endswith("/")] == ["fresh/made.txt"]
    assert await changes.modified_paths() == ["changed.txt"]
    assert sorted(await changes.removed_paths()) == ["folder/", "gone.txt"]


@pytest.mark.since("0.21.0")
async def test_a_directory_that_is_new_is_named_with_a_slash(older, newer):
    assert await newer.changes(older).added_paths() == ["fresh/", "fresh/made.txt"]


async def test_a_directory_has_no_changes_from_itself(older):
    changes = older.changes(older)
    assert await changes.is_empty()
    assert await changes.added_paths() == []
    assert await changes.modified_paths() == []
    assert await changes.removed_paths() == []


async def test_changes_of_files_are_not_empty(older, newer):
    assert not await newer.changes(older).is_empty()


async def test_changes_know_both_directories(older, newer):
    changes = newer.changes(older)
    assert await changes.before().file("gone.txt").contents() == "gone\n"
    assert await changes.after().file("fresh/made.txt").contents() == "made\n"


async def test_the_layer_of_changes_holds_new_and_modified_files_only(older, newer):
    layer = newer.changes(older).layer()
    files = [path for path in await layer.glob("**") if not path.endswith("/")]
    assert sorted(files) == ["changed.txt", "fresh/made.txt"]


async def test_changes_can_be_done_to_another_directory(dag, older, newer):
    other = older.with_new_file("other.txt", "other\n")
    result = other.with_changes(newer.changes(older))
    files = [path for path in await result.glob("**") if not path.endswith("/")]
    assert sorted(files) == ["changed.txt", "fresh/made.txt", "kept.txt", "other.txt"]
    assert await result.file("changed.txt").contents() == "one\n2\nthree\n"


async def test_changes_as_a_patch_make_the_newer_directory_of_the_older(older, newer):
    patch = newer.changes(older).as_patch()
    text = await patch.contents()
    assert "-two\n+2\n" in text
    result = older.with_patch_file(patch)
    assert await result.file("changed.txt").contents() == "one\n2\nthree\n"
    assert await result.file("fresh/made.txt").contents() == "made\n"
    assert not await result.exists("gone.txt")


async def test_changes_are_exported_removals_too(older, newer, tmp_path):
    await older.export(str(tmp_path))
    (tmp_path / "mine.txt").write_text("mine")
    await newer.changes(older).export(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "changed.txt",
        "fresh",
        "kept.txt",
        "mine.txt",
    ]


async def test_the_empty_changeset_changes_nothing(dag, older):
    assert await dag.changeset().is_empty()
    same = older.with_changes(dag.changeset())
    assert await same.file("kept.txt").contents() == "kept\n"


async def test_changes_to_different_files_are_merged(older):
    one = older.with_new_file("one.txt", "1").changes(older)
    two = older.without_file("gone.txt").changes(older)
    merged = one.with_changeset(two)
    assert await merged.added_paths() == ["one.txt"]
    assert await merged.removed_paths() == ["gone.txt"]


async def test_changes_of_one_file_to_different_contents_are_a_conflict(older):
    one = older.with_new_file("changed.txt", "1\n").changes(older)
    two = older.with_new_file("changed.txt", "2\n").changes(older)
    with pytest.raises(dagger.QueryError):
        await one.with_changeset(
            two, on_conflict=dagger.ChangesetMergeConflict.FAIL_EARLY
        ).is_empty()


async def merged(older, one: str, two: str, how: dagger.ChangesetMergeConflict) -> str:
    """What becomes of a file that two changesets change."""
    ours = older.with_new_file("changed.txt", one).changes(older)
    theirs = older.with_new_file("changed.txt", two).changes(older)
    both = ours.with_changeset(theirs, on_conflict=how)
    text: str = await both.after().file("changed.txt").contents()
    return text


async def test_changes_to_different_lines_are_merged(dag):
    lines = [f"line {number}\n" for number in range(12)]
    older = dag.directory().with_new_file("changed.txt", "".join(lines))
    one, two = ["first\n", *lines[1:]], [*lines[:-1], "last\n"]
    text = await merged(older, "".join(one), "".join(two), dagger.ChangesetMergeConflict.FAIL)
    assert text == "".join(["first\n", *lines[1:-1], "last\n"])


async def test_changes_to_the_same_line_are_a_conflict(older):
    with pytest.raises(dagger.QueryError):
        await merged(older, "1\n", "2\n", dagger.ChangesetMergeConflict.FAIL)


async def test_a_conflict_can_be_settled_for_one_side(older):
    prefer = dagger.ChangesetMergeConflict
    assert await merged(older, "1\n", "2\n", prefer.PREFER_OURS) == "1\n"
    assert await merged(older, "1\n", "2\n", prefer.PREFER_THEIRS) == "2\n"


async def test_a_conflict_can_be_left_in_the_text(older):
    how = dagger.ChangesetMergeConflict.LEAVE_CONFLICT_MARKERS
    text = await merged(older, "1\n", "2\n", how)
    assert [line[:7] for line in text.splitlines()] == ["<<<<<<<", "1", "=======", "2", ">>>>>>>"]


async def test_a_file_that_one_removed_and_one_changed_is_settled_too(older):
    ours = older.without_file("changed.txt").changes(older)
    theirs = older.with_new_file("changed.txt", "2\n").changes(older)
    how = dagger.ChangesetMergeConflict
    kept = ours.with_changeset(theirs, on_conflict=how.PREFER_THEIRS).after()
    assert await kept.file("changed.txt").contents() == "2\n"
    gone = ours.with_changeset(theirs, on_conflict=how.PREFER_OURS).after()
    assert not await gone.exists("changed.txt")


@pytest.mark.since("0.21.0")
async def test_changes_count_lines(older, newer):
    stats = {await s.path(): s for s in await newer.changes(older).diff_stats()}
    changed = stats["changed.txt"]
    assert (await changed.added_lines(), await changed.removed_lines()) == (1, 1)
    assert await changed.kind() == dagger.DiffStatKind.MODIFIED


# -- patches -------------------------------------------------------------------------------------


async def test_a_patch_changes_and_makes_files(dag):
    tree = dag.directory().with_new_file("greeting.txt", "one\ntwo\n").with_patch(PATCH)
    assert await tree.file("greeting.txt").contents() == "one\ndeux\n"
    assert await tree.file("new/file.txt").contents() == "made\n"


async def test_a_patch_that_does_not_fit_is_an_error(dag):
    tree = dag.directory().with_new_file("greeting.txt", "else\n")
    with pytest.raises(dagger.QueryError):
        await tree.with_patch(PATCH).sync()


async def test_a_patch_cannot_leave_the_directory(dag):
    outside = PATCH.replace("new/file.txt", "../file.txt")
    tree = dag.directory().with_new_file("greeting.txt", "one\ntwo\n")
    with pytest.raises(dagger.QueryError):
        await tree.with_patch(outside).sync()


# -- search --------------------------------------------------------------------------------------


@pytest.fixture
def library(dag) -> dagger.Directory:
    tree: dagger.Directory = (
        dag.directory()
        .with_new_file("a.py", "import os\nprint(os.name)\nprint('Print')\n")
        .with_new_file("sub/b.py", "print(1)\n")
        .with_new_file("sub/c.txt", "print me\n")
        .with_new_file(".hidden", "print\n")
    )
    return tree


async def found(results: list[dagger.SearchResult]) -> list[tuple[str, int]]:
    return sorted([(await r.file_path(), await r.line_number()) for r in results])


async def test_search_finds_lines_in_all_files(library):
    results = await library.search(r"print\(")
    assert await found(results) == [("a.py", 2), ("a.py", 3), ("sub/b.py", 1)]


async def test_search_tells_what_matched_and_where(library):
    (result,) = await library.search("os.name")
    assert await result.matched_lines() == "print(os.name)\n"
    assert await result.absolute_offset() == len("import os\n")
    (sub,) = await result.submatches()
    assert (await sub.text(), await sub.start(), await sub.end()) == ("os.name", 6, 13)


async def test_a_literal_search_takes_the_pattern_as_it_is(library):
    assert await found(await library.search("print(1)", literal=True)) == [("sub/b.py", 1)]
    assert await library.search("print(1)") == []


async def test_search_can_be_insensitive(library):
    results = await library.search("^PRINT", insensitive=True, globs=["*.txt"])
    assert await found(results) == [("sub/c.txt", 1)]


async def test_search_keeps_to_paths_and_globs(library):
    assert await found(await library.search("print", globs=["*.py"], paths=["sub"])) == [
        ("sub/b.py", 1)
    ]


async def test_search_takes_hidden_files_unless_told_not_to(library):
    assert (".hidden", 1) in await found(await library.search("print"))
    assert (".hidden", 1) not in await found(await library.search("print", skip_hidden=True))


async def test_search_can_skip_what_git_ignores(dag):
    tree = (
        dag.directory()
        .with_new_file(".gitignore", "*.log\n")
        .with_new_file("a.log", "needle\n")
        .with_new_file("a.txt", "needle\n")
        .with_new_directory(".git")
    )
    assert len(await tree.search("needle")) == 2
    assert await found(await tree.search("needle", skip_ignored=True)) == [("a.txt", 1)]


async def test_search_can_name_files_only(library):
    results = await library.search("print", files_only=True, globs=["*.py"])
    assert sorted([await r.file_path() for r in results]) == ["a.py", "sub/b.py"]


async def test_search_stops_at_the_limit(library):
    assert len(await library.search("print", limit=2)) == 2


async def test_search_across_lines(dag):
    tree = dag.directory().with_new_file("f", "start\nmiddle\nend\nrest\n")
    assert await tree.search("start.*end", dotall=True) == []
    (result,) = await tree.search("start.*end", multiline=True, dotall=True)
    assert await result.matched_lines() == "start\nmiddle\nend\n"
    assert await result.line_number() == 1


async def test_a_file_is_searched(dag):
    file = dag.directory().with_new_file("d/f.txt", "one\ntwo\n").file("d/f.txt")
    (result,) = await file.search("two")
    assert await result.line_number() == 2


async def test_a_wrong_expression_is_an_error(library):
    with pytest.raises(dagger.QueryError):
        await library.search("(")


# -- owners and times ----------------------------------------------------------------------------


async def test_times_are_set_on_all_of_a_directory(dag, base):
    tree = dag.directory().with_new_file("d/f", "x").with_timestamps(1_000_000_000)
    mounted = base.with_mounted_directory("/t", tree)
    shown = mounted.with_exec(["stat", "-c", "%Y", "/t/d", "/t/d/f"])
    assert (await shown.stdout()).split() == ["1000000000", "1000000000"]


async def test_the_time_of_a_file_is_set(dag, base):
    file = dag.directory().with_new_file("f", "x").file("f").with_timestamps(1_000_000_000)
    shown = base.with_mounted_file("/f", file).with_exec(["stat", "-c", "%Y", "/f"])
    assert (await shown.stdout()).strip() == "1000000000"


@pytest.mark.usefixtures("_owners")
async def test_a_directory_and_all_in_it_can_be_given_away(dag, base):
    tree = dag.directory().with_new_file("d/e/f", "x").with_new_file("g", "y").chown("d", "1234:5")
    shown = base.with_directory("/t", tree).with_exec(
        ["stat", "-c", "%u:%g", "/t/d", "/t/d/e", "/t/d/e/f", "/t/g"]
    )
    assert (await shown.stdout()).split() == ["1234:5", "1234:5", "1234:5", "0:0"]


@pytest.mark.usefixtures("_owners")
async def test_a_file_can_be_given_away(dag, base):
    file = dag.directory().with_new_file("f", "x").file("f").chown("1234")
    shown = base.with_file("/f", file).with_exec(["stat", "-c", "%u:%g", "/f"])
    assert (await shown.stdout()).strip() == "1234:1234"


# -- plain values --------------------------------------------------------------------------------


async def test_an_env_file_keeps_its_variables(dag):
    file = dag.env_file().with_variable("A", "1").with_variable("B", "2").without_variable("A")
    assert not await file.exists("A")
    assert await file.get("B") == "2"
    assert [(await v.name(), await v.value()) for v in await file.variables()] == [("B", "2")]
    assert await file.as_file().contents() == "B=2\n"


async def test_an_env_file_is_read_from_a_file(dag):
    text = "NAME=world\nGREETING=hello ${NAME}\n"
    file = dag.directory().with_new_file(".env", text).file(".env").as_env_file(expand=True)
    assert await file.get("NAME") == "world"
    assert await file.get("GREETING") == "hello world"


async def test_a_container_takes_the_variables_of_an_env_file(dag, base):
    file = dag.env_file().with_variable("A", "1").with_variable("B", "2")
    shown = base.with_env_file_variables(file).with_exec(["sh", "-c", "echo $A$B"])
    assert await shown.stdout() == "12\n"


async def test_json_values_are_made_and_read(dag):
    value = dag.json().with_contents(dagger.JSON(json.dumps({"a": {"b": [1, 2]}, "s": "text"})))
    assert sorted(await value.fields()) == ["a", "s"]
    assert await value.field(["s"]).as_string() == "text"
    numbers = await value.field(["a", "b"]).as_array()
    assert [await number.as_integer() for number in numbers] == [1, 2]
    changed = value.with_field(["a", "c"], dag.json().new_boolean(value=True))
    assert json.loads(await changed.field(["a"]).contents()) == {"b": [1, 2], "c": True}


async def test_a_file_is_read_as_json(dag):
    file = dag.directory().with_new_file("f.json", '{"version": 3}').file("f.json")
    assert await file.as_json().field(["version"]).as_integer() == 3


async def test_a_field_that_is_not_there_is_an_error(dag):
    with pytest.raises(dagger.QueryError):
        await dag.json().with_contents(dagger.JSON("{}")).field(["none"]).contents()


async def test_errors_are_values(dag):
    error = dag.error("it broke").with_value("code", dagger.JSON("7"))
    assert await error.message() == "it broke"
    (value,) = await error.values()
    assert (await value.name(), await value.value()) == ("code", "7")
